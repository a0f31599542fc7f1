/**
 * Answers kept for as long as they hold: positive ones (RFC 1035 §7.4), negative ones (RFC 2308 §5), failures for a moment
 * (RFC 9520 §3.2), and for a day longer what may be said while the upstream is silent (RFC 8767).
 *
 * Bounded by number and by bytes; at either bound the least recently used goes. An answer is one string on V8's heap, one
 * character a byte: a string has no pointers to follow and no memory of its own outside, so 100,000 cost the garbage collector
 * next to nothing. Times are milliseconds of one clock that never goes back.
 */
import { writeError, writeKept } from './answer.ts'
import type { Query } from './question.ts'
import {
  ANSWERS_AT,
  countRecords,
  FLAGS_AT,
  Flag,
  MALFORMED,
  Rcode,
  readRecord,
  readU16,
  readU32,
  recordFields,
  skipName,
  Type,
} from './wire.ts'

export const CACHE_DEFAULTS = { entries: 100_000, bytes: 32 << 20, staleSeconds: 86_400 } as const

export interface CacheLimits {
  readonly entries: number
  /** Of keys and answers, and `ENTRY_OVERHEAD_BYTES` for each. */
  readonly bytes: number
  /** How long an answer may be used when its TTL is over (RFC 8767 §5: 1 to 3 days); 0 for not at all. */
  readonly staleSeconds: number
}

/** What an entry costs beside its key and its answer: 175 bytes with 100,000 of them on Node 20, and what the table grows by. */
export const ENTRY_OVERHEAD_BYTES = 200
/** Longer answers are not kept: no name that is asked for often has one. */
export const MAX_KEPT_BYTES = 16_384
/** No TTL counts for more; one with its top bit set counts as 0 (RFC 2181 §8, RFC 8767 §4). */
export const MAX_TTL_SECONDS = 86_400
/** RFC 2308 §5: one to three hours work well. */
export const MAX_NEGATIVE_SECONDS = 10_800
export const FAILURE_SECONDS = 5
/** RFC 8767 §5: the TTL of an answer whose own is over. */
export const STALE_TTL_SECONDS = 30
/** RFC 8767 §5: how long the upstream is not asked again after it failed while there was a stale answer. */
export const RETRY_SECONDS = 30
/** RFC 8767 §5: how long a client waits for the upstream while there is a stale answer. Whoever asks keeps the time. */
export const STALE_AFTER_MS = 1_800

/** An answer in the cache; for `AnswerCache` alone but for being handed back. */
export interface Kept {
  readonly key: string
  /** '' for a failure. */
  readonly answer: string
  /** Seconds of the cache's clock. */
  readonly keptAt: number
  readonly freshUntil: number
  readonly staleUntil: number
  /** Before then the upstream is not asked. */
  retryAt: number
  readonly maxTtl: number
  older: Kept | undefined
  newer: Kept | undefined
}

/** `failing`: stale, and the upstream failed so lately that it is not asked again: answer at once. */
export type Freshness = 'fresh' | 'stale' | 'failing'

const record = recordFields()

export class AnswerCache {
  readonly #limits: CacheLimits
  readonly #kept = new Map<string, Kept>()
  #oldest: Kept | undefined
  #newest: Kept | undefined
  #bytes = 0
  /** Evicted at a bound, though they might have been used again. */
  evicted = 0

  constructor(limits: CacheLimits = CACHE_DEFAULTS) {
    this.#limits = limits
  }

  get entries(): number {
    return this.#kept.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** What is known about the query, fresh or stale; it counts as used. */
  find(query: Query, nowMs: number): Kept | undefined {
    const kept = this.#kept.get(query.key)
    if (kept === undefined) return undefined
    if (toSeconds(nowMs) >= kept.staleUntil) {
      this.#remove(kept)
      return undefined
    }
    if (kept !== this.#newest) {
      this.#unlink(kept)
      this.#link(kept)
    }
    return kept
  }

  freshness(kept: Kept, nowMs: number): Freshness {
    const now = toSeconds(nowMs)
    if (now < kept.freshUntil) return 'fresh'
    return now < kept.retryAt ? 'failing' : 'stale'
  }

  /** Writes what `find` gave, see `writeKept`: with TTLs that count down, or that of a stale answer; SERVFAIL for a failure. */
  write(out: Buffer, asked: Uint8Array, query: Query, kept: Kept, nowMs: number, limit: number): number {
    if (kept.answer === '') return writeError(out, asked, query, Rcode.serverFailure)
    const now = toSeconds(nowMs)
    if (now >= kept.freshUntil) return writeKept(out, asked, query, kept.answer, -1, STALE_TTL_SECONDS, limit)
    return writeKept(out, asked, query, kept.answer, now - kept.keptAt, kept.maxTtl, limit)
  }

  /**
   * Keeps the answer to `query`, accepted by `acceptAnswer`: `length` bytes, without OPT. False when it may not be kept; what
   * was known before is forgotten all the same, for the upstream has spoken.
   */
  keep(query: Query, bytes: Buffer, length: number, nowMs: number): boolean {
    if ((readU16(bytes, FLAGS_AT) & Flag.truncated) !== 0) return false
    const known = this.#kept.get(query.key)
    if (known !== undefined) this.#remove(known)
    const lifetime = lifetimeOf(bytes, length, query)
    if (lifetime.seconds <= 0 || length > MAX_KEPT_BYTES) return false
    return this.#put(query.key, bytes.toString('latin1', 0, length), lifetime, toSeconds(nowMs))
  }

  /**
   * The upstream failed, or was silent. True if there is an answer that may be used all the same, and will be until the
   * upstream is asked again; else the failure itself is remembered for a moment.
   */
  failed(query: Query, nowMs: number): boolean {
    const kept = this.#kept.get(query.key)
    const now = toSeconds(nowMs)
    if (kept !== undefined && kept.answer !== '' && now < kept.staleUntil) {
      kept.retryAt = now + RETRY_SECONDS
      return true
    }
    if (kept !== undefined) this.#remove(kept)
    this.#put(query.key, '', FAILURE, now)
    return false
  }

  #put(key: string, answer: string, lifetime: Lifetime, now: number): boolean {
    const size = sizeOf(key, answer)
    if (size > this.#limits.bytes || this.#limits.entries < 1) return false
    while (this.#kept.size >= this.#limits.entries || this.#bytes + size > this.#limits.bytes) {
      this.#remove(this.#oldest!)
      this.evicted++
    }
    const freshUntil = now + lifetime.seconds
    const kept: Kept = {
      key,
      answer,
      keptAt: now,
      freshUntil,
      staleUntil: freshUntil + (lifetime.mayBeStale ? this.#limits.staleSeconds : 0),
      retryAt: 0,
      maxTtl: lifetime.maxTtl,
      older: undefined,
      newer: undefined,
    }
    this.#kept.set(key, kept)
    this.#link(kept)
    this.#bytes += size
    return true
  }

  #remove(kept: Kept): void {
    this.#kept.delete(kept.key)
    this.#unlink(kept)
    this.#bytes -= sizeOf(kept.key, kept.answer)
  }

  #link(kept: Kept): void {
    kept.older = this.#newest
    kept.newer = undefined
    if (this.#newest === undefined) this.#oldest = kept
    else this.#newest.newer = kept
    this.#newest = kept
  }

  #unlink(kept: Kept): void {
    if (kept.older === undefined) this.#oldest = kept.newer
    else kept.older.newer = kept.newer
    if (kept.newer === undefined) this.#newest = kept.older
    else kept.newer.older = kept.older
  }
}

function sizeOf(key: string, answer: string): number {
  return key.length + answer.length + ENTRY_OVERHEAD_BYTES
}

function toSeconds(ms: number): number {
  return Math.floor(ms / 1_000)
}

interface Lifetime {
  /** 0: it may not be kept. */
  readonly seconds: number
  /** What no TTL in it may exceed when it is served. */
  readonly maxTtl: number
  readonly mayBeStale: boolean
}

const NOT_KEPT: Lifetime = { seconds: 0, maxTtl: 0, mayBeStale: false }
const FAILURE: Lifetime = { seconds: FAILURE_SECONDS, maxTtl: FAILURE_SECONDS, mayBeStale: false }

/**
 * How long an answer holds. Negative is NXDOMAIN, and NOERROR without a record of the type asked for; that takes a SOA, whose
 * minimum and TTL bound it (RFC 2308 §5): without one nobody knows how long it holds, and it is not kept.
 */
function lifetimeOf(bytes: Uint8Array, length: number, query: Query): Lifetime {
  const rcode = readU16(bytes, FLAGS_AT) & Flag.rcode
  const isNegative = rcode === Rcode.noSuchName
  if (rcode !== Rcode.noError && !isNegative) return NOT_KEPT
  const answers = readU16(bytes, ANSWERS_AT)
  let positive = false
  let minimum = 0
  let seconds = MAX_TTL_SECONDS
  let at = query.questionEnd
  for (let index = 0, count = countRecords(bytes); index < count; index++) {
    at = readRecord(bytes, at, length, record)
    if (at === MALFORMED) return NOT_KEPT
    seconds = Math.min(seconds, soundTtl(record.ttl))
    if (index < answers) positive ||= record.type === query.type || query.type === Type.any
    else if (record.type === Type.soa) minimum = soaMinimum(bytes, at)
  }
  if (positive && !isNegative) return { seconds, maxTtl: MAX_TTL_SECONDS, mayBeStale: true }
  seconds = Math.min(seconds, minimum, MAX_NEGATIVE_SECONDS)
  return { seconds, maxTtl: seconds, mayBeStale: true }
}

function soundTtl(ttl: number): number {
  return ttl > 0x7fff_ffff ? 0 : ttl
}

/** The last of the SOA's five numbers (RFC 1035 §3.3.13), of the record just read; 0 when there is no room for it. */
function soaMinimum(bytes: Uint8Array, end: number): number {
  const name = skipName(bytes, record.dataAt, end)
  const mail = name === MALFORMED ? MALFORMED : skipName(bytes, name, end)
  return mail === MALFORMED || mail + 20 !== end ? 0 : soundTtl(readU32(bytes, end - 4))
}
