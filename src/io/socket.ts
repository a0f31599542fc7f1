/**
 * A non-blocking socket that belongs to the addon's descriptors, watched by a poller. Unlike net.Socket it sees a reset
 * also while it is not read and after the peer's FIN, its data goes straight into and out of the stack's memory, and it
 * costs a fraction of its CPU.
 */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import { SystemError } from '../errors.ts'
import { addon } from './addon.ts'
import type { Poller, Watcher } from './poller.ts'

/** How the gateway's own sockets leave the machine. */
export interface Binding {
  /** SO_BINDTODEVICE; '' for none. */
  readonly interface: string
  /** SO_MARK; 0 for none. */
  readonly mark: number
}

const LOOPBACK = Uint8Array.of(127, 0, 0, 1)
const EMFILE = 24
/** RFC 863. */
const DISCARD_PORT = 9

/** socket(2), epoll_ctl(2): of the process, of the system, of the kernel's memory, of what a user may watch. */
const RESOURCES = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'ENOSPC'])

/** It is this machine that has no descriptor, or no memory for one, at the moment. */
export function lacksResources(error: unknown): boolean {
  return error instanceof SystemError && RESOURCES.has(error.code)
}

export class Socket {
  readonly fd: number
  readonly poller: Poller
  /** Set before the end of stream by who feeds the socket: it is none, something behind it broke. One line for a log. */
  fault: string | undefined
  /** For who feeds the socket: it was closed, by its owner. */
  onClose: ((reset: boolean) => void) | undefined
  readonly #token: number
  #open = true

  constructor(poller: Poller, fd: number, watcher: Watcher) {
    this.fd = fd
    this.poller = poller
    try {
      this.#token = poller.add(fd, watcher, true)
    } catch (error) {
      addon.close(fd, false)
      throw error
    }
  }

  /** Starts a TCP connect; throws SystemError when it fails at once. */
  static connectTcp(poller: Poller, to: IpEndpoint, binding: Binding, watcher: Watcher): Socket {
    if (poller.used >= poller.capacity) throw tooManyFiles()
    const fd = addon.connectTcp(to.address, to.port, binding.mark, binding.interface)
    return new Socket(poller, started(fd, 'connect', to), watcher)
  }

  /**
   * A connection to a Unix socket, which stands, or throws SystemError: EAGAIN when as many wait there as may, so that it
   * must be tried again. Unix sockets know no reset: who closes one in the middle has ended it in order.
   */
  static connectUnix(poller: Poller, path: string, watcher: Watcher): Socket {
    if (poller.used >= poller.capacity) throw tooManyFiles()
    return new Socket(poller, checked(addon.connectUnix(path), 'connect', path), watcher)
  }

  /** Two streams, connected to each other. */
  static pair(poller: Poller, left: Watcher, right: Watcher): [Socket, Socket] {
    if (poller.used + 2 > poller.capacity) throw tooManyFiles()
    const ends = new Int32Array(2)
    checked(addon.socketPair(ends), 'socketpair', 'socketpair')
    let first: Socket | undefined
    try {
      first = new Socket(poller, ends[0]!, left)
      return [first, new Socket(poller, ends[1]!, right)]
    } catch (error) {
      if (first === undefined) addon.close(ends[1]!, false)
      else first.close()
      throw error
    }
  }

  /** A UDP socket that hears everybody, of one family: see Io.recvDatagramsFrom and Io.sendDatagramsTo. */
  static openUdp(poller: Poller, family: 4 | 6, binding: Binding, watcher: Watcher): Socket {
    if (poller.used >= poller.capacity) throw tooManyFiles()
    const fd = addon.openUdp(family, binding.mark, binding.interface)
    return new Socket(poller, checked(fd, 'socket', `UDP over IPv${family}`), watcher)
  }

  /** A UDP socket that hears only `to`. */
  static connectUdp(poller: Poller, to: IpEndpoint, binding: Binding, watcher: Watcher): Socket {
    if (poller.used >= poller.capacity) throw tooManyFiles()
    const fd = addon.connectUdp(to.address, to.port, binding.mark, binding.interface)
    return new Socket(poller, started(fd, 'connect', to), watcher)
  }

  /** Throws SystemError when this process may not, or cannot, bind its sockets so. Nothing is sent. */
  static checkBinding(binding: Binding): void {
    const fd = addon.connectUdp(LOOPBACK, DISCARD_PORT, binding.mark, binding.interface)
    if (fd >= 0) return addon.close(fd, false)
    const name = addon.errnoName(fd)
    if (name === 'EPERM') {
      throw new SystemError(name, `bind.mark ${binding.mark} needs CAP_NET_ADMIN`, 'setsockopt(SO_MARK)', -fd)
    }
    if (name === 'ENODEV') {
      const message = `bind.interface: there is no interface ${binding.interface}`
      throw new SystemError(name, message, 'setsockopt(SO_BINDTODEVICE)', -fd)
    }
  }

  get open(): boolean {
    return this.#open
  }

  /** Hands the socket to another watcher. Edges that were reported stay with the old one: the new one must try first. */
  handOver(watcher: Watcher): void {
    this.poller.replace(this.#token, watcher)
  }

  /** The kernel's name of this end; undefined while it has none. A UDP socket that hears everybody has zeros for its address. */
  localEndpoint(family: 4 | 6): IpEndpoint | undefined {
    const address = new Uint8Array(family === 4 ? 4 : 16)
    const port = addon.localEndpoint(this.fd, address)
    return port > 0 ? { address, port } : undefined
  }

  /** SO_ERROR: 0 or a negative errno. */
  takeError(): number {
    return addon.socketError(this.fd)
  }

  /** FIN to the peer. */
  end(): number {
    return addon.shutdownWrite(this.fd)
  }

  /** Idempotent. */
  close(reset = false): void {
    if (!this.#open) return
    this.#open = false
    this.poller.remove(this.#token)
    addon.close(this.fd, reset)
    this.onClose?.(reset)
  }
}

function tooManyFiles(): SystemError {
  return new SystemError('EMFILE', 'too many open files', 'socket', EMFILE)
}

function started(fd: number, syscall: string, to: IpEndpoint): number {
  return fd >= 0 ? fd : checked(fd, syscall, formatEndpoint(to))
}

/** What the addon said, when it is no negative errno. */
function checked(result: number, syscall: string, what: string): number {
  if (result >= 0) return result
  const name = addon.errnoName(result)
  throw new SystemError(name, `${syscall} ${what}: ${name}`, syscall, -result)
}
