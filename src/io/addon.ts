/**
 * The native addon, typed once: everything that Node cannot ask of the kernel itself.
 *
 * Conventions. A call that fails on the way of a byte returns a **negative errno** (no exception is made per packet);
 * a call that opens a device throws a `SystemError`-shaped error. Memory arguments are byte offsets into the
 * ArrayBuffer given to `Io` (the linear memory of lwIP); all table fields are little-endian u32.
 *
 * An *iovec* is `{offset, length}` (8 bytes). A *slot* is `{offset, length}` (8 bytes): a landing place, whose length
 * the addon fills in.
 */
import { createRequire } from 'node:module'

export interface TunOpenOptions {
  /** Interface name, 1 to 15 characters; ignored when `fd` is given. */
  readonly name?: string
  /** An already opened descriptor of /dev/net/tun, attached to a device. The addon works on a duplicate. */
  readonly fd?: number
  /** Ask for IFF_VNET_HDR with checksum and TCP segmentation offload; falls back to plain mode without a word. */
  readonly offload: boolean
  /** Open (or attach to) the device with IFF_MULTI_QUEUE. An existing multi-queue device is attached with it anyway. */
  readonly multiQueue: boolean
  /** Open the device inside the network (and user) namespace of this process. */
  readonly pid?: number
}

export interface TunInfo {
  readonly fd: number
  readonly name: string
  /** 12-byte virtio_net_hdr before each packet, in both directions. */
  readonly vnetHdr: boolean
  /** UDP super-packets travel both ways as well (VIRTIO_NET_HDR_GSO_UDP_L4, Linux 6.2 and later). */
  readonly uso: boolean
  /** The device did not exist before, so it goes away with the descriptor. */
  readonly created: boolean
  /** Queues attached to a multi-queue device when this one was opened, by whomever, this one included; 0: it has a single one. */
  readonly queues: number
  /** The device's MTU in bytes when opened; 0 when `fd` was given and its device is not in the namespace looked at. */
  readonly mtu: number
}

/** Bits of `ready` events, the kernel's EPOLL values. */
export const READABLE = 0x001
export const WRITABLE = 0x004
export const ERROR = 0x008
export const HANGUP = 0x010
export const READ_HANGUP = 0x2000

/**
 * An open Io keeps the event loop, and itself, alive until `close`. After that every call answers -EBADF.
 * A table or a place outside of the memory, or a table not aligned to 4 bytes, is -EFAULT.
 */
export interface Io {
  /**
   * Registers `fd` with the epoll of this object. `edge`: report each change once (sockets); otherwise as long as the
   * state lasts (tun). Returns 0 or a negative errno. Sockets are watched for reading, writing and hang-up at once,
   * a tun for reading only. A descriptor watched already: -EEXIST. Closing a descriptor unwatches it; rows of the same
   * batch may still carry its token.
   */
  watch(fd: number, token: number, edge: boolean): number
  unwatch(fd: number): number

  /**
   * Reads up to `count` packets, one read() each, into the slots of the table at `slots`, until the device is empty or
   * 1 MiB has come.
   * `slotBytes` is the room of each; what is longer is cut by the kernel without a word, so give room for the MTU (and,
   * with vnetHdr, for 12 + 65535). Returns how many, or a negative errno when not even one could be read (-EAGAIN).
   */
  readPackets(fd: number, slots: number, count: number, slotBytes: number): number
  /**
   * Writes `count` packets, one writev() each. The table at `packets` has 12-byte rows {first iovec index, number of
   * iovecs, unused} into the iovec table at `iovecs`. A packet that the kernel refuses is skipped. Returns how many were
   * taken, or at once a negative errno when the device itself is gone: EIO (the link is down), EBADFD (deleted), EBADF,
   * ENODEV; also -EINVAL for a packet of more than 1024 iovecs.
   */
  writePackets(fd: number, packets: number, iovecs: number, count: number): number

  /** One readv() of up to 1024 iovecs. Bytes read, 0 at end of stream, or a negative errno (-EAGAIN: nothing now). */
  readv(fd: number, iovecs: number, count: number): number
  /** One sendmsg(MSG_NOSIGNAL) of up to 1024 iovecs. Bytes taken, or a negative errno. */
  writev(fd: number, iovecs: number, count: number): number

  /**
   * One recvmmsg() into the places of the table at `slots` (64 of them at most, `slotBytes` each). What the kernel has
   * merged (UDP_GRO) is told apart: `found` is a table of `{offset, length}` with room for 64 rows a slot, one row a
   * datagram. Returns how many rows, or a negative errno. A datagram longer than `slotBytes` has length 0xffffffff.
   */
  recvDatagrams(fd: number, slots: number, count: number, slotBytes: number, found: number): number
  /**
   * sendmmsg() of `count` datagrams, tables as in writePackets; neighbours of one size leave as one message that the
   * kernel cuts (UDP_SEGMENT), where it can; a size that a path has refused is sent one by one for a time. How many were taken, or the negative errno of the first.
   */
  sendDatagrams(fd: number, datagrams: number, iovecs: number, count: number): number

  /**
   * As recvDatagrams, for a socket of openUdp: one row a slot, of a datagram with the header of RFC 1928 §7 in front that
   * names its source. The row's offset is not that of its slot; 22 bytes of a slot are for the header.
   */
  recvDatagramsFrom(fd: number, slots: number, count: number, slotBytes: number, found: number): number
  /**
   * As sendDatagrams, for a socket of openUdp: the first iovec of each datagram begins with such a header, which names its
   * destination and is not sent. -EINVAL: it does not, or names a name.
   */
  sendDatagramsTo(fd: number, datagrams: number, iovecs: number, count: number): number

  /**
   * Gives the whole pages inside these iovecs back to the kernel (MADV_DONTNEED): they read as zeros afterwards. 0 or a
   * negative errno.
   */
  discard(iovecs: number, count: number): number

  /** Idempotent: closes the epoll and lets go of the memory. Descriptors stay with their owners. */
  close(): void
}

export interface Addon {
  /**
   * `memory`: the linear memory, never grown. `ready`: an Int32Array that receives `[token, events, …]` before each call
   * of `onReady(count)`; at most `ready.length / 2` rows, and 1024, a call. Microtasks run after each call; what it
   * throws is an 'uncaughtException'.
   */
  Io: new (
    memory: ArrayBuffer,
    ready: Int32Array,
    onReady: (count: number) => void,
  ) => Io

  /** Throws an Error with `code` (e.g. 'EPERM'), `errno` (positive), `syscall`, and advice in its message. */
  tunOpen(options: TunOpenOptions): TunInfo
  /**
   * Sets addresses (`198.18.0.1/15`, `fd00::1/64`; 32 at most), MTU, length of the queue to its reader, and link state of a
   * device in the caller's namespace (or that of `pid`). MTU 0, no queuePackets: left as they are. `up: false` takes the link
   * down. Throws as tunOpen.
   */
  linkConfigure(options: {
    name: string
    mtu: number
    addresses: readonly string[]
    up: boolean
    queuePackets?: number
    pid?: number
  }): void
  /** true when the device exists in the caller's namespace. */
  linkExists(name: string): boolean

  /**
   * A non-blocking TCP socket (TCP_NODELAY, SO_KEEPALIVE) on which connect() has been started: the descriptor, or a negative errno.
   * `mark`: SO_MARK, 0 for none. `device`: SO_BINDTODEVICE, '' for none.
   */
  connectTcp(address: Uint8Array, port: number, mark: number, device: string): number
  /** The same for a Unix stream socket; a leading NUL is the abstract namespace. connect() is done or refused at once (-EAGAIN: backlog full). */
  connectUnix(path: string): number
  /** A non-blocking connected UDP socket with large buffers. */
  connectUdp(address: Uint8Array, port: number, mark: number, device: string): number
  /** A non-blocking UDP socket with large buffers that hears everybody, of one family; 6: IPv6 alone. */
  openUdp(family: 4 | 6, mark: number, device: string): number
  /** Two non-blocking Unix streams, connected to each other: 0, with their descriptors in `ends` (two of them), or a negative errno. */
  socketPair(ends: Int32Array): number
  /** One read() into memory of the caller's. Bytes read, 0 at end of stream, or a negative errno. */
  readBytes(fd: number, bytes: Uint8Array): number
  /** One send(MSG_NOSIGNAL). Bytes taken, or a negative errno. */
  writeBytes(fd: number, bytes: Uint8Array): number
  /**
   * The socket's own port, 0 while it has none, or a negative errno.
   * @param address is filled in: of 4 or 16 bytes, as the socket's family has; of another size: -EINVAL
   */
  localEndpoint(fd: number, address: Uint8Array): number
  /** Takes SO_ERROR: 0 or a negative errno. */
  socketError(fd: number): number
  /** shutdown(SHUT_WR): 0 or a negative errno. */
  shutdownWrite(fd: number): number
  /** Closes a descriptor that this addon opened in this environment, any other is let be. `reset`: with SO_LINGER 0, so that TCP sends RST. */
  close(fd: number, reset: boolean): void
  /** Descriptors opened by this addon in this environment and not closed yet: for leak tests. */
  openDescriptors(): number
  /** strerror name of an errno, positive or negative: 'ECONNREFUSED'. */
  errnoName(errno: number): string
}

const file = new URL('../../../native/tungate.node', import.meta.url)

export const addon = createRequire(import.meta.url)(decodeURIComponent(file.pathname)) as Addon
