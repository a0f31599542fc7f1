/**
 * UDP ASSOCIATE of a proxy that is reached through another upstream: its relay is a destination of an association there, so each
 * datagram has the header for that in front of its own.
 */
import { type Destination, type IpEndpoint, sameAddress } from '../../endpoint.ts'
import type {
  Associating,
  Association,
  AssociationListener,
  DatagramFields,
  DialError,
  Dialer,
  DialFailure,
} from '../dialer.ts'
import { AddressType, type ReplyFields, UDP_HEADER_BYTES_IPV4, UDP_HEADER_BYTES_IPV6 } from '../socks5/socks5-codec.ts'
import { type AssociationHost, kindOf, noRelay, Socks5Association } from './socks5-association.ts'

/** How a proxy behind another upstream is reached. */
export interface Chained {
  readonly through: Dialer
  /** Of `through`, for people. */
  readonly name: string
  /** The proxy; a name is looked up by `through`. */
  readonly server: Destination
  /** Place in the chain. */
  readonly level: number
}

/** What is kept free in front of a datagram for headers (TG_HEADER_ROOM in wasm/src/tungate.h). */
const HEADER_ROOM = 288
/** The relay's address, for the header before ours; that one may need a place of its own meanwhile. From the end of the scratch. */
const ADDRESS_ROOM = 16

/** Of the upstream before, or of this machine: they say nothing of UDP here. */
const KEPT: ReadonlySet<DialFailure> = new Set(['no-resources', 'authentication', 'unsupported', 'timeout'])

class ThroughAssociation extends Socks5Association implements AssociationListener {
  readonly #host: AssociationHost
  readonly #chain: Chained
  readonly #addressAt: number
  #relay: Destination | undefined
  #making: Associating | undefined
  #carrier: Association | undefined

  /** @param name as Dialer.associate */
  constructor(
    host: AssociationHost,
    chain: Chained,
    client: IpEndpoint,
    listener: AssociationListener,
    name: string | undefined,
  ) {
    super(host, client, listener, name)
    this.#host = host
    this.#chain = chain
    const { scratch, scratchBytes } = host.arena
    this.#addressAt = scratch + scratchBytes - ADDRESS_ROOM * (chain.level + 2)
  }

  protected override useReply({ addressType, addressAt, addressLength, port }: ReplyFields): void {
    const address = this.#host.arena.bytes.slice(addressAt, addressAt + addressLength)
    const relay = this.#relayAt(addressType, address, port)
    if (port === 0 || ('address' in relay && kindOf(relay.address) === 'group')) return this.end(noRelay(relay))
    this.#relay = relay
    if ('address' in relay) this.#making = this.#chain.through.associate(this.client, this)
    else this.#making = this.#chain.through.associate(this.client, this, relay.name)
  }

  /** An address of every machine is none: the proxy means its own. */
  #relayAt(addressType: number, address: Uint8Array, port: number): Destination {
    if (addressType === AddressType.name) return { name: Buffer.from(address).toString('utf8'), port }
    const kind = kindOf(address)
    return kind === 'unspecified' || kind === 'loopback' ? { ...this.#chain.server, port } : { address, port }
  }

  // ---- what the upstream before says ----

  onAssociated(carrier: Association): void {
    this.#carrier = carrier
    this.maxBytes = carrier.maxBytes
    this.listener.onAssociated(this)
  }

  onAssociationFailed({ failure, message }: DialError): void {
    this.#carrier = undefined
    this.#making = undefined
    this.end({ failure: KEPT.has(failure) ? failure : 'upstream-down', message: this.#told(message) })
  }

  #told(message: string): string {
    return `through ${this.#chain.name}: ${message}`
  }

  onDatagrams(): void {
    this.listener.onDatagrams()
  }

  // ---- datagrams ----

  override writeHeader(at: number, addressAt: number, family: number, port: number, payloadBytes: number): number {
    const own = this.toName?.length ?? (family === 4 ? UDP_HEADER_BYTES_IPV4 : UDP_HEADER_BYTES_IPV6)
    const relay = this.#relay!
    let relayFamily = 4
    if ('address' in relay) {
      this.#host.arena.bytes.set(relay.address, this.#addressAt)
      if (relay.address.length === 16) relayFamily = 6
    }
    const before = this.#carrier!.writeHeader(at, this.#addressAt, relayFamily, relay.port, own + payloadBytes)
    if (before === 0 || before + own > HEADER_ROOM) return 0
    return before + super.writeHeader(at + before, addressAt, family, port, payloadBytes)
  }

  override send(messages: number, iovecs: number, count: number): number {
    this.said = true
    return this.#carrier!.send(messages, iovecs, count)
  }

  override receive(slots: number, count: number, slotBytes: number, found: number): number {
    const rows = this.#carrier!.receive(slots, count, slotBytes, found)
    if (rows > 0 && !this.heard) this.hear()
    return rows
  }

  /** Of anybody but the relay nothing is taken. */
  override parseDatagram(at: number, length: number, out: DatagramFields): boolean {
    const relay = this.#relay!
    if (!this.#carrier!.parseDatagram(at, length, out)) return false
    if ('address' in relay) {
      const { family, sourceAt, port } = out
      const source = this.#host.arena.bytes.subarray(sourceAt, sourceAt + (family === 4 ? 4 : 16))
      if (port !== relay.port || !sameAddress(source, relay.address)) return false
    }
    return super.parseDatagram(out.payloadAt, out.payloadBytes, out)
  }

  // ---- the end ----

  override expire(): DialError {
    if (this.#making === undefined || this.#carrier !== undefined) return super.expire()
    const { failure, message } = this.#making.expire()
    this.#making = undefined
    this.close()
    return { failure, message: this.#told(message) }
  }

  override close(): void {
    if (this.#carrier === undefined) this.#making?.close()
    else this.#carrier.close()
    this.#making = undefined
    super.close()
  }
}

/** An association by UDP ASSOCIATE. `chain`: undefined where the relay is reached straight. */
export function relayAssociation(
  host: AssociationHost,
  chain: Chained | undefined,
  client: IpEndpoint,
  listener: AssociationListener,
  name: string | undefined,
): Socks5Association {
  if (chain === undefined) return new Socks5Association(host, client, listener, name)
  return new ThroughAssociation(host, chain, client, listener, name)
}
