/**
 * A client that receives, behind a line with a delay on which packets can be lost, held back and doubled, in virtual time.
 * What the stack sends as a super-segment is cut at the MSS first, as the kernel does it.
 */
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, LINUX_OPTIONS, type Rig } from './rig.ts'

/** No SACK permitted. */
const WITHOUT_SACK = LINUX_OPTIONS.map((byte, at) => (at === 4 || at === 5 ? 1 : byte))

/** A packet on the line: a segment of at most the MSS. */
export interface Piece {
  readonly seq: number
  readonly payload: Buffer
  readonly fin: boolean
  /** Which copy of its first byte this is, from 1 on. */
  readonly copy: number
  readonly sentAt: number
}

/** Milliseconds that each copy takes; none: it is lost. */
export type Fate = (piece: Piece) => readonly number[]

interface LineEvent {
  readonly at: number
  readonly run: () => void
}

export interface LineOptions {
  readonly rttMs?: number
  readonly mss?: number
  /** The client answers by selective acknowledgements, and tells of duplicates. Default: true. */
  readonly sack?: boolean
  /** Of acknowledgements that never arrive. Default: none. */
  readonly losesAck?: () => boolean
  readonly fate?: Fate
}

interface Range {
  left: number
  right: number
}

export class Line {
  readonly rig: Rig
  readonly client: Client
  readonly sent: Piece[] = []
  readonly lost: Piece[] = []
  readonly options: Required<LineOptions>
  /** In order, as the client's program reads it. */
  readonly received: Buffer[] = []
  receivedBytes = 0
  ended = false
  fate: Fate
  readonly #events: LineEvent[] = []
  readonly #copies = new Map<number, number>()
  readonly #waiting = new Map<number, Piece>()
  readonly #start: number
  #from = 0
  #recent: Range[] = []
  #tickAt: number

  constructor(rig: Rig, client: Client, options: LineOptions = {}) {
    this.rig = rig
    this.client = client
    const defaults = { rttMs: 20, mss: 1460, sack: true, losesAck: () => false }
    this.options = { ...defaults, fate: () => [this.options.rttMs / 2], ...options }
    this.fate = this.options.fate
    this.#start = client.ack
    this.#tickAt = rig.now
  }

  /** A connection whose handshake took a round trip. */
  static open(rig: Rig, options: LineOptions = {}): Line {
    const client = new Client(rig)
    client.knock(options.sack === false ? WITHOUT_SACK : LINUX_OPTIONS)
    const [answer] = rig.tell('accept', client.id)
    client.seq = (client.isn + 1) >>> 0
    client.ack = (answer!.tcp!.seq + 1) >>> 0
    rig.now += options.rttMs ?? 20
    rig.stack.exports.tg_set_now(rig.now)
    client.send(Flag.ack)
    return new Line(rig, client, options)
  }

  get now(): number {
    return this.rig.now
  }

  bytes(pieces: readonly Piece[]): number {
    return pieces.reduce((sum, { payload }) => sum + payload.length, 0)
  }

  /** Nothing is in flight, and what was sent up to now is not counted. */
  forget(): void {
    this.#from = this.receivedBytes
    this.sent.length = this.lost.length = 0
  }

  /** Bytes beyond the first copy of each. */
  get resentBytes(): number {
    const ends = this.sent.map(({ seq, payload }) => this.offset(seq) + payload.length)
    return this.bytes(this.sent) - (Math.max(this.#from, ...ends) - this.#from)
  }

  /** Offset of a sequence in the stream. */
  offset(seq: number): number {
    return (seq - this.#start) >>> 0
  }

  /** Puts what the stack has sent on the line. */
  take(packets: readonly Packet[]): void {
    for (const { tcp } of packets) {
      if (tcp === undefined || (tcp.payload.length === 0 && !(tcp.flags & Flag.fin))) continue
      const { mss } = this.options
      for (let at = 0; at < Math.max(tcp.payload.length, 1); at += mss) {
        const payload = tcp.payload.subarray(at, at + mss)
        const fin = at + mss >= tcp.payload.length && (tcp.flags & Flag.fin) !== 0
        this.#carry((tcp.seq + at) >>> 0, payload, fin)
      }
    }
  }

  #carry(seq: number, payload: Buffer, fin: boolean): void {
    const copy = (this.#copies.get(seq) ?? 0) + 1
    this.#copies.set(seq, copy)
    const piece = { seq, payload, fin, copy, sentAt: this.now }
    this.sent.push(piece)
    const delays = this.fate(piece)
    if (delays.length === 0) this.lost.push(piece)
    for (const delay of delays) this.#at(this.now + delay, () => this.#arrive(piece))
  }

  #at(at: number, run: () => void): void {
    let index = this.#events.length
    while (index > 0 && this.#events[index - 1]!.at > at) index--
    this.#events.splice(index, 0, { at, run })
  }

  // ---- the client ----

  #arrive(piece: Piece): void {
    const end = this.offset(piece.seq) + piece.payload.length
    const isOld = end + (piece.fin ? 1 : 0) <= this.offset(this.client.ack) || this.#waiting.has(piece.seq)
    const duplicate =
      isOld && piece.payload.length > 0
        ? { left: piece.seq, right: (piece.seq + piece.payload.length) >>> 0 }
        : undefined
    if (!isOld) this.#waiting.set(piece.seq, piece)
    this.#readInOrder()
    if (!isOld && this.#waiting.has(piece.seq)) this.#note(piece)
    this.#recent = this.#recent.filter(({ right }) => this.offset(right) > this.offset(this.client.ack))
    this.acknowledge(duplicate)
  }

  #readInOrder(): void {
    for (let moved = true; moved; ) {
      moved = false
      for (const [seq, piece] of this.#waiting) {
        const skip = this.offset(this.client.ack) - this.offset(seq)
        if (skip < 0 || skip > piece.payload.length) continue
        this.#waiting.delete(seq)
        const fresh = piece.payload.subarray(skip)
        this.received.push(fresh)
        this.receivedBytes += fresh.length
        if (piece.fin) this.ended = true
        this.client.ack = (this.client.ack + fresh.length + (piece.fin ? 1 : 0)) >>> 0
        moved = true
        break
      }
    }
  }

  /** The block that holds the piece comes first (RFC 2018 §4). */
  #note({ seq, payload, fin }: Piece): void {
    const block = { left: seq, right: (seq + payload.length + (fin ? 1 : 0)) >>> 0 }
    this.#recent = this.#recent.filter(({ left, right }) => {
      const touches = this.offset(left) <= this.offset(block.right) && this.offset(block.left) <= this.offset(right)
      if (touches && this.offset(left) < this.offset(block.left)) block.left = left
      if (touches && this.offset(right) > this.offset(block.right)) block.right = right
      return !touches
    })
    this.#recent.unshift(block)
  }

  /** Sends what the client has; `duplicate` is a DSACK (RFC 2883). */
  acknowledge(duplicate?: Range): void {
    const blocks = (duplicate === undefined ? this.#recent : [duplicate, ...this.#recent]).slice(0, 4)
    const options: number[] = []
    if (this.options.sack && blocks.length > 0) {
      options.push(1, 1, 5, 2 + 8 * blocks.length)
      for (const { left, right } of blocks) for (const edge of [left, right]) options.push(...word(edge))
    }
    const segment = this.client.segment(Flag.ack, { options })
    if (this.options.losesAck()) return
    this.#at(this.now + this.options.rttMs / 2, () => this.take(this.rig.send([segment])))
  }

  // ---- time ----

  /** Goes on until `done`, with the timers of the stack; throws when it takes longer than `limitMs`. Milliseconds it took. */
  until(done: () => boolean, limitMs: number): number {
    const { exports, abi, words } = this.rig.stack
    const start = this.now
    while (!done()) {
      if (this.now - start > limitMs) throw new Error(`not done after ${limitMs} ms: ${this.receivedBytes} bytes`)
      const first = this.#events[0]?.at ?? Number.POSITIVE_INFINITY
      const hurry = words[abi.reorderTimers / 4] === 0 ? Number.POSITIVE_INFINITY : this.now + abi.hurryMs
      if (first <= this.#tickAt && first <= hurry) {
        this.#go(first)
        this.#events.shift()!.run()
      } else if (hurry < this.#tickAt) {
        this.#go(hurry)
        exports.tg_hurry(this.now)
        this.rig.drain()
        this.take(this.rig.flush())
      } else {
        this.#go(this.#tickAt)
        this.#tickAt += abi.tickMs
        exports.tg_tick(this.now)
        this.rig.drain()
        this.take(this.rig.flush())
      }
    }
    return this.now - start
  }

  #go(at: number): void {
    this.rig.now = Math.max(this.now, at)
    this.rig.stack.exports.tg_set_now(this.now)
  }

  wait(ms: number): void {
    const end = this.now + ms
    this.until(() => this.now >= end, ms + 1000)
  }

  /** Sends all of `data` and what `end` wants behind it, and waits until the client has it. Milliseconds it took. */
  send(data: Buffer, limitMs: number, end = false): number {
    let written = 0
    let finished = !end
    const target = this.receivedBytes + data.length
    return this.until(() => {
      if (written < data.length) {
        const step = this.rig.write(this.client.id, data.subarray(written))
        written += step.written
        this.take(step.out)
      }
      if (written === data.length && !finished) {
        finished = true
        this.take(this.rig.tell('finish', this.client.id))
      }
      return this.receivedBytes === target && (!end || this.ended)
    }, limitMs)
  }
}

function word(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]
}
