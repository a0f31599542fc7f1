/**
 * The SOCKS5 upstream: CONNECT for streams, UDP ASSOCIATE for datagrams (RFC 1928, RFC 1929).
 */
import { lookup } from 'node:dns/promises'

import { type IpEndpoint, parseAddress, sameAddress } from '../endpoint.ts'
import { SystemError } from '../errors.ts'
import type { Poller, Watcher } from '../io/poller.ts'
import { type Binding, Socket } from '../io/socket.ts'
import type { ProxyOptions } from '../options.ts'
import type {
  Arena,
  Association,
  AssociationListener,
  DatagramFields,
  Dial,
  DialError,
  Dialer,
  DialListener,
} from './dialer.ts'
import { type HealthLog, ProxyAddress } from './proxy-address.ts'
import {
  AddressType,
  addressFields,
  Command,
  encodeUdpHeader,
  parseUdpHeader,
  type ReplyFields,
  type UdpFields,
} from './socks5-codec.ts'
import { type Credentials, Handshake, type HandshakeListener } from './socks5-handshake.ts'

/** RFC 768 over IPv4 (RFC 791) and over IPv6 (RFC 8200): bytes of the largest UDP payload. */
const MAX_UDP_PAYLOAD_IPV4 = 65_507
const MAX_UDP_PAYLOAD_IPV6 = 65_527

/** What connect() says of the network, not of this machine. */
const NETWORK_ERRORS = new Set(['ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT', 'EACCES', 'EADDRNOTAVAIL'])
/** The same complaint is logged at most so often. */
const COMPLAINT_MS = 60_000

const NOT_RESOLVED: DialError = { failure: 'upstream-down', message: "the proxy's name has no address (yet)" }
/** RFC 1928 §6: a client that does not know its address and port beforehand says zeros. */
const ANY_IPV4: IpEndpoint = { address: new Uint8Array(4), port: 0 }

export class Socks5Dialer implements Dialer {
  readonly poller: Poller
  readonly arena: Arena
  readonly proxy: ProxyAddress
  readonly credentials: Credentials | undefined
  /** Where the relays of live associations are. */
  readonly relays = new Set<IpEndpoint>()
  readonly #binding: Binding
  readonly #log: HealthLog
  #handshakes = 0
  #failures = 0
  #localFailureAt = Number.NEGATIVE_INFINITY

  constructor(poller: Poller, arena: Arena, options: ProxyOptions, binding: Binding, log: HealthLog) {
    this.poller = poller
    this.arena = arena
    this.#binding = binding
    this.#log = log
    this.proxy = new ProxyAddress(options.host, options.port, log)
    if (options.username !== undefined) {
      this.credentials = {
        username: Buffer.from(options.username),
        password: Buffer.from(options.password ?? ''),
      }
    }
  }

  /** The proxy's name has been looked up when this resolves, if it can be. */
  ready(): Promise<void> {
    return this.proxy.lookUp()
  }

  connect(destination: IpEndpoint, listener: DialListener): Dial {
    const dial = new Socks5Dial(this, destination, listener)
    dial.start()
    return dial
  }

  associate(listener: AssociationListener): Association {
    const association = new Socks5Association(this, listener)
    association.start()
    return association
  }

  isUpstream(endpoint: IpEndpoint): boolean {
    if (this.proxy.has(endpoint)) return true
    for (const relay of this.relays) {
      if (relay.port === endpoint.port && sameAddress(relay.address, endpoint.address)) return true
    }
    return false
  }

  /** Starts a handshake on a new connection to the proxy; what fails at once is returned. */
  open(handshake: Handshake): { socket: Socket } | { error: DialError } {
    const proxy = this.proxy.endpoint
    if (proxy === undefined) return { error: NOT_RESOLVED }
    this.#handshakes++
    try {
      const socket = Socket.connectTcp(this.poller, proxy, this.#binding, handshake)
      handshake.start(socket)
      return { socket }
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      const failed: DialError = { failure: 'upstream-down', message: `the proxy cannot be reached: ${error.code}` }
      if (NETWORK_ERRORS.has(error.code)) this.failed(failed, false)
      else this.#localFailure(error)
      return { error: failed }
    }
  }

  /** It is this machine, not the proxy, that refuses: no descriptor, no right, no such interface. */
  #localFailure(error: SystemError): void {
    this.#failures++
    const now = performance.now()
    if (now - this.#localFailureAt < COMPLAINT_MS) return
    this.#localFailureAt = now
    this.#log.warn('no socket to the proxy can be made', { reason: error.code })
  }

  connectUdp(relay: IpEndpoint, watcher: Watcher): Socket {
    return Socket.connectUdp(this.poller, relay, this.#binding, watcher)
  }

  failed(error: DialError, proxyAnswered: boolean): void {
    this.#failures++
    if (proxyAnswered && error.failure !== 'authentication') this.proxy.answered()
    else this.proxy.failed(error.message)
  }

  counters(): Record<string, number> {
    return { handshakes: this.#handshakes, handshake_failures: this.#failures }
  }

  close(): void {}
}

class Socks5Dial implements Dial, HandshakeListener {
  readonly #dialer: Socks5Dialer
  readonly #listener: DialListener
  readonly #handshake: Handshake
  #socket: Socket | undefined

  constructor(dialer: Socks5Dialer, destination: IpEndpoint, listener: DialListener) {
    this.#dialer = dialer
    this.#listener = listener
    this.#handshake = new Handshake(dialer.arena, dialer.credentials, Command.connect, destination, this)
  }

  start(): void {
    const opened = this.#dialer.open(this.#handshake)
    if ('error' in opened) this.#listener.onFailed(opened.error)
    else this.#socket = opened.socket
  }

  onReply(_fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void {
    this.#dialer.proxy.answered()
    this.#listener.onConnected({ socket: this.#socket!, early, readable })
  }

  onHandshakeFailed(error: DialError, proxyAnswered: boolean): void {
    this.#dialer.failed(error, proxyAnswered)
    this.#listener.onFailed(error)
  }

  cancel(): void {
    this.#handshake.cancel()
  }
}

class Socks5Association implements Association, HandshakeListener, Watcher {
  readonly #dialer: Socks5Dialer
  readonly #listener: AssociationListener
  readonly #handshake: Handshake
  /** The proxy that was dialed: its address stands in for a relay address of zeros. */
  #proxy: IpEndpoint | undefined
  #control: Socket | undefined
  #closed = false
  #relay: IpEndpoint | undefined
  readonly #fields: UdpFields = { ...addressFields(), fragment: 0 }
  socket: Socket | undefined
  maxBytes = MAX_UDP_PAYLOAD_IPV4

  constructor(dialer: Socks5Dialer, listener: AssociationListener) {
    this.#dialer = dialer
    this.#listener = listener
    this.#handshake = new Handshake(dialer.arena, dialer.credentials, Command.udpAssociate, ANY_IPV4, this)
  }

  start(): void {
    this.#proxy = this.#dialer.proxy.endpoint
    const opened = this.#dialer.open(this.#handshake)
    if ('error' in opened) this.#end(opened.error)
    else this.#control = opened.socket
  }

  onReply(fields: ReplyFields, _early: Uint8Array | undefined, readable: boolean): void {
    this.#dialer.proxy.answered()
    const control = this.#control!
    control.handOver({ onReady: () => this.#onControl() })
    this.#useReply(fields)
    if (readable) this.#onControl()
  }

  #useReply(fields: ReplyFields): void {
    const { bytes } = this.#dialer.arena
    const address = bytes.slice(fields.addressAt, fields.addressAt + fields.addressLength)
    if (fields.addressType !== AddressType.name) {
      this.#relayAt(address, fields.port)
      return
    }
    const { port } = fields
    lookup(Buffer.from(address).toString('utf8'))
      .then(found => this.#relayAt(parseAddress(found.address)!, port))
      .catch(() => this.#end({ failure: 'upstream-down', message: "the relay's name cannot be looked up" }))
  }

  #relayAt(address: Uint8Array, port: number): void {
    if (this.#closed) return
    const unspecified = address.every(byte => byte === 0)
    const relay = { address: unspecified ? this.#proxy!.address : address, port }
    this.maxBytes = relay.address.length === 4 ? MAX_UDP_PAYLOAD_IPV4 : MAX_UDP_PAYLOAD_IPV6
    this.#relay = relay
    this.#dialer.relays.add(relay)
    try {
      this.socket = this.#dialer.connectUdp(relay, this)
    } catch (error) {
      const reason = error instanceof SystemError ? error.message : String(error)
      this.#end({ failure: 'upstream-down', message: `the relay cannot be reached: ${reason}` })
      return
    }
    this.#listener.onAssociated()
  }

  onHandshakeFailed(error: DialError, proxyAnswered: boolean): void {
    this.#dialer.failed(error, proxyAnswered)
    this.#end(error)
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
      this.#end({ failure: 'upstream-down', message: 'the proxy ended the association' })
    }
  }

  onReady(): void {
    if (!this.#closed) this.#listener.onDatagrams()
  }

  writeHeader(at: number, addressAt: number, family: number, port: number): number {
    const { bytes } = this.#dialer.arena
    return encodeUdpHeader(bytes, at, bytes.subarray(addressAt, addressAt + (family === 4 ? 4 : 16)), port)
  }

  parseDatagram(at: number, length: number, out: DatagramFields): boolean {
    const fields = this.#fields
    const header = parseUdpHeader(this.#dialer.arena.bytes, at, length, fields)
    if (header < 0 || fields.fragment !== 0 || fields.addressType === AddressType.name) return false
    out.family = fields.addressType === AddressType.ipv4 ? 4 : 6
    out.sourceAt = fields.addressAt
    out.port = fields.port
    out.payloadAt = at + header
    out.payloadBytes = length - header
    return true
  }

  #end(error: DialError): void {
    if (this.#closed) return
    this.close()
    this.#listener.onAssociationFailed(error)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#handshake.cancel()
    this.#control?.close()
    this.socket?.close()
    if (this.#relay !== undefined) this.#dialer.relays.delete(this.#relay)
  }
}

/** -EAGAIN means that the connection stands. */
function isFinal(errno: number): boolean {
  return errno !== -11
}
