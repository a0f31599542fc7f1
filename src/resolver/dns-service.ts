/**
 * Answers the queries of clients: from the name map, from the cache, or by asking a resolver through the upstream, or directly where
 * the configuration says so for a name. No promise and no object is made for a query that is answered at once.
 */
import { answerBytesOf, writeError, writeForwarded } from '../dns/answer.ts'
import type { AnswerCache, Kept } from '../dns/cache.ts'
import { answerFromMap, FORWARD_WITHOUT_HINTS } from '../dns/map-answers.ts'
import type { NameMap } from '../dns/name-map.ts'
import { emptyQuery, nameOf, parseQuery, SILENCE, SOUND } from '../dns/question.ts'
import { withoutHints } from '../dns/service-hints.ts'
import type { SuffixTable } from '../dns/split.ts'
import type { UpstreamAnswer } from '../dns/upstream-answer.ts'
import { MALFORMED, MAX_MESSAGE_BYTES, Rcode } from '../dns/wire.ts'
import type { DialError } from '../upstream/dialer.ts'
import { zeroDnsCounters } from './dns-counters.ts'
import { type AnswerListener, PendingQuestion, type QuestionHost, TICK_MS, type Waiting } from './pending-question.ts'
import type { Resolver, Rung } from './rung.ts'

/** `DnsService.answer`: nothing is to be sent. */
export const NO_ANSWER = 0
/** `DnsService.answer`: call `ask` at once, or the query is lost. */
export const PENDING = -1

/** Questions that are asked at a time; beyond them SERVFAIL. */
export const MAX_QUESTIONS = 4_096
/** Clients that wait for one question; beyond them SERVFAIL. */
const MAX_WAITING = 256
/** Transfers of whole zones are many messages long (RFC 5936): no resolver's business. */
const FIRST_TRANSFER = 251
const LAST_TRANSFER = 252

export interface DnsLog {
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
}

/** Lines of the log about names, at most so many in so long: a client may ask any number of resolvers. */
const MAX_LINES = 8
const LINES_MS = 60_000

export interface DnsParts {
  readonly cache: AnswerCache
  /** undefined: names get no virtual addresses. */
  readonly map: NameMap | undefined
  /** Names whose resolver is asked directly. */
  readonly split: SuffixTable<Resolver>
  readonly log: DnsLog
  /** Milliseconds that never go back, of the cache and the map as well. */
  readonly clock: () => number
  /** Does the work as a turn of the data plane. */
  readonly turn: (work: () => void) => void
}

export class DnsService implements QuestionHost {
  readonly counters = zeroDnsCounters()
  now: number
  readonly #parts: DnsParts
  readonly #pending = new Map<string, PendingQuestion>()
  readonly #query = emptyQuery()
  /** What `answer` leaves for `ask`. */
  #asked: Buffer = Buffer.alloc(0)
  #limit = 0
  #resolver: Resolver | undefined
  #withoutHints = false
  #hasStale = false
  readonly #out = Buffer.alloc(MAX_MESSAGE_BYTES)
  readonly #stripped = Buffer.alloc(MAX_MESSAGE_BYTES)
  #ticker: NodeJS.Timeout | undefined
  #lines = 0
  #linesSince = Number.NEGATIVE_INFINITY
  #complainedAt = Number.NEGATIVE_INFINITY

  constructor(parts: DnsParts) {
    this.#parts = parts
    this.now = parts.clock()
  }

  /** Questions that are being asked. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Answers the message of `length` bytes into `out`, which has room for as many as a datagram's answer may have (`EDNS_BYTES`), or
   * for a stream's `MAX_MESSAGE_BYTES`: the bytes of the answer, `NO_ANSWER` or `PENDING`.
   */
  answer(out: Buffer, asked: Buffer, length: number, isStream: boolean, resolver: Resolver): number {
    const query = this.#query
    const { cache, map, split } = this.#parts
    this.now = this.#parts.clock()
    this.counters.dns_queries++
    const verdict = parseQuery(asked, length, query)
    if (verdict !== SOUND) {
      this.counters.dns_malformed++
      return verdict === SILENCE ? NO_ANSWER : writeError(out, asked, query, verdict as Rcode)
    }
    if (query.type === FIRST_TRANSFER || query.type === LAST_TRANSFER)
      return writeError(out, asked, query, Rcode.notImplemented)
    const own = split.size === 0 ? undefined : split.find(nameOf(asked, query))
    let mapped = 0
    if (own === undefined && map !== undefined) {
      mapped = answerFromMap(out, asked, query, map, this.now)
      if (mapped > 0) {
        this.counters.dns_from_map++
        return mapped
      }
    }
    const from = own ?? resolver
    query.key = from.prefix + query.key
    const limit = isStream ? MAX_MESSAGE_BYTES : answerBytesOf(query)
    const kept = cache.find(query, this.now)
    if (kept !== undefined && cache.freshness(kept, this.now) !== 'stale')
      return this.#fromCache(out, asked, kept, limit)
    if (this.#isFull()) {
      this.counters.dns_limit++
      return writeError(out, asked, query, Rcode.serverFailure)
    }
    this.#asked = asked
    this.#limit = limit
    this.#resolver = from
    this.#withoutHints = mapped === FORWARD_WITHOUT_HINTS
    this.#hasStale = kept !== undefined
    return PENDING
  }

  #fromCache(out: Buffer, asked: Buffer, kept: Kept, limit: number): number {
    this.counters.dns_from_cache++
    return this.#parts.cache.write(out, asked, this.#query, kept, this.now, limit)
  }

  #isFull(): boolean {
    const same = this.#pending.get(this.#query.key)
    return same === undefined ? this.#pending.size >= MAX_QUESTIONS : same.waiting.length >= MAX_WAITING
  }

  /** The query of the last `answer`. The listener may be called before this returns. */
  ask(listener: AnswerListener): void {
    const query = { ...this.#query }
    const asked = Buffer.from(this.#asked.subarray(0, query.questionEnd))
    const waiting: Waiting = { query, asked, limit: this.#limit, listener }
    const same = this.#pending.get(query.key)
    if (same !== undefined) {
      same.waiting.push(waiting)
      if (same.wasLate) this.late(same)
      return
    }
    const question = new PendingQuestion(this, this.#resolver!, waiting, this.#withoutHints, this.#hasStale)
    this.#pending.set(question.key, question)
    this.#ticker ??= setInterval(() => this.#parts.turn(() => this.tick()), TICK_MS).unref()
    question.start()
  }

  /** Called every `TICK_MS` as long as something is pending. */
  tick(): void {
    this.now = this.#parts.clock()
    for (const question of this.#pending.values()) question.tick()
    if (this.#pending.size > 0) return
    clearInterval(this.#ticker)
    this.#ticker = undefined
  }

  // ---- how questions end ----

  resolved(question: PendingQuestion, bytes: Buffer, answer: UpstreamAnswer): void {
    this.#pending.delete(question.key)
    let whole = bytes
    let length = answer.bytes
    if (question.withoutHints) {
      whole = this.#stripped
      length = withoutHints(whole, bytes, answer.bytes, question.query.questionEnd)
      if (length === MALFORMED) return this.unresolved(question, Rcode.serverFailure)
    }
    this.#parts.cache.keep(question.query, whole, length, this.#readClock())
    this.#tell(question, ({ asked, query, limit }) => writeForwarded(this.#out, asked, query, whole, length, limit))
  }

  unresolved(question: PendingQuestion, rcode: Rcode): void {
    this.#pending.delete(question.key)
    const { cache } = this.#parts
    const now = this.#readClock()
    if (cache.failed(question.query, now)) return this.late(question)
    this.counters.dns_failed += question.waiting.length
    const { reason, resolver } = question
    if (reason !== undefined) this.#complain({ resolver: resolver.name, reason })
    this.#tell(question, ({ asked, query }) => writeError(this.#out, asked, query, rcode))
  }

  late(question: PendingQuestion): void {
    const { cache } = this.#parts
    const kept = cache.find(question.query, this.now)
    if (kept === undefined) return
    this.counters.dns_stale += question.waiting.length
    this.#tell(question, ({ asked, query, limit }) => cache.write(this.#out, asked, query, kept, this.now, limit))
  }

  /** Who is told may ask again at once. */
  #tell(question: PendingQuestion, write: (waiting: Waiting) => number): void {
    const all = question.waiting
    question.waiting = []
    for (const waiting of all) waiting.listener.onAnswer(this.#out, write(waiting))
  }

  #readClock(): number {
    this.now = this.#parts.clock()
    return this.now
  }

  answeredBy(resolver: Resolver, rung: Rung): void {
    if (resolver.answeredBy === rung) return
    resolver.answeredBy = rung
    this.#complainedAt = Number.NEGATIVE_INFINITY
    this.#inform('names are resolved', { resolver: resolver.name, by: rung.name })
  }

  left(resolver: Resolver, rung: Rung, { message }: DialError): void {
    if (resolver.answeredBy !== rung) return
    resolver.answeredBy = undefined
    this.#inform('names cannot be resolved as before', { resolver: resolver.name, by: rung.name, reason: message })
  }

  #inform(message: string, fields: Record<string, unknown>): void {
    if (this.now - this.#linesSince >= LINES_MS) {
      this.#linesSince = this.now
      this.#lines = 0
    }
    if (this.#lines++ < MAX_LINES) this.#parts.log.info(message, fields)
  }

  /** Once a minute, and again after a resolver has answered. */
  #complain(fields: Record<string, unknown>): void {
    if (this.now - this.#complainedAt < LINES_MS) return
    this.#complainedAt = this.now
    this.#parts.log.warn('names cannot be resolved', fields)
  }

  /** Clients that wait hear nothing. */
  close(): void {
    clearInterval(this.#ticker)
    this.#ticker = undefined
    this.#pending.clear()
  }
}
