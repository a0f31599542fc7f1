/**
 * One client endpoint (address and port) of datagrams: mostly one way for all of them (udp-way.ts), or what is decided for each
 * destination (udp-routes.ts). Some may be a service's own.
 */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import type { FlowView } from '../options.ts'
import { rowOf } from './datagram-queue.ts'
import type { DatagramClient, DatagramService } from './datagram-service.ts'
import type { UdpHost, WayOwner } from './udp-host.ts'
import { UdpRoutes } from './udp-routes.ts'
import { UdpWay } from './udp-way.ts'

/** Reasons in a view: an endpoint may have many. */
const MAX_REASONS = 3

export class UdpFlow implements WayOwner, DatagramClient {
  /** The stack's number of the client endpoint. */
  readonly id: number
  readonly client: IpEndpoint
  /** Nobody of this address had completed a connection when its first datagram came. */
  readonly isStranger: boolean
  usedAt: number
  associations = 0
  dials = 0
  /** Of all its datagrams that are no service's, where there is nothing to decide. */
  readonly only: UdpWay | undefined
  readonly #routes: UdpRoutes | undefined
  readonly #host: UdpHost
  readonly #startedAt: number
  /** All its datagrams were a service's. */
  isServedOnly = true
  #closed = false

  constructor(host: UdpHost, id: number) {
    this.#host = host
    this.id = id
    this.#startedAt = host.now
    this.usedAt = host.now
    const { abi, words, bytes } = host.stack
    const row = abi.endpoints + id * abi.endpointBytes
    const length = words[(row + abi.endpointFamily) / 4] === 6 ? 16 : 4
    const at = row + abi.endpointAddress
    this.client = { address: bytes.slice(at, at + length), port: words[(row + abi.endpointPort) / 4]! }
    this.isStranger = words[(row + abi.endpointStranger) / 4] !== 0
    const { single } = host.router
    if (single !== undefined) this.only = new UdpWay(host, this, single)
    else this.#routes = new UdpRoutes(host, this)
  }

  get #ways(): readonly UdpWay[] {
    return this.#routes?.ways ?? [this.only!]
  }

  // ---- client → upstream ----

  /** Rows `from` … `to` of the stack's datagram table, all of this endpoint. */
  send(from: number, to: number): void {
    if (this.#host.datagramService === undefined) this.#sendOn(from, to)
    else this.#sendServed(this.#host.datagramService, from, to)
    // nothing is dialed for what a service answers, or a rule turns away
    if (this.dials === 0) this.#host.stack.exports.tg_udp_dial_end(this.id)
  }

  #sendServed(service: DatagramService, from: number, to: number): void {
    let first = from
    for (let row = from; row < to; row++) {
      const { dest, family, port } = rowOf(this.#host.stack, row)
      if (!service.takes(dest, family, port)) continue
      this.#sendOn(first, row)
      first = row + 1
      this.usedAt = this.#host.now
      service.receive(this, row)
    }
    this.#sendOn(first, to)
  }

  #sendOn(from: number, to: number): void {
    if (from === to) return
    this.isServedOnly = false
    if (this.only !== undefined) this.only.send(from, to)
    else this.#routes?.send(from, to)
  }

  /** Called now and then. */
  sweep(connectTimeoutMs: number, idleTimeoutMs: number): void {
    this.#routes?.sweep(connectTimeoutMs, idleTimeoutMs)
  }

  // ---- a service → client ----

  answer(sourceAt: number, port: number, payloadAt: number, payloadBytes: number): boolean {
    if (this.#closed) return false
    this.usedAt = this.#host.now
    const family = this.client.address.length === 4 ? 4 : 6
    return this.#host.stack.exports.tg_udp_send(this.id, family, sourceAt, port, payloadAt, payloadBytes) === 0
  }

  // ---- the end ----

  /** Idempotent. The endpoint's number is free afterwards. */
  close(): void {
    if (this.#closed) return
    this.discard()
    this.#host.stack.exports.tg_udp_forget(this.id)
  }

  /** Lets go of the upstream without a word to the stack, which stopped. */
  discard(): void {
    this.#closed = true
    this.only?.discard()
    this.#routes?.discard()
  }

  view(): FlowView {
    const states = this.#ways.map(({ state }) => state)
    const why = [...new Set(this.#ways.map(way => way.why))].filter(text => text !== '')
    const { bytesUp, bytesDown } = this.#routes ?? this.only!
    return {
      id: this.id,
      protocol: 'udp',
      client: formatEndpoint(this.client),
      destination: '*',
      state: states.find(state => state === 'open') ?? states.find(state => state === 'associating') ?? 'idle',
      ageMs: Math.round(this.#host.now - this.#startedAt),
      bytesUp,
      bytesDown,
      ...(why.length === 0 ? {} : { why: listed(why) }),
    }
  }
}

function listed(reasons: readonly string[]): string {
  const more = reasons.length > MAX_REASONS ? `, and ${reasons.length - MAX_REASONS} more` : ''
  return `${reasons.slice(0, MAX_REASONS).join(', ')}${more}`
}
