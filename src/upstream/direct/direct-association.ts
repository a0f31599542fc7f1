/**
 * Datagrams of one client endpoint without a proxy: from one port for each family, to whomever and from whomever (RFC 4787 §4.1
 * and §5). The addon reads and writes addresses as the header of RFC 1928 §7, so that they are told as by a proxy.
 */
import { networkInterfaces } from 'node:os'
import { formatAddress, type IpEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import { WRITABLE } from '../../io/addon.ts'
import type { Poller, Watcher } from '../../io/poller.ts'
import { type Binding, Socket } from '../../io/socket.ts'
import type { Arena, Associating, Association, AssociationListener, DatagramFields, DialError } from '../dialer.ts'
import { AddressType, addressFields, encodeUdpHeader, parseUdpHeader, type UdpFields } from '../socks5/socks5-codec.ts'

/** RFC 768 over IPv6 (RFC 8200), and the header, which is not sent. */
const MAX_BYTES = 65_527 + 22
/** Of a message, and of an iovec, in their tables (io/addon.ts). */
const MESSAGE_WORDS = 3
const IOVEC_WORDS = 2
/** Within the header. */
const ADDRESS_TYPE = 3

const fields: UdpFields = { ...addressFields(), fragment: 0 }

type Family = 4 | 6

export class DirectAssociation implements Associating, Association {
  readonly maxBytes = MAX_BYTES
  readonly #poller: Poller
  readonly #arena: Arena
  readonly #binding: Binding
  readonly #listener: AssociationListener
  readonly #onClose: () => void
  /** By family, made when it is needed. */
  readonly #ends = new Map<Family, End>()
  #to: Uint8Array | undefined
  #stands = false
  #closed = false

  /** @param onClose called once */
  constructor(poller: Poller, arena: Arena, binding: Binding, listener: AssociationListener, onClose: () => void) {
    this.#poller = poller
    this.#arena = arena
    this.#binding = binding
    this.#listener = listener
    this.#onClose = onClose
  }

  /**
   * Tells the listener, in a turn.
   * @param to all datagrams go to this address
   */
  open(to?: Uint8Array): void {
    if (this.#closed) return
    this.#to = to
    this.#stands = true
    this.#listener.onAssociated(this)
  }

  fail(error: DialError): void {
    if (this.#closed) return
    this.close()
    this.#listener.onAssociationFailed(error)
  }

  /** `client` is one of its sockets. */
  isOwn({ address, port }: IpEndpoint): boolean {
    const end = this.#ends.get(address.length === 4 ? 4 : 6)
    return end !== undefined && port !== 0 && end.port === port && isOfThisMachine(address)
  }

  writeHeader(at: number, addressAt: number, family: number, port: number): number {
    const { bytes } = this.#arena
    if (this.#to !== undefined) return encodeUdpHeader(bytes, at, this.#to, port)
    return encodeUdpHeader(bytes, at, bytes, port, addressAt, family === 4 ? 4 : 16)
  }

  /** Runs of one family. */
  send(messages: number, iovecs: number, count: number): number {
    let sent = 0
    while (sent < count) {
      const family = this.#familyOf(messages, iovecs, sent)
      let next = sent + 1
      while (next < count && this.#familyOf(messages, iovecs, next) === family) next++
      const taken = this.#sendRun(family, messages + 4 * MESSAGE_WORDS * sent, iovecs, next - sent)
      if (taken < 0) return sent > 0 ? sent : taken
      sent += taken
      if (sent < next) break
    }
    return sent
  }

  #familyOf(messages: number, iovecs: number, at: number): Family {
    const { words, bytes } = this.#arena
    const iovec = words[messages / 4 + MESSAGE_WORDS * at]!
    const header = words[iovecs / 4 + IOVEC_WORDS * iovec]!
    return bytes[header + ADDRESS_TYPE] === AddressType.ipv6 ? 6 : 4
  }

  #sendRun(family: Family, messages: number, iovecs: number, count: number): number {
    try {
      const { fd } = this.#endOf(family).socket
      return this.#poller.io.sendDatagramsTo(fd, messages, iovecs, count)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      return -error.errno
    }
  }

  /** Throws SystemError. */
  #endOf(family: Family): End {
    const known = this.#ends.get(family)
    if (known !== undefined) return known
    const end = new End(this.#poller, family, this.#binding, () => this.#onDatagrams())
    this.#ends.set(family, end)
    return end
  }

  #onDatagrams(): void {
    if (!this.#closed) this.#listener.onDatagrams()
  }

  /** Of one family at a time: when the other has some too, another onDatagrams follows. */
  receive(slots: number, count: number, slotBytes: number, found: number): number {
    for (const end of this.#ends.values()) {
      if (!end.isReadable) continue
      const rows = this.#poller.io.recvDatagramsFrom(end.socket.fd, slots, count, slotBytes, found)
      if (rows < count) end.isReadable = false
      if (rows <= 0) continue
      if (rows < count && this.#isReadable) this.#poller.later(() => this.#onDatagrams())
      return rows
    }
    return 0
  }

  get #isReadable(): boolean {
    for (const { isReadable } of this.#ends.values()) if (isReadable) return true
    return false
  }

  parseDatagram(at: number, length: number, out: DatagramFields): boolean {
    const header = parseUdpHeader(this.#arena.bytes, at, length, fields)
    if (header < 0) return false
    out.family = fields.addressType === AddressType.ipv4 ? 4 : 6
    out.sourceAt = fields.addressAt
    out.port = fields.port
    out.payloadAt = at + header
    out.payloadBytes = length - header
    return true
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { socket } of this.#ends.values()) socket.close()
    this.#onClose()
  }

  expire(): DialError {
    const message = this.#stands ? 'nobody waits for it' : 'the name is still being looked up'
    this.close()
    return { failure: 'timeout', message }
  }
}

/** A client elsewhere may have the same port. */
function isOfThisMachine(address: Uint8Array): boolean {
  const text = formatAddress(address)
  return Object.values(networkInterfaces()).some(list => list?.some(each => each.address === text))
}

class End implements Watcher {
  readonly socket: Socket
  /** Datagrams may have come. */
  isReadable = false
  readonly #onDatagrams: () => void
  readonly #family: Family
  #port = 0

  /** Throws SystemError. */
  constructor(poller: Poller, family: Family, binding: Binding, onDatagrams: () => void) {
    this.#onDatagrams = onDatagrams
    this.#family = family
    this.socket = Socket.openUdp(poller, family, binding, this)
  }

  /** 0 until something was sent. */
  get port(): number {
    if (this.#port === 0) this.#port = this.socket.localEndpoint(this.#family)?.port ?? 0
    return this.#port
  }

  onReady(events: number): void {
    // a datagram that has left makes room, which is an event, too
    if (events === WRITABLE) return
    this.isReadable = true
    this.#onDatagrams()
  }
}
