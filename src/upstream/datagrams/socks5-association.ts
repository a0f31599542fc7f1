/** UDP ASSOCIATE (RFC 1928 §4, §7): a relay for one client endpoint, as long as its control connection lives. */
import { lookup } from 'node:dns/promises'

import { type Destination, formatEndpoint, type IpEndpoint, parseAddress } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import { WRITABLE } from '../../io/addon.ts'
import type { Watcher } from '../../io/poller.ts'
import { lacksResources, type Socket } from '../../io/socket.ts'
import type { Arena, Association, AssociationListener, DatagramFields, DialError } from '../dialer.ts'
import type { Handshake } from '../proxy/handshake.ts'
import { Opening, type OpeningHost } from '../proxy/opening.ts'
import {
  AddressType,
  addressFields,
  Command,
  encodeUdpHeader,
  parseUdpHeader,
  type ReplyFields,
  type UdpFields,
} from '../socks5/socks5-codec.ts'
import type { Relays } from './relays.ts'
import type { OneWay } from './udp-climb.ts'
import type { UdpLadder } from './udp-ladder.ts'

/** RFC 768 over IPv4 (RFC 791) and over IPv6 (RFC 8200): bytes of the largest UDP payload. */
const MAX_UDP_PAYLOAD_IPV4 = 65_507
const MAX_UDP_PAYLOAD_IPV6 = 65_527

/** RFC 1928 §6: a client that does not know its address and port beforehand says zeros. */
const ANY_IPV4: IpEndpoint = { address: new Uint8Array(4), port: 0 }

/** A proxy behind a Unix socket is on this machine. */
const LOOPBACK = Uint8Array.of(127, 0, 0, 1)

/** A relay that was given less time for an answer is not called deaf: in a storm of clients associations are short. */
const DEAF_MS = 2_000

const NO_RELAY_ADDRESS: DialError = { failure: 'upstream-down', message: "the relay's name cannot be looked up" }

/** What an association needs of the dialer around it. */
export interface AssociationHost extends OpeningHost {
  readonly arena: Arena
  /** The relay of a live association is where the gateway's own datagrams go. */
  readonly relays: Pick<Relays, 'add' | 'remove'>
  readonly ladder: Pick<UdpLadder, 'heard' | 'deaf'>
  connectUdp(relay: IpEndpoint, watcher: Watcher): Socket
}

export class Socks5Association extends Opening implements OneWay, Association, Watcher {
  listener: AssociationListener
  readonly #dialer: AssociationHost
  /** Its address stands in for a relay address of zeros. */
  #proxy: IpEndpoint | undefined
  #control: Socket | undefined
  #closed = false
  #lookingUp = false
  #stoodAt = 0
  /** Datagrams have been sent to the relay; some have come from it. */
  protected said = false
  protected heard = false
  #relay: IpEndpoint | undefined
  /** The header of each datagram, but for the port. */
  protected readonly toName: Uint8Array | undefined
  readonly #fields: UdpFields = { ...addressFields(), fragment: 0 }
  /** Connected to the relay, so that it hears nobody else. */
  #socket: Socket | undefined
  maxBytes = MAX_UDP_PAYLOAD_IPV4

  /** @param name 1 to 255 bytes */
  constructor(dialer: AssociationHost, client: IpEndpoint, listener: AssociationListener, name?: string) {
    super(dialer, Command.udpAssociate, ANY_IPV4, client)
    this.#dialer = dialer
    this.listener = listener
    if (name !== undefined) this.toName = headerTo(new TextEncoder().encode(name))
  }

  protected override onOpened({ proxy, socket }: Handshake, fields: ReplyFields, _: unknown, readable: boolean): void {
    this.#proxy = proxy
    this.#control = socket
    socket.handOver({ onReady: () => this.#onControl() })
    this.useReply(fields)
    if (readable) this.#onControl()
  }

  /** The relay is where it says (an address in the arena, good during the call). */
  protected useReply(fields: ReplyFields): void {
    const { bytes } = this.#dialer.arena
    const address = bytes.slice(fields.addressAt, fields.addressAt + fields.addressLength)
    if (fields.addressType !== AddressType.name) {
      this.#relayAt(address, fields.port)
      return
    }
    const { port } = fields
    const { poller } = this.#dialer
    this.#lookingUp = true
    lookup(Buffer.from(address).toString('utf8')).then(
      found => poller.turn(() => this.#relayAt(parseAddress(found.address)!, port)),
      () => poller.turn(() => this.end(NO_RELAY_ADDRESS)),
    )
  }

  #relayAt(named: Uint8Array, port: number): void {
    if (this.#closed) return
    const proxy = this.#proxy?.address ?? LOOPBACK
    const kind = kindOf(named)
    // an address of every machine is none: the proxy means its own
    const isNone = kind === 'unspecified' || (kind === 'loopback' && kindOf(proxy) !== 'loopback')
    const relay = { address: isNone ? proxy : named, port }
    if (port === 0 || kind === 'group') return this.end(noRelay({ address: named, port }))
    this.maxBytes = relay.address.length === 4 ? MAX_UDP_PAYLOAD_IPV4 : MAX_UDP_PAYLOAD_IPV6
    this.#relay = relay
    this.#stoodAt = performance.now()
    this.#dialer.relays.add(relay)
    try {
      this.#socket = this.#dialer.connectUdp(relay, this)
    } catch (error) {
      const reason = error instanceof SystemError ? error.message : String(error)
      const failure = lacksResources(error) ? 'no-resources' : 'upstream-down'
      this.end({ failure, message: `the relay cannot be reached: ${reason}` })
      return
    }
    this.listener.onAssociated(this)
  }

  protected override onNotOpened(error: DialError): void {
    this.end(error)
  }

  /** RFC 1928 §6: the association ends with its control connection. Nothing else is said on it. */
  #onControl(): void {
    const { words, scratch, scratchBytes } = this.#dialer.arena
    const row = (scratch + scratchBytes - 16) / 4
    words[row] = scratch
    words[row + 1] = scratchBytes - 16
    const control = this.#control!
    while (!this.#closed) {
      const got = control.poller.io.readv(control.fd, row * 4, 1)
      if (got > 0) continue
      if (got < 0 && control.takeError() === 0 && !isFinal(got)) return
      this.end({ failure: 'upstream-down', message: 'the proxy ended the association' })
    }
  }

  onReady(events: number): void {
    // a datagram that has left makes room, which is an event, too
    if (events !== WRITABLE && !this.#closed) this.listener.onDatagrams()
  }

  send(messages: number, iovecs: number, count: number): number {
    this.said = true
    const { poller, fd } = this.#socket!
    return poller.io.sendDatagrams(fd, messages, iovecs, count)
  }

  receive(slots: number, count: number, slotBytes: number, found: number): number {
    const { poller, fd } = this.#socket!
    const rows = poller.io.recvDatagrams(fd, slots, count, slotBytes, found)
    if (rows > 0 && !this.heard) this.hear()
    return rows
  }

  protected hear(): void {
    this.heard = true
    this.#dialer.ladder.heard()
  }

  writeHeader(at: number, addressAt: number, family: number, port: number, _payloadBytes: number): number {
    const { bytes } = this.#dialer.arena
    const toName = this.toName
    if (toName !== undefined) {
      bytes.set(toName, at)
      bytes[at + toName.length - 2] = port >> 8
      bytes[at + toName.length - 1] = port & 255
      return toName.length
    }
    return encodeUdpHeader(bytes, at, bytes, port, addressAt, family === 4 ? 4 : 16)
  }

  parseDatagram(at: number, length: number, out: DatagramFields): boolean {
    const fields = this.#fields
    const header = parseUdpHeader(this.#dialer.arena.bytes, at, length, fields)
    if (header < 0 || fields.fragment !== 0) return false
    if (fields.addressType === AddressType.name && this.toName === undefined) return false
    out.family = fields.addressType === AddressType.ipv4 ? 4 : 6
    out.sourceAt = fields.addressAt
    out.port = fields.port
    out.payloadAt = at + header
    out.payloadBytes = length - header
    return true
  }

  protected end(error: DialError): void {
    if (this.#closed) return
    this.close()
    this.listener.onAssociationFailed(error)
  }

  override expire(): DialError {
    const error = super.expire()
    this.close()
    return this.#lookingUp ? { ...error, message: "the relay's name is still being looked up" } : error
  }

  /** The control connection is reset: in order, its port would be kept in TIME_WAIT, and DNS uses up a thousand in a few seconds. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.cancel()
    this.#control?.close(true)
    this.#socket?.close()
    if (this.said && !this.heard && performance.now() - this.#stoodAt >= DEAF_MS) this.#dialer.ladder.deaf()
    if (this.#relay !== undefined) this.#dialer.relays.remove(this.#relay)
  }
}

export function noRelay(named: Destination): DialError {
  return { failure: 'general', message: `the proxy says that its relay is ${formatEndpoint(named)}, which cannot be` }
}

/** RFC 1928 §7, with FRAG 0 and port 0. */
function headerTo(name: Uint8Array): Uint8Array {
  return Uint8Array.of(0, 0, 0, AddressType.name, name.length, ...name, 0, 0)
}

/** -EAGAIN means that the connection stands. */
function isFinal(errno: number): boolean {
  return errno !== -11
}

/** `group`: multicast and broadcast, to which no association leads (RFC 5771, RFC 919, RFC 4291 §2.4). */
export function kindOf(address: Uint8Array): 'unspecified' | 'loopback' | 'group' | 'host' {
  const first = address[0]!
  if (address.length === 4 && first === 127) return 'loopback'
  if (first === 0xff || (address.length === 4 && first >= 224)) return 'group'
  const last = address.at(-1)!
  if (first !== 0 || last > 1 || address.subarray(0, -1).some(byte => byte !== 0)) return 'host'
  if (last === 0) return 'unspecified'
  return address.length === 16 ? 'loopback' : 'host'
}
