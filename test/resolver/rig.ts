/** A service with ways that the test speaks for, and a clock that it moves. */
import type { ExecutionContext } from 'ava'
import { EDNS_BYTES } from '../../src/dns/answer.ts'
import { AnswerCache, CACHE_DEFAULTS } from '../../src/dns/cache.ts'
import type { NameMap } from '../../src/dns/name-map.ts'
import { SuffixTable } from '../../src/dns/split.ts'
import { acceptAnswer, type UpstreamAnswer, type Verdict } from '../../src/dns/upstream-answer.ts'
import { DnsService, PENDING } from '../../src/resolver/dns-service.ts'
import { TICK_MS } from '../../src/resolver/pending-question.ts'
import { type Resolver, Rung } from '../../src/resolver/rung.ts'
import { type AskChoices, type Attempt, type Inquiry, makeAttempt, type Way } from '../../src/resolver/way.ts'
import type { DialError } from '../../src/upstream/dialer.ts'
import { type Decoded, decoded, makeAnswer, makeQuery, type QueryChoices, room } from '../dns/messages.ts'

/** What it is told to send waits for the test's word. */
export class ScriptedWay implements Way {
  readonly isStream: boolean
  heldUntil = 0
  readonly asked = new Map<number, Attempt>()
  readonly sent: Attempt[] = []
  closed = false
  /** Said to each attempt as it is sent. */
  failsWith: DialError | undefined

  constructor(isStream = false) {
    this.isStream = isStream
  }

  prepare(inquiry: Inquiry, choices: AskChoices, nowMs: number): Attempt {
    const attempt = makeAttempt(this, inquiry, choices, this.asked, nowMs)
    this.asked.set(attempt.id, attempt)
    return attempt
  }

  send(attempt: Attempt, nowMs: number): void {
    attempt.sentAt = nowMs
    this.sent.push(attempt)
    if (this.failsWith !== undefined) this.fail(attempt, this.failsWith)
  }

  fail(attempt: Attempt, error: DialError): void {
    if (this.asked.delete(attempt.id)) attempt.inquiry.onFailed(attempt, error)
  }

  withdraw(attempt: Attempt): void {
    this.asked.delete(attempt.id)
  }

  /** The last one sent is answered. */
  answer(packet: Parameters<typeof makeAnswer>[1], attempt = this.sent.at(-1)!): void {
    const bytes = makeAnswer(attempt.bytes, packet)
    const out: UpstreamAnswer = { bytes: 0, rcode: 0 }
    const verdict = acceptAnswer(bytes, bytes.length, attempt, out) as Exclude<Verdict, 'foreign'>
    this.asked.delete(attempt.id)
    attempt.inquiry.onAnswer(attempt, verdict, bytes, out)
  }

  close(): void {
    this.closed = true
  }
}

export const a = (address: string, ttl = 60, name = 'www.example.org') => ({
  answers: [{ type: 'A' as const, name, data: address, ttl }],
})

export const REFUSED_BY_PROXY: DialError = { failure: 'unsupported', message: 'command not supported' }
export const PROXY_DOWN: DialError = { failure: 'upstream-down', message: 'connection refused' }

export interface Choices {
  readonly map?: NameMap
  readonly entries?: number
}

/** `ways`: those of the first resolver, all of one target; `more` of others behind them. */
export function open(t: ExecutionContext, ways: readonly Way[], more: readonly Way[] = [], choices: Choices = {}) {
  const clock = { now: 1_000_000 }
  const lines: { message: string; fields: Record<string, unknown> | undefined }[] = []
  const cache = new AnswerCache({ ...CACHE_DEFAULTS, entries: choices.entries ?? 1_000 })
  const split = new SuffixTable<Resolver>()
  const service = new DnsService({
    cache,
    map: choices.map,
    split,
    log: {
      info: (message, fields) => void lines.push({ message, fields }),
      warn: (message, fields) => void lines.push({ message, fields }),
    },
    clock: () => clock.now,
    turn: work => work(),
  })
  t.teardown(() => service.close())
  const rungs = [
    ...ways.map(way => new Rung(way.isStream ? 'tcp' : 'udp', '192.0.2.1:53', way)),
    ...more.map((way, at) => new Rung(way.isStream ? 'tcp' : 'udp', `192.0.2.${at + 2}:53`, way)),
  ]
  const resolver: Resolver = { prefix: '\u0001', name: '192.0.2.1:53', rungs, answeredBy: undefined }
  const ask = (message: Buffer, isStream = false, from = resolver): Told => {
    const told: Told = { answers: [], raw: [] }
    const out = isStream ? room() : Buffer.alloc(EDNS_BYTES)
    const length = service.answer(out, message, message.length, isStream, from)
    if (length > 0) keep(told, out, length)
    if (length === PENDING) service.ask({ onAnswer: (bytes, count) => keep(told, bytes, count) })
    return told
  }
  return {
    clock,
    lines,
    cache,
    split,
    service,
    rungs,
    resolver,
    ask,
    /** Asks for A of a name. */
    query: (name = 'www.example.org', more: QueryChoices = {}) => ask(makeQuery(name, more)),
    /** Time passes, with the ticks that belong to it. */
    pass(ms: number) {
      for (const end = clock.now + ms; clock.now < end; ) {
        clock.now = Math.min(end, clock.now + TICK_MS)
        service.tick()
      }
    },
  }
}

export interface Told {
  readonly answers: Decoded[]
  readonly raw: Buffer[]
}

function keep(told: Told, bytes: Buffer, length: number): void {
  told.raw.push(Buffer.from(bytes.subarray(0, length)))
  told.answers.push(decoded(bytes, length))
}

export const dataOf = (told: Told) =>
  told.answers.map(({ rcode, answers }) => [rcode, ...answers!.map(each => 'data' in each && each.data)])
