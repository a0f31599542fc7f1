/**
 * A way to a resolver: datagrams by an association, a stream through the proxy, TLS, or sockets of our own. It makes the query, finds
 * the answer that belongs to it, and knows nothing of clients.
 */
import { randomFillSync } from 'node:crypto'
import type { Query } from '../dns/question.ts'
import type { Asked, UpstreamAnswer, Verdict } from '../dns/upstream-answer.ts'
import { CASE_BYTES, MAX_QUERY_BYTES, writeUpstreamQuery } from '../dns/upstream-query.ts'
import type { DialError } from '../upstream/dialer.ts'

/** What is to be found out: a client's question. */
export interface Inquiry {
  /** The client's message up to the end of its question. */
  readonly asked: Buffer
  readonly query: Query
  /** Each attempt ends by one of these, or by `withdraw`. `bytes` hold until it returns. */
  onAnswer(attempt: Attempt, verdict: Exclude<Verdict, 'foreign'>, bytes: Buffer, answer: UpstreamAnswer): void
  onFailed(attempt: Attempt, error: DialError): void
  /** An answer came that differs in the case of its letters: the resolver's fault, or a forger's guess. The attempt goes on. */
  onMangled(attempt: Attempt): void
}

/** An inquiry on one way. */
export interface Attempt extends Asked {
  readonly bytes: Buffer
  readonly inquiry: Inquiry
  readonly way: Way
  readonly id: number
  /** As `Way.prepare` was told. */
  readonly startedAt: number
  /** Datagrams: when it was sent last. Streams: it was given to a second connection. */
  sentAt: number
  isRepeated: boolean
}

export interface AskChoices {
  readonly withEdns: boolean
  readonly withCases: boolean
}

export interface Way {
  readonly isStream: boolean
  /** The proxy said that there is no such way: not before then, in the milliseconds of `send`. */
  readonly heldUntil: number
  /** Makes the query; nothing is sent yet. */
  prepare(inquiry: Inquiry, choices: AskChoices, nowMs: number): Attempt
  /** Datagrams may be sent again, streams lose nothing. The attempt may have failed when this returns; no other has ended. */
  send(attempt: Attempt, nowMs: number): void
  withdraw(attempt: Attempt): void
  close(): void
}

/** The memory of the stack that a way may use: as an arena, and where datagrams land. Nothing of it outlives a call. */
export interface WayMemory {
  readonly bytes: Uint8Array
  /** The same memory as u32. */
  readonly words: Uint32Array
  /** Byte offset, 16-byte aligned; 4 KiB at least. */
  readonly scratch: number
  readonly scratchBytes: number
  /** Tables as `Io.recvDatagrams` takes them. */
  readonly landingTable: number
  readonly landingSlots: number
  readonly landingBytes: number
  readonly landed: number
}

/** Two of the ID and as many as there are cases, taken from the kernel 128 at a time. */
const CHANCE_BYTES = 2 + CASE_BYTES
const chance = Buffer.alloc(128 * CHANCE_BYTES)
let chanceAt = chance.length
const written = Buffer.alloc(MAX_QUERY_BYTES)

function takeChance(): number {
  if (chanceAt === chance.length) {
    randomFillSync(chance)
    chanceAt = 0
  }
  const at = chanceAt
  chanceAt += CHANCE_BYTES
  return at
}

/** An ID that is none of `used`, which has far less than all. */
function unusedId(used: { has(id: number): boolean }): number {
  for (;;) {
    const id = chance.readUInt16BE(takeChance())
    if (!used.has(id)) return id
  }
}

export function makeAttempt(
  way: Way,
  inquiry: Inquiry,
  { withEdns, withCases }: AskChoices,
  used: { has(id: number): boolean },
  nowMs: number,
): Attempt {
  const id = unusedId(used)
  const at = takeChance() + 2
  const cases = withCases ? chance.subarray(at, at + CASE_BYTES) : undefined
  const length = writeUpstreamQuery(written, inquiry.asked, inquiry.query, id, cases, withEdns)
  return {
    inquiry,
    way,
    id,
    bytes: Buffer.from(written.subarray(0, length)),
    query: inquiry.query,
    exactCase: withCases,
    hasEdns: withEdns,
    isStream: way.isStream,
    startedAt: nowMs,
    sentAt: nowMs,
    isRepeated: false,
  }
}
