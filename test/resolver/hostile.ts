/**
 * Random and mutated messages through the service: clients' queries, and answers of a resolver to what it asks. Throws an error with
 * the message in it where a promise is broken: each query has its answer, once, and no other.
 */

import { EDNS_BYTES } from '../../src/dns/answer.ts'
import { AnswerCache } from '../../src/dns/cache.ts'
import { NameMap } from '../../src/dns/name-map.ts'
import { emptyQuery, parseQuery, SILENCE, SOUND, sameQuestion } from '../../src/dns/question.ts'
import { SuffixTable } from '../../src/dns/split.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { readU16 } from '../../src/dns/wire.ts'
import { type Carrier, DatagramWay } from '../../src/resolver/datagram-way.ts'
import { DnsService, NO_ANSWER, PENDING } from '../../src/resolver/dns-service.ts'
import { TICK_MS } from '../../src/resolver/pending-question.ts'
import { type Resolver, Rung } from '../../src/resolver/rung.ts'
import { endOfQuestion, makeQuery, room } from '../dns/messages.ts'
import type { Random } from '../fuzz/random.ts'
import { mutateBytes } from '../fuzz/texts.ts'

const QUERIES = [
  makeQuery('www.example.org', { udpBytes: 1_232 }),
  makeQuery('wWw.eXample.Org', { type: 'AAAA', udpBytes: 4_096, dnssecOk: true }),
  makeQuery('example.org', { typeNumber: 65, udpBytes: 512 }),
  makeQuery('2.0.18.198.in-addr.arpa', { type: 'PTR' }),
  makeQuery('db.cluster.local', { type: 'TXT' }),
  makeQuery('.', { type: 'NS' }),
]

export interface ServiceTally {
  messages: number
  answered: number
  pending: number
  resolved: number
  foreign: number
}

interface Asked {
  readonly message: Buffer
  readonly limit: number
  answers: number
}

export class HostileService {
  readonly tally: ServiceTally = { messages: 0, answered: 0, pending: 0, resolved: 0, foreign: 0 }
  readonly #random: Random
  readonly #sent: { way: DatagramWay; message: Buffer }[] = []
  readonly #asked: Asked[] = []
  readonly #service: DnsService
  readonly #resolver: Resolver
  readonly #query = emptyQuery()
  readonly #received = room()
  readonly #stream = room()
  readonly #datagram = Buffer.alloc(EDNS_BYTES)
  #nowMs = 1_000_000

  constructor(random: Random, withMap: boolean) {
    this.#random = random
    const network = { network4: Uint8Array.of(198, 18, 0, 0), bits4: 15, own4: Uint8Array.of(198, 18, 0, 1) }
    const addresses = new VirtualAddresses({ ...network, prefix6: undefined })
    const split = new SuffixTable<Resolver>()
    this.#service = new DnsService({
      cache: new AnswerCache({ entries: 200, bytes: 100_000, staleSeconds: 60 }),
      map: withMap ? new NameMap(addresses, { names: 300, ttlSeconds: 10, holdSeconds: 0 }) : undefined,
      split,
      log: { info() {}, warn() {} },
      clock: () => this.#nowMs,
      turn: work => work(),
    })
    const carrier: Carrier = {
      heldUntil: 0,
      send: (way, message) => void this.#sent.push({ way, message: Buffer.from(message) }),
      rest() {},
      close() {},
    }
    const way = () => {
      return new DatagramWay({ address: Uint8Array.of(192, 0, 2, 1), port: 53 }, carrier, this.#service.counters)
    }
    const resolver = (prefix: string): Resolver => {
      const rungs = ['one', 'other'].map(target => new Rung('udp', target, way()))
      return { prefix, name: prefix, rungs, answeredBy: undefined }
    }
    this.#resolver = resolver('\u0001')
    split.set('cluster.local', resolver('\u0002'))
  }

  /** A query, some answers to what was asked because of it and before, and some time. */
  step(): void {
    this.#ask()
    for (let times = this.#random.below(4); times > 0 && this.#sent.length > 0; times--) this.#reply()
    if (this.#random.once(3)) this.#pass(this.#random.below(600))
  }

  /** What is asked has its answer after a time, whatever came. */
  end(): void {
    this.#pass(10_000)
    this.#service.close()
    const { pending } = this.#service
    const unanswered = this.#asked.find(({ answers }) => answers !== 1)
    if (pending > 0) throw new Error(`${pending} questions are left`)
    if (unanswered !== undefined)
      throw new Error(`query ${unanswered.message.toString('hex')} has ${unanswered.answers} answers`)
    this.tally.foreign += this.#service.counters.dns_foreign_answers
  }

  #pass(ms: number): void {
    for (const end = this.#nowMs + ms; this.#nowMs < end; ) {
      this.#nowMs = Math.min(end, this.#nowMs + TICK_MS)
      this.#service.tick()
    }
    if (this.#sent.length > 500) this.#sent.splice(0, 400)
  }

  #ask(): void {
    const random = this.#random
    const base = random.pick(QUERIES)
    const message = random.once(8)
      ? random.bytes(random.below(80))
      : random.once(2)
        ? Buffer.from(base)
        : mutateBytes(base, random)
    if (message.length > 1) message.writeUInt16BE(random.below(65_536), 0)
    const isStream = random.once(3)
    const out = isStream ? this.#stream : this.#datagram
    this.tally.messages++
    const length = this.#service.answer(out, message, message.length, isStream, this.#resolver)
    const verdict = parseQuery(message, message.length, this.#query)
    if ((length === NO_ANSWER) !== (verdict === SILENCE)) throw new Error(`silence to ${message.toString('hex')}`)
    if (length === NO_ANSWER) return
    const asked: Asked = { message: Buffer.from(message), limit: isStream ? 65_535 : EDNS_BYTES, answers: 0 }
    this.#asked.push(asked)
    if (length === PENDING) {
      this.tally.pending++
      this.#service.ask({ onAnswer: (bytes, count) => this.#check(asked, bytes, count) })
      message.fill(0xff) // the caller's memory is used again
    } else {
      this.tally.answered++
      this.#check(asked, out, length)
    }
  }

  #check(asked: Asked, bytes: Buffer, length: number): void {
    asked.answers++
    const { message, limit } = asked
    const fail = (what: string) =>
      new Error(`${what}: query ${message.toString('hex')}, ${bytes.toString('hex', 0, length)}`)
    if (length < 12 || length > limit) throw fail(`an answer of ${length} bytes`)
    if (readU16(bytes, 0) !== readU16(message, 0) || (bytes[2]! & 0x80) === 0) throw fail('no answer to this')
    const isSound = parseQuery(message, message.length, this.#query) === SOUND
    if (isSound && !sameQuestion(bytes, message, this.#query, true)) throw fail('another question')
  }

  /** By hand: a name may be one that dns-packet cannot read. */
  #rightAnswer(message: Buffer): Buffer {
    const question = Buffer.from(message.subarray(0, endOfQuestion(message)))
    question.writeUInt16BE(0x8180, 2)
    question.fill(0, 6, 12)
    if (this.#random.once(3)) {
      question[3]! |= 3
      return question
    }
    question[7] = 1
    const record = Buffer.from('c00c0001000100000000000fc0000250', 'hex')
    question.copy(record, 2, question.length - 4)
    record[9] = this.#random.below(100)
    record.writeUInt16BE(4, 10)
    return Buffer.concat([question, record])
  }

  /** Right, wrong or mutated, to one of the last questions. */
  #reply(): void {
    const random = this.#random
    const { way, message } = this.#sent[this.#sent.length - 1 - random.below(Math.min(this.#sent.length, 8))]!
    this.tally.messages++
    let answer: Buffer = Buffer.from(message)
    if (random.once(2)) answer = this.#rightAnswer(message)
    else {
      answer[2]! |= 0x80
      if (random.once(3)) answer[2]! |= 0x02
      if (random.once(3)) answer[3] = random.below(16)
    }
    if (random.once(4)) answer = mutateBytes(answer, random)
    if (random.once(6) && answer.length > 14) answer[13]! ^= 0x20
    if (random.once(9)) answer = answer.subarray(0, Math.min(answer.length, endOfQuestion(message) + 3))
    const before = this.#service.counters.dns_foreign_answers
    answer.copy(this.#received)
    way.receive(this.#received, answer.length)
    if (this.#service.counters.dns_foreign_answers === before) this.tally.resolved++
  }
}
