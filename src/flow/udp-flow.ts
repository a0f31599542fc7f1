/**
 * The datagrams of one client endpoint (address and port): one association upstream, full cone: whoever answers there is
 * delivered here, from its own address. Datagrams come and go in the stack's memory; they are copied only while the
 * association is being made.
 */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import { addon } from '../io/addon.ts'
import type { FlowView } from '../options.ts'
import type { Stack } from '../stack/stack.ts'
import type { Associating, Association, AssociationListener, DatagramFields, DialError } from '../upstream/dialer.ts'
import { DatagramQueue, type QueuedDatagram, rowOf } from './datagram-queue.ts'
import type { Router } from './router.ts'

const EAGAIN = -11
/** Batches read from one relay in a row; then others have their turn. */
const READS_A_TURN = 8
/** After a refusal datagrams are answered with port unreachable for so long, before the proxy is asked again. */
const REFUSED_MS = 1_000
/** The same when this machine had no descriptor for it: those come back at any time. */
const NO_RESOURCES_MS = 250
/** An association that ends is made anew at once when its client was heard of so lately. */
const REVIVE_MS = 10_000
/** The length that recvDatagrams gives to a datagram larger than its slot. */
const TRUNCATED = 0xffff_ffff

export interface UdpHost {
  readonly stack: Stack
  readonly router: Router
  readonly now: number
  readonly udpCounters: UdpCounters
  flush(): void
  /** Calls `resume` in a later turn. */
  later(flow: UdpFlow): void
  /** `wasMade`: it had lived for a time, and is made anew when it is needed. */
  associationEnded(client: IpEndpoint, error: DialError, wasMade: boolean): void
}

export interface UdpCounters {
  udp_too_large: number
  udp_queue_full: number
  udp_send_failed: number
  udp_from_upstream_malformed: number
  udp_associations: number
}

const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }

export class UdpFlow implements AssociationListener {
  /** The stack's number of the client endpoint. */
  readonly id: number
  readonly client: IpEndpoint
  /** Nobody of this address had completed a connection when its first datagram came. */
  readonly isStranger: boolean
  usedAt: number
  readonly #host: UdpHost
  readonly #startedAt: number
  #associating: Associating | undefined
  #association: Association | undefined
  #dialing = false
  #dialedAt = 0
  #refusedUntil = 0
  /** What waits for an association. */
  #queue: DatagramQueue | undefined
  #bytesUp = 0
  #bytesDown = 0
  #waiting = false
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
  }

  // ---- client → upstream ----

  /** Rows `from` … `to` of the stack's datagram table, all of this endpoint. */
  send(from: number, to: number): void {
    this.usedAt = this.#host.now
    if (this.#association !== undefined) return this.#sendRows(from, to)
    if (this.#host.now < this.#refusedUntil) {
      for (let row = from; row < to; row++) this.#refuseRow(row)
      return
    }
    for (let row = from; row < to; row++) this.#enqueue(row)
    if (this.#associating === undefined) this.#associate()
  }

  #associate(): void {
    if (this.#host.stack.exports.tg_udp_dial(this.id) === 0) return
    this.#host.udpCounters.udp_associations++
    this.#dialing = true
    this.#dialedAt = this.#host.now
    const associating = this.#host.router.single!.associate(this.client, this)
    if (this.#dialing) this.#associating = associating // it may have failed at once
  }

  #dialEnded(): void {
    if (!this.#dialing) return
    this.#dialing = false
    this.#host.stack.exports.tg_udp_dial_end(this.id)
  }

  /** Called now and then: a proxy that says nothing is no better than one that refuses. */
  sweep(connectTimeoutMs: number): void {
    if (!this.#dialing || this.#host.now - this.#dialedAt < connectTimeoutMs) return
    const error = this.#associating?.expire()
    if (error !== undefined) this.onAssociationFailed(error)
  }

  /** The header goes in front of each payload, the batch goes out in one system call. */
  #sendRows(from: number, to: number): void {
    const { abi, words } = this.#host.stack
    const association = this.#association!
    let first = from
    for (let row = from; row < to; row++) {
      const datagram = (abi.datagrams + row * abi.datagramBytes) / 4
      const header = words[datagram + abi.datagramHeader / 4]!
      const length = words[datagram + abi.datagramLength / 4]!
      const headerBytes = association.writeHeader(
        header,
        4 * datagram + abi.datagramDest,
        words[datagram + abi.datagramFamily / 4]!,
        words[datagram + abi.datagramDestPort / 4]!,
        length,
      )
      if (headerBytes === 0 || headerBytes + length > association.maxBytes) {
        this.#notCarried(headerBytes)
        this.#sendRun(first, row)
        first = row + 1
        continue
      }
      words[abi.datagramIovecs / 4 + 2 * words[datagram + abi.datagramFirstIovec / 4]! + 1] = headerBytes
      this.#bytesUp += length
    }
    this.#sendRun(first, to)
  }

  #sendRun(from: number, to: number): void {
    const { abi } = this.#host.stack
    const association = this.#association!
    for (let at = from; at < to; ) {
      const sent = association.send(abi.messages + at * abi.messageBytes, abi.datagramIovecs, to - at)
      if (sent > 0) at += sent
      else {
        const lost = sent === EAGAIN ? to - at : 1 // a full socket loses datagrams, as a full link does
        this.#host.udpCounters.udp_send_failed += lost
        at += lost
      }
    }
  }

  #notCarried(headerBytes: number): void {
    if (headerBytes === 0) this.#host.udpCounters.udp_send_failed++
    else this.#host.udpCounters.udp_too_large++
  }

  #refuseRow(row: number): void {
    const { dest, port } = rowOf(this.#host.stack, row)
    const { exports, abi } = this.#host.stack
    exports.tg_udp_refuse(this.id, dest, port, abi.answerPortUnreachable)
  }

  #enqueue(row: number): void {
    this.#queue ??= new DatagramQueue()
    this.#host.udpCounters.udp_queue_full += this.#queue.push(this.#host.stack, row)
  }

  // ---- the association ----

  onAssociated(association: Association): void {
    this.#dialEnded()
    this.#associating = undefined
    this.#association = association
    this.#refusedUntil = 0
    for (const datagram of this.#takeQueue()) this.#sendCopy(datagram)
  }

  #takeQueue(): readonly QueuedDatagram[] {
    const datagrams = this.#queue?.datagrams ?? []
    this.#queue = undefined
    return datagrams
  }

  /** By way of the first landing slot, which is in use only while answers are read. */
  #sendCopy({ dest, family, port, payload }: QueuedDatagram): void {
    const { abi, words, bytes } = this.#host.stack
    const association = this.#association!
    const at = words[abi.landingTable / 4]!
    bytes.set(dest, abi.scratch)
    const header = association.writeHeader(at, abi.scratch, family, port, payload.length)
    if (header === 0 || header + payload.length > association.maxBytes) return this.#notCarried(header)
    bytes.set(payload, at + header)
    const message = abi.scratch / 4
    words.set([0, 1, 0, at, header + payload.length], message)
    if (association.send(abi.scratch, abi.scratch + 12, 1) !== 1) {
      this.#host.udpCounters.udp_send_failed++
    } else this.#bytesUp += payload.length
  }

  onAssociationFailed(error: DialError): void {
    const { now } = this.#host
    const lived = this.#association !== undefined && now - this.#dialedAt >= REFUSED_MS
    this.#dialEnded()
    this.#associating = undefined
    this.#association = undefined
    this.#host.associationEnded(this.client, error, lived)
    if (lived) {
      if (now - this.usedAt < REVIVE_MS) this.#associate()
      return // otherwise it comes back with the next datagram
    }
    this.#refusedUntil = now + (error.failure === 'no-resources' ? NO_RESOURCES_MS : REFUSED_MS)
    const { abi, bytes, exports } = this.#host.stack
    for (const { dest, port } of this.#takeQueue()) {
      bytes.set(dest, abi.scratch)
      exports.tg_udp_refuse(this.id, abi.scratch, port, abi.answerPortUnreachable)
    }
  }

  // ---- upstream → client ----

  onDatagrams(): void {
    const { abi, words } = this.#host.stack
    for (let reads = 0; this.#association !== undefined; reads++) {
      if (reads === READS_A_TURN) {
        if (!this.#waiting) this.#host.later(this)
        this.#waiting = true
        return
      }
      const count = this.#association.receive(abi.landingTable, abi.landingSlots, abi.landingBytes, abi.landed)
      if (count <= 0) {
        // ECONNREFUSED is an answer to an earlier datagram: the relay is gone or refused one; the control connection tells
        if (count === EAGAIN || count === 0 || addon.errnoName(count) !== 'ECONNREFUSED') return
        continue
      }
      this.usedAt = this.#host.now
      for (let row = 0; row < count; row++) {
        this.#deliver(words[abi.landed / 4 + 2 * row]!, words[abi.landed / 4 + 2 * row + 1]!)
      }
      this.#host.flush() // the slots are read into again
      if (count < abi.landingSlots) return
    }
  }

  resume(): void {
    this.#waiting = false
    if (!this.#closed) this.onDatagrams()
  }

  #deliver(at: number, length: number): void {
    if (length === TRUNCATED || !this.#association!.parseDatagram(at, length, fields)) {
      this.#host.udpCounters.udp_from_upstream_malformed++
      return
    }
    const { exports } = this.#host.stack
    const { family, sourceAt, port, payloadAt, payloadBytes } = fields
    // bytes 4…15 of an IPv4 address row are never looked at by the stack's IPv4 path
    if (exports.tg_udp_send(this.id, family, sourceAt, port, payloadAt, payloadBytes) === 0)
      this.#bytesDown += payloadBytes
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
    this.#dialing = false
    this.#associating?.close()
    this.#associating = undefined
    this.#association?.close()
    this.#association = undefined
    this.#queue = undefined
  }

  view(): FlowView {
    return {
      id: this.id,
      protocol: 'udp',
      client: formatEndpoint(this.client),
      destination: '*',
      state: this.#association !== undefined ? 'open' : this.#associating === undefined ? 'idle' : 'associating',
      ageMs: Math.round(this.#host.now - this.#startedAt),
      bytesUp: this.#bytesUp,
      bytesDown: this.#bytesDown,
    }
  }
}
