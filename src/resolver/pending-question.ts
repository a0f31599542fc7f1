/** A question that is being asked, for all clients that ask it: on one way after another until an answer comes. */

import { STALE_AFTER_MS } from '../dns/cache.ts'
import type { Query } from '../dns/question.ts'
import { type UpstreamAnswer, Verdict } from '../dns/upstream-answer.ts'
import { Rcode } from '../dns/wire.ts'
import type { DialError } from '../upstream/dialer.ts'
import { nextRung, type Resolver, type Rung } from './rung.ts'
import type { Attempt, Inquiry } from './way.ts'

/** A way without an answer by then is left; one that comes later still counts. */
export const ATTEMPT_MS = 2_000
/** A datagram without an answer is sent again then, once: the path may have lost it. */
const REPEAT_MS = 700
/** A way of which it is not known whether it works gets company after so long. */
const UNPROVEN_MS = 400
/** Programs wait 5 s for their resolver (resolv.conf(5)): with a look more, and the way to them, they get SERVFAIL before that. */
const QUESTION_MS = 4_800

/** Milliseconds between looks at what is pending. */
export const TICK_MS = 100

/** Who waits; the answer is written for each anew: another ID, other letters, another size. */
export interface Waiting {
  readonly query: Query
  /** The message up to the end of its question. */
  readonly asked: Buffer
  readonly limit: number
  readonly listener: AnswerListener
}

export interface AnswerListener {
  /** Once. `bytes` hold until it returns. */
  onAnswer(bytes: Buffer, length: number): void
}

export interface QuestionHost {
  readonly now: number
  /** A whole answer, `answer.bytes` of `bytes`. */
  resolved(question: PendingQuestion, bytes: Buffer, answer: UpstreamAnswer): void
  /** None; `rcode` is what the last resolver said, SERVFAIL if none did. */
  unresolved(question: PendingQuestion, rcode: Rcode): void
  /** The upstream is silent for so long that what is stale may be said. */
  late(question: PendingQuestion): void
  answeredBy(resolver: Resolver, rung: Rung): void
  left(resolver: Resolver, rung: Rung, error: DialError): void
  readonly counters: { dns_upstream_queries: number }
}

const SILENT: DialError = { failure: 'timeout', message: 'no answer' }
/** It is the proxy that is away, or this machine that has no socket: every way would fail so. */
const NOT_THE_WAY = new Set<DialError['failure']>(['upstream-down', 'no-resources', 'authentication'])

export class PendingQuestion implements Inquiry {
  readonly key: string
  readonly resolver: Resolver
  readonly query: Query
  readonly asked: Buffer
  /** Addresses are taken out of its answer. */
  readonly withoutHints: boolean
  /** Something stale may be said meanwhile. */
  readonly hasStale: boolean
  waiting: Waiting[]
  /** Why each way failed, since a resolver has said something. */
  readonly #reasons = new Map<Rung, string>()
  readonly #host: QuestionHost
  readonly #startedAt: number
  readonly #tried = new Set<Rung>()
  readonly #attempts = new Map<Attempt, Rung>()
  /** Those that had their time. */
  readonly #late = new Set<Attempt>()
  #rcode: Rcode = Rcode.serverFailure
  /** Clients were told what is stale. */
  wasLate = false
  /** Its answers came with letters in another case. */
  #mangling: Rung | undefined
  #isOver = false

  constructor(host: QuestionHost, resolver: Resolver, first: Waiting, withoutHints: boolean, hasStale: boolean) {
    this.#host = host
    this.resolver = resolver
    this.key = first.query.key
    this.query = first.query
    this.asked = first.asked
    this.waiting = [first]
    this.withoutHints = withoutHints
    this.hasStale = hasStale
    this.#startedAt = host.now
  }

  /** The same for people; undefined where none has. */
  get reason(): string | undefined {
    if (this.#reasons.size === 0) return undefined
    return [...this.#reasons].map(([{ name }, reason]) => `${name}: ${reason}`).join('; ')
  }

  start(): void {
    this.#next()
  }

  #next(): void {
    if (this.#isOver) return
    const { now } = this.#host
    const rung = nextRung(this.resolver.rungs, this.#tried, now)
    if (rung !== undefined) this.#ask(rung, true)
    else if (this.#attempts.size === 0) this.#end(() => this.#host.unresolved(this, this.#rcode))
  }

  #ask(rung: Rung, withEdns: boolean): void {
    const { now, counters } = this.#host
    this.#tried.add(rung)
    const attempt = rung.ask(this, withEdns, now)
    this.#attempts.set(attempt, rung)
    counters.dns_upstream_queries++
    attempt.way.send(attempt, now)
  }

  /** Called every `TICK_MS`. */
  tick(): void {
    const { now } = this.#host
    if (now - this.#startedAt >= QUESTION_MS) return this.#end(() => this.#host.unresolved(this, this.#rcode))
    if (this.hasStale && !this.wasLate && now - this.#startedAt >= STALE_AFTER_MS) {
      this.wasLate = true
      this.#host.late(this)
    }
    let isAlone = true
    for (const [attempt, rung] of [...this.#attempts]) {
      if (now - attempt.startedAt >= ATTEMPT_MS) this.#silent(attempt, rung)
      else if (rung.isProven || now - attempt.startedAt < UNPROVEN_MS) isAlone = false
      if (!attempt.isStream && !attempt.isRepeated && now - attempt.sentAt >= REPEAT_MS) this.#repeat(attempt)
    }
    if (isAlone) this.#next()
  }

  #repeat(attempt: Attempt): void {
    if (!this.#attempts.has(attempt)) return
    attempt.isRepeated = true
    attempt.way.send(attempt, this.#host.now)
  }

  #silent(attempt: Attempt, rung: Rung): void {
    if (this.#late.has(attempt)) return
    this.#late.add(attempt)
    this.#leave(attempt, rung, SILENT)
  }

  #leave(attempt: Attempt, rung: Rung, error: DialError): void {
    this.#reasons.set(rung, error.message)
    const before = rung.leftUntil
    rung.failed(attempt, this.#host.now)
    if (rung.leftUntil > before) this.#host.left(this.resolver, rung, error)
  }

  onFailed(attempt: Attempt, error: DialError): void {
    const rung = this.#attempts.get(attempt)
    if (rung === undefined) return
    this.#attempts.delete(attempt)
    this.#reasons.set(rung, error.message)
    if (NOT_THE_WAY.has(error.failure)) rung.ended(attempt)
    else this.#leave(attempt, rung, error)
    this.#next()
  }

  /** Datagrams cannot tell whose fault it was: a stream can. Where that fails, letters' case is not used with this resolver any more. */
  onMangled(attempt: Attempt): void {
    const rung = this.#attempts.get(attempt)
    if (rung === undefined) return
    const stream = this.#streamTo(rung.target)
    this.#mangling = rung
    if (stream !== undefined) return this.#ask(stream, attempt.hasEdns)
    for (const other of this.#attempts.values()) if (other.way.isStream && other.target === rung.target) return
    rung.keepsCase = false
    this.#attempts.delete(attempt)
    attempt.way.withdraw(attempt)
    this.#ask(rung, attempt.hasEdns)
  }

  #streamTo(target: string): Rung | undefined {
    return this.resolver.rungs.find(rung => rung.target === target && rung.way.isStream && !this.#tried.has(rung))
  }

  onAnswer(attempt: Attempt, verdict: Exclude<Verdict, 'foreign'>, bytes: Buffer, answer: UpstreamAnswer): void {
    const rung = this.#attempts.get(attempt)
    if (rung === undefined || this.#isOver) return
    this.#attempts.delete(attempt)
    this.#reasons.clear()
    if (verdict === Verdict.failed) {
      this.#refused(attempt, rung, answer.rcode as Rcode)
      return this.#next()
    }
    rung.answered(attempt, this.#host.now)
    if (verdict === Verdict.accepted) {
      if (rung.way.isStream) this.#mangling?.leave(this.#host.now)
      this.#outrun()
      this.#host.answeredBy(this.resolver, rung)
      return this.#end(() => this.#host.resolved(this, bytes, answer))
    }
    if (verdict === Verdict.withoutEdns) return this.#ask(rung, false)
    const stream = this.#streamTo(rung.target)
    if (stream !== undefined) this.#ask(stream, attempt.hasEdns)
    else this.#next()
  }

  /** Ways that had company, and were slower all the same. */
  #outrun(): void {
    const { now } = this.#host
    for (const [attempt, rung] of this.#attempts)
      if (!rung.isProven && now - attempt.startedAt >= UNPROVEN_MS) this.#leave(attempt, rung, SILENT)
  }

  /** The resolver could not, or would not: it would say so by every way. One that serves nobody like us is left alone. */
  #refused(attempt: Attempt, rung: Rung, rcode: Rcode): void {
    const { now } = this.#host
    const servesNobody = rcode === Rcode.refused && !rung.isProven
    this.#rcode = rcode
    if (servesNobody) rung.ended(attempt)
    else rung.answered(attempt, now)
    for (const other of this.resolver.rungs) {
      if (other.target !== rung.target) continue
      this.#tried.add(other)
      if (servesNobody) other.leave(now)
    }
  }

  #end(tell: () => void): void {
    if (this.#isOver) return
    this.#isOver = true
    for (const [attempt, rung] of this.#attempts) {
      rung.ended(attempt)
      attempt.way.withdraw(attempt)
    }
    this.#attempts.clear()
    tell()
  }
}
