/**
 * DNS over a stream (RFC 7766), TLS (RFC 7858) or HTTPS (RFC 8484): queries are pipelined on one connection that is kept, answers come in any order. A connection that is
 * lost is replaced, and what was asked on it is asked once more.
 */
import { acceptAnswer, type UpstreamAnswer, Verdict } from '../dns/upstream-answer.ts'
import { readU16 } from '../dns/wire.ts'
import { READ_HANGUP, READABLE, WRITABLE } from '../io/addon.ts'
import type { Watcher } from '../io/poller.ts'
import type { Socket } from '../io/socket.ts'
import type { Connected, Dial, DialError, DialListener } from '../upstream/dialer.ts'
import { BY_LENGTH, type Framing } from './framing.ts'
import { type AskChoices, type Attempt, type Inquiry, makeAttempt, type Way, type WayMemory } from './way.ts'

const EAGAIN = -11
/** RFC 7766 §6.2.3: a few seconds without a question, and the connection is closed. */
const IDLE_MS = 10_000

export class StreamWay implements Way, DialListener, Watcher {
  readonly isStream = true
  readonly heldUntil = 0
  readonly #memory: WayMemory
  readonly #dial: (listener: DialListener) => Dial
  readonly #framing: Framing
  readonly #asked = new Map<number, Attempt>()
  #dialing: Dial | undefined
  #socket: Socket | undefined
  #writable = false
  /** Frames that the socket has not taken, the first perhaps in part. */
  #unsent: Buffer[] = []
  /** A message that has not come whole, with what is in front of it. */
  #received: Buffer = Buffer.alloc(4_096)
  #receivedBytes = 0
  /** An answer has come on this connection. */
  #isServed = false
  #idle: NodeJS.Timeout | undefined
  #closed = false
  readonly #answer: UpstreamAnswer = { bytes: 0, rcode: 0 }

  /** @param dial opens a connection to the resolver */
  constructor(memory: WayMemory, dial: (listener: DialListener) => Dial, framing = BY_LENGTH) {
    this.#memory = memory
    this.#dial = dial
    this.#framing = framing
  }

  prepare(inquiry: Inquiry, { withEdns }: AskChoices, nowMs: number): Attempt {
    const attempt = makeAttempt(this, inquiry, { withEdns, withCases: false }, this.#asked, nowMs)
    this.#asked.set(attempt.id, attempt)
    return attempt
  }

  send(attempt: Attempt): void {
    this.#unsent.push(this.#framing.frame(attempt.bytes))
    clearTimeout(this.#idle)
    if (this.#socket !== undefined) this.#write()
    else this.#connect()
  }

  withdraw(attempt: Attempt): void {
    if (this.#asked.get(attempt.id) === attempt) this.#asked.delete(attempt.id)
    this.#rest()
  }

  // ---- the connection ----

  #connect(): void {
    if (this.#dialing !== undefined || this.#closed) return
    let isOver = false
    const dial = this.#dial({
      onConnected: connected => {
        isOver = true
        this.onConnected(connected)
      },
      onFailed: error => {
        isOver = true
        this.onFailed(error)
      },
    })
    if (!isOver) this.#dialing = dial
  }

  onConnected({ socket, early, readable }: Connected): void {
    this.#dialing = undefined
    this.#socket = socket
    this.#isServed = false
    this.#writable = true
    socket.handOver(this)
    if (early !== undefined) this.#take(early)
    this.#write()
    if (readable) this.#read()
    this.#rest()
  }

  onFailed(error: DialError): void {
    this.#dialing = undefined
    this.#fail(error)
  }

  onReady(events: number): void {
    if (this.#socket === undefined) return
    if (events & WRITABLE) {
      this.#writable = true
      this.#write()
    }
    if (events & ~WRITABLE) this.#read()
    if (events & (READABLE | READ_HANGUP)) this.#rest()
  }

  /** Closes what nobody needs: at once when it does not stand yet, else after a time. */
  #rest(): void {
    if (this.#asked.size > 0) return
    clearTimeout(this.#idle)
    this.#unsent = this.#socket === undefined ? [] : this.#unsent
    this.#dialing?.cancel()
    this.#dialing = undefined
    const socket = this.#socket
    if (socket === undefined) return
    this.#idle = setTimeout(() => {
      if (this.#socket === socket && this.#asked.size === 0) this.#drop()
    }, IDLE_MS).unref()
  }

  #drop(): void {
    clearTimeout(this.#idle)
    this.#socket?.close(true)
    this.#socket = undefined
    this.#unsent = []
    this.#receivedBytes = 0
  }

  /**
   * The connection is lost: what was asked goes to a new one. Resolvers end a connection after some questions (dnsmasq: 100), and
   * what they have not read of it is lost with answers on their way; one that has answered none does so twice at most.
   */
  #lost(reason: string): void {
    this.#drop()
    const error: DialError = { failure: 'general', message: reason }
    for (const attempt of [...this.#asked.values()]) {
      if (attempt.isRepeated && !this.#isServed) this.#end(attempt, error)
      else {
        attempt.isRepeated ||= !this.#isServed
        this.#unsent.push(this.#framing.frame(attempt.bytes))
      }
    }
    if (this.#asked.size > 0) this.#connect()
  }

  #fail(error: DialError): void {
    this.#unsent = []
    for (const attempt of [...this.#asked.values()]) this.#end(attempt, error)
  }

  #end(attempt: Attempt, error: DialError): void {
    if (!this.#asked.delete(attempt.id)) return
    attempt.inquiry.onFailed(attempt, error)
  }

  // ---- bytes ----

  /** By way of the scratch memory, as much as it holds at a time. */
  #write(): void {
    const { bytes, words, scratch, scratchBytes } = this.#memory
    const room = scratchBytes - 16
    while (this.#writable && this.#socket !== undefined && this.#unsent.length > 0) {
      let filled = 0
      for (const frame of this.#unsent) {
        const part = frame.subarray(0, room - filled)
        bytes.set(part, scratch + 16 + filled)
        filled += part.length
        if (filled === room) break
      }
      words[scratch / 4] = scratch + 16
      words[scratch / 4 + 1] = filled
      const taken = this.#socket.poller.io.writev(this.#socket.fd, scratch, 1)
      if (taken === EAGAIN) this.#writable = false
      else if (taken < 0) return this.#broke(this.#socket)
      else this.#sent(taken)
    }
  }

  /** Nothing more can be written; answers may have come before that. Their clients hear of it when who asks has been told. */
  #broke(socket: Socket): void {
    this.#writable = false
    socket.poller.later(() => {
      if (this.#socket === socket) this.#read()
      if (this.#socket === socket) this.#lost('the connection to the resolver broke')
    })
  }

  #sent(taken: number): void {
    let left = taken
    while (left > 0) {
      const first = this.#unsent[0]!
      if (first.length > left) {
        this.#unsent[0] = first.subarray(left)
        return
      }
      left -= first.length
      this.#unsent.shift()
    }
  }

  #read(): void {
    const { bytes, words, scratch, scratchBytes } = this.#memory
    while (this.#socket !== undefined) {
      words[scratch / 4] = scratch + 16
      words[scratch / 4 + 1] = scratchBytes - 16
      const got = this.#socket.poller.io.readv(this.#socket.fd, scratch, 1)
      if (got === EAGAIN) return
      if (got <= 0) return this.#lost('the resolver ended the connection')
      this.#take(bytes.slice(scratch + 16, scratch + 16 + got))
    }
  }

  #take(part: Uint8Array): void {
    const needed = this.#receivedBytes + part.length
    if (needed > this.#received.length) {
      const grown = Buffer.alloc(Math.max(needed, 2 * this.#received.length))
      this.#received.copy(grown, 0, 0, this.#receivedBytes)
      this.#received = grown
    }
    this.#received.set(part, this.#receivedBytes)
    this.#receivedBytes = needed
    const received = this.#received
    let at = 0
    while (this.#receivedBytes === needed) {
      const found = this.#framing.next(received, at, needed)
      if (found === undefined) break
      if (found === 'malformed') return this.#lost('the resolver says what cannot be read')
      this.#message(found.message)
      at = found.end
    }
    if (this.#receivedBytes !== needed || at === 0) return // the connection is gone, or nothing is whole
    received.copyWithin(0, at, needed)
    this.#receivedBytes -= at
  }

  #message(bytes: Buffer): void {
    const attempt = bytes.length < 2 ? undefined : this.#asked.get(readU16(bytes, 0))
    if (attempt === undefined) return // of a question that was given up
    const verdict = acceptAnswer(bytes, bytes.length, attempt, this.#answer)
    if (verdict === Verdict.foreign) return this.#lost('the resolver sends what was not asked for')
    this.#isServed = true
    this.#asked.delete(attempt.id)
    attempt.inquiry.onAnswer(attempt, verdict, bytes, this.#answer)
  }

  close(): void {
    this.#closed = true
    this.#dialing?.cancel()
    this.#dialing = undefined
    this.#asked.clear()
    this.#drop()
  }
}
