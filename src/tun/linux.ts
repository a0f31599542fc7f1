/** The Linux tun device (Documentation/networking/tuntap.rst) over the addon. */
import { SystemError } from '../errors.ts'
import { addon, type Io, type TunInfo, type TunOpenOptions } from '../io/addon.ts'
import type { Tun } from './tun.ts'

/** What a device is given when we make it; one that exists is taken as it is. */
export interface LinkOptions {
  readonly mtu: number
  /** `198.18.0.1/15`, `fd00::1/64`. */
  readonly addresses: readonly string[]
}

/**
 * Of a device that we make, instead of the kernel's 500: at 1 Gbit/s those are 6 ms of datagrams. A flood of 20,000 SYNs a second
 * waits 0.2 s for room, while the first of them are dialed.
 */
const QUEUE_PACKETS = 4_000

/**
 * Attaches to the device of that name, or makes it, with its addresses and its link up. Throws SystemError with advice;
 * then no device is left behind.
 */
export function openTun(options: TunOpenOptions, link: LinkOptions): TunInfo {
  const info = system(() => addon.tunOpen(options))
  if (!info.created) return info
  try {
    const pid = options.pid === undefined ? {} : { pid: options.pid }
    const { mtu, addresses } = link
    const configured = { name: info.name, mtu, addresses, up: true, queuePackets: QUEUE_PACKETS, ...pid }
    system(() => addon.linkConfigure(configured))
    return { ...info, mtu: link.mtu }
  } catch (error) {
    addon.close(info.fd, false)
    throw error
  }
}

function system<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    const { code, errno, syscall, message } = error as NodeJS.ErrnoException
    if (code === undefined || syscall === undefined) throw error
    throw new SystemError(code, message, syscall, errno ?? 0)
  }
}

/**
 * EINTR and EAGAIN: nothing now. EIO: the link is down. ENOMEM and ENOBUFS: the kernel is short of memory. Packets are lost, as
 * on any link.
 */
const PASSING = new Set([-4, -5, -11, -12, -105])

export class LinuxTun implements Tun {
  readonly name: string
  readonly mtu: number
  readonly vnetHdr: boolean
  readonly fd: number
  readonly #io: Io

  /** The descriptor stays with whoever opened it. */
  constructor(io: Io, info: TunInfo) {
    this.#io = io
    this.fd = info.fd
    this.name = info.name
    this.mtu = info.mtu
    this.vnetHdr = info.vnetHdr
  }

  read(slots: number, count: number, slotBytes: number): number {
    const got = this.#io.readPackets(this.fd, slots, count, slotBytes)
    return got >= 0 ? got : this.#failed('read', got)
  }

  write(packets: number, iovecs: number, count: number): number {
    const taken = this.#io.writePackets(this.fd, packets, iovecs, count)
    return taken >= 0 ? taken : this.#failed('write', taken)
  }

  #failed(syscall: string, errno: number): number {
    if (PASSING.has(errno)) return 0
    const name = addon.errnoName(errno)
    throw new SystemError('TUN_GONE', `${syscall} on ${this.name}: ${name}: the device was removed`, syscall, -errno)
  }
}
