/**
 * A way of a client endpoint's datagrams: one association of one upstream, full cone: whoever answers there is delivered, from
 * its own address. Datagrams come and go in the stack's memory; they are copied only while the association is being made.
 * A virtual destination has a way of its own, so that what comes back there can be given that address.
 */
import { addon } from '../io/addon.ts'
import type {
  Associating,
  Association,
  AssociationListener,
  DatagramFields,
  DialError,
  Dialer,
} from '../upstream/dialer.ts'
import { DatagramQueue, type QueuedDatagram, refuseCopies, refuseRow } from './datagram-queue.ts'
import type { UdpHost, WayOwner } from './udp-host.ts'

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

/** An address that stands for a name. */
export interface VirtualDestination {
  readonly address: Uint8Array
  readonly name: string
}

const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }

export class UdpWay implements AssociationListener {
  readonly dialer: Dialer
  readonly virtual: VirtualDestination | undefined
  /** For people: why datagrams go this way; '' where there was nothing to decide. */
  readonly why: string
  usedAt = 0
  bytesUp = 0
  bytesDown = 0
  readonly #host: UdpHost
  readonly #owner: WayOwner
  #associating: Associating | undefined
  #association: Association | undefined
  #dialing = false
  #dialedAt = 0
  #refusedUntil = 0
  /** What waits for an association. */
  #queue: DatagramQueue | undefined
  #waiting = false
  #closed = false

  constructor(host: UdpHost, owner: WayOwner, dialer: Dialer, why = '', virtual?: VirtualDestination) {
    this.#host = host
    this.#owner = owner
    this.dialer = dialer
    this.why = why
    this.virtual = virtual
  }

  get state(): 'open' | 'associating' | 'idle' {
    return this.#association !== undefined ? 'open' : this.#associating === undefined ? 'idle' : 'associating'
  }

  // ---- client → upstream ----

  /** Rows `from` … `to` of the stack's datagram table, all of this endpoint. */
  send(from: number, to: number): void {
    this.usedAt = this.#owner.usedAt = this.#host.now
    if (this.#association !== undefined) return this.#sendRows(from, to)
    if (this.#host.now < this.#refusedUntil) {
      for (let row = from; row < to; row++) refuseRow(this.#host.stack, this.#owner.id, row)
      return
    }
    this.#queue ??= new DatagramQueue()
    for (let row = from; row < to; row++)
      this.#host.udpCounters.udp_queue_full += this.#queue.push(this.#host.stack, row)
    if (this.#associating === undefined) this.#associate()
  }

  /** Copies that waited for the decision which way to go. */
  sendCopies(datagrams: readonly QueuedDatagram[]): void {
    this.usedAt = this.#owner.usedAt = this.#host.now
    if (this.#association !== undefined) for (const datagram of datagrams) this.#sendCopy(datagram)
    else if (this.#host.now < this.#refusedUntil) refuseCopies(this.#host.stack, this.#owner.id, datagrams)
    else {
      this.#queue ??= new DatagramQueue()
      for (const datagram of datagrams) this.#host.udpCounters.udp_queue_full += this.#queue.add(datagram)
      if (this.#associating === undefined) this.#associate()
    }
  }

  #associate(): void {
    const owner = this.#owner
    if (owner.dials++ === 0 && this.#host.stack.exports.tg_udp_dial(owner.id) === 0) {
      owner.dials = 0
      return
    }
    owner.associations++
    this.#host.udpCounters.udp_associations++
    this.#dialing = true
    this.#dialedAt = this.#host.now
    const associating = this.dialer.associate(this.#owner.client, this, this.virtual?.name)
    if (this.#dialing) this.#associating = associating // it may have failed at once
  }

  #dialEnded(): void {
    if (!this.#dialing) return
    this.#dialing = false
    if (--this.#owner.dials === 0) this.#host.stack.exports.tg_udp_dial_end(this.#owner.id)
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
      this.bytesUp += length
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
    } else this.bytesUp += payload.length
  }

  onAssociationFailed(error: DialError): void {
    const { now } = this.#host
    const lived = this.#association !== undefined && now - this.#dialedAt >= REFUSED_MS
    this.#dialEnded()
    this.#associating = undefined
    this.#association = undefined
    this.#owner.associations--
    this.#host.associationEnded(this.#owner.client, error, lived)
    if (lived) {
      if (now - this.usedAt < REVIVE_MS) this.#associate()
      return // otherwise it comes back with the next datagram
    }
    this.#refusedUntil = now + (error.failure === 'no-resources' ? NO_RESOURCES_MS : REFUSED_MS)
    refuseCopies(this.#host.stack, this.#owner.id, this.#takeQueue())
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
      this.usedAt = this.#owner.usedAt = this.#host.now
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
    if (this.virtual !== undefined) this.#comeFrom(this.virtual.address)
    const { exports } = this.#host.stack
    const { family, sourceAt, port, payloadAt, payloadBytes } = fields
    // bytes 4…15 of an IPv4 address row are never looked at by the stack's IPv4 path
    if (exports.tg_udp_send(this.#owner.id, family, sourceAt, port, payloadAt, payloadBytes) === 0)
      this.bytesDown += payloadBytes
  }

  /** Whoever answers for the name: the client knows it by this address. */
  #comeFrom(address: Uint8Array): void {
    const { abi, bytes } = this.#host.stack
    bytes.set(address, abi.scratch)
    fields.sourceAt = abi.scratch
    fields.family = address.length === 4 ? 4 : 6
  }

  // ---- the end ----

  /** The endpoint goes on without it. */
  close(): void {
    this.#dialEnded()
    this.discard()
  }

  /** Lets go of the upstream without a word to the stack, which has stopped or forgets the endpoint. Idempotent. */
  discard(): void {
    if (this.#association !== undefined || this.#associating !== undefined) this.#owner.associations--
    this.#closed = true
    this.#dialing = false
    this.#associating?.close()
    this.#associating = undefined
    this.#association?.close()
    this.#association = undefined
    this.#queue = undefined
  }
}
