/** DNS in datagrams, to one resolver. Whether an answer is one is decided here: its source, its ID, its question, its letters' case. */
import { acceptAnswer, type UpstreamAnswer, Verdict } from '../dns/upstream-answer.ts'
import { readU16 } from '../dns/wire.ts'
import type { IpEndpoint } from '../endpoint.ts'
import type { DialError } from '../upstream/dialer.ts'
import { type AskChoices, type Attempt, type Inquiry, makeAttempt, type Way } from './way.ts'

/** Carries datagrams to resolvers, and what comes back to the way of its source. */
export interface Carrier {
  /** As `Way.heldUntil`. */
  readonly heldUntil: number
  /** Sends, or keeps until it can. */
  send(way: DatagramWay, message: Buffer, nowMs: number): void
  /** Nothing is waited for on this way any more. */
  rest(way: DatagramWay): void
  close(): void
}

export interface DatagramCounters {
  /** Datagrams that were no answer to what was asked: late, or forged. */
  dns_foreign_answers: number
}

export class DatagramWay implements Way {
  readonly isStream = false
  readonly resolver: IpEndpoint
  readonly #carrier: Carrier
  readonly #counters: DatagramCounters
  readonly #asked = new Map<number, Attempt>()
  readonly #answer: UpstreamAnswer = { bytes: 0, rcode: 0 }

  constructor(resolver: IpEndpoint, carrier: Carrier, counters: DatagramCounters) {
    this.resolver = resolver
    this.#carrier = carrier
    this.#counters = counters
  }

  get heldUntil(): number {
    return this.#carrier.heldUntil
  }

  /** Something is waited for. */
  get isBusy(): boolean {
    return this.#asked.size > 0
  }

  prepare(inquiry: Inquiry, choices: AskChoices, nowMs: number): Attempt {
    const attempt = makeAttempt(this, inquiry, choices, this.#asked, nowMs)
    this.#asked.set(attempt.id, attempt)
    return attempt
  }

  send(attempt: Attempt, nowMs: number): void {
    attempt.sentAt = nowMs
    this.#carrier.send(this, attempt.bytes, nowMs)
  }

  withdraw(attempt: Attempt): void {
    if (this.#asked.get(attempt.id) === attempt) this.#asked.delete(attempt.id)
    if (this.#asked.size === 0) this.#carrier.rest(this)
  }

  /** A datagram that came from the resolver's own address and port. */
  receive(bytes: Buffer, length: number): void {
    const attempt = length < 2 ? undefined : this.#asked.get(readU16(bytes, 0))
    const verdict = attempt === undefined ? Verdict.foreign : acceptAnswer(bytes, length, attempt, this.#answer)
    if (attempt === undefined || verdict === Verdict.foreign) {
      this.#counters.dns_foreign_answers++
      if (attempt?.exactCase !== true) return
      const inAnyCase = acceptAnswer(bytes, length, { ...attempt, exactCase: false }, this.#answer)
      if (inAnyCase !== Verdict.foreign) attempt.inquiry.onMangled(attempt)
      return
    }
    this.#asked.delete(attempt.id)
    attempt.inquiry.onAnswer(attempt, verdict, bytes.subarray(0, length), this.#answer)
    if (this.#asked.size === 0) this.#carrier.rest(this)
  }

  /** Datagrams cannot be carried. */
  failed(error: DialError): void {
    for (const attempt of [...this.#asked.values()])
      if (this.#asked.delete(attempt.id)) attempt.inquiry.onFailed(attempt, error)
  }

  close(): void {
    this.#asked.clear()
    this.#carrier.rest(this)
  }
}
