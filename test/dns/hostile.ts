/**
 * Random and mutated messages through all that reads or answers one: as a client's query, and as the upstream's answer to it.
 * Throws an error with the message in it where a promise is broken.
 */
import { decode } from 'dns-packet'
import { writeError, writeForwarded } from '../../src/dns/answer.ts'
import { AnswerCache } from '../../src/dns/cache.ts'
import { answerFromMap, FORWARD, FORWARD_WITHOUT_HINTS } from '../../src/dns/map-answers.ts'
import { NameMap } from '../../src/dns/name-map.ts'
import { emptyQuery, nameOf, parseQuery, SILENCE, SOUND, sameQuestion } from '../../src/dns/question.ts'
import { withoutHints } from '../../src/dns/service-hints.ts'
import { SuffixTable } from '../../src/dns/split.ts'
import { acceptAnswer, type UpstreamAnswer } from '../../src/dns/upstream-answer.ts'
import { CASE_BYTES, MAX_QUERY_BYTES, writeUpstreamQuery } from '../../src/dns/upstream-query.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { countRecords, MALFORMED, type Rcode, readRecord, readU16, recordFields } from '../../src/dns/wire.ts'
import type { Random } from '../fuzz/random.ts'
import { mutateBytes } from '../fuzz/texts.ts'
import { bytesOf, endOfQuestion, makeQuery, room } from './messages.ts'

const prefix6 = Uint8Array.of(0xfd, 0x74, 0x75, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0)
const network = { network4: Uint8Array.of(198, 18, 0, 0), bits4: 15, own4: Uint8Array.of(198, 18, 0, 1), prefix6 }
const SOUND_QUERIES = [
  makeQuery('www.example.org', { udpBytes: 1_232 }),
  makeQuery('wWw.eXample.Org', { type: 'AAAA', udpBytes: 4_096, dnssecOk: true }),
  makeQuery('example.org', { typeNumber: 65, udpBytes: 512 }),
  makeQuery('2.0.18.198.in-addr.arpa', { type: 'PTR' }),
  makeQuery(`2.0.0.0.2.1.6.c.${'0.'.repeat(16)}e.6.5.7.4.7.d.f.ip6.arpa`, { type: 'PTR' }),
  makeQuery('localhost'),
  makeQuery('x.local', { type: 'SRV', flags: 0x0030 }),
  makeQuery('.', { type: 'NS', udpBytes: 1_232, version: 1 }),
  makeQuery(`${'x'.repeat(63)}.${'y'.repeat(63)}.${'z'.repeat(63)}.${'w'.repeat(61)}`, { udpBytes: 65_535 }),
  bytesOf('#123401000001000000010000 1 a 0 #00fb0001 #c00c #0006 #0001 #00000000 #0000'),
]
/** What may stand behind a question: names by pointers, data of many kinds, signatures, OPT. */
const RECORDS = [
  '#c00c #0001 #0001 #0000003c #0004 #c0000201',
  '#c00c #0005 #0001 #0000012c #0006 3 cdn #c00c',
  '#c00c #001c #0001 #0000003c #0010 #20010db8000000000000000000000001',
  '#c00c #0041 #0001 #0000003c #001b #0001 0 #0001 #0003 2 h2 #0004 #0004 #c0000201 #0005 #0005 #abcdef0102',
  '#c00c #0040 #0001 #0000003c #0017 #0001 0 #0000 #0002 #0006 #0006 #000a #20010db8000000000000',
  '#c00c #0006 #0001 #0000012c #001c 2 ns #c00c 1 r #c00c #00000001 #00000002 #00000003 #00000004 #0000003c',
  '#c00c #002e #0001 #0000003c #0016 #0041 #0d02 #0000012c #00000000 #00000000 #0001 #0061 #00ab',
  '#c00c #0010 #0001 #ffffffff #0003 2 hi',
  '#c00c #0021 #0001 #0000003c #0008 #000100020050 #c00c',
  '0 #0029 #04d0 #00008000 #0000',
  '1 a #c00c #000f #0001 #00000000 #0004 #000a #c00c',
].map(bytesOf)
const SOA = 5

export interface Tally {
  /** Queries and answers that were looked at. */
  messages: number
  sound: number
  answeredByMap: number
  accepted: number
  kept: number
  stripped: number
}

export class Hostile {
  readonly tally: Tally = { messages: 0, sound: 0, answeredByMap: 0, accepted: 0, kept: 0, stripped: 0 }
  readonly #random: Random
  readonly #cache = new AnswerCache({ entries: 500, bytes: 100_000, staleSeconds: 3_600 })
  readonly #map = new NameMap(new VirtualAddresses(network), { names: 300, ttlSeconds: 10, holdSeconds: 0 })
  readonly #split = new SuffixTable<number>()
  readonly #query = emptyQuery()
  readonly #again = emptyQuery()
  readonly #out = room()
  readonly #more = room()
  readonly #sent = Buffer.alloc(MAX_QUERY_BYTES)
  readonly #answer: UpstreamAnswer = { bytes: 0, rcode: 0 }
  #nowMs = 0

  constructor(random: Random) {
    this.#random = random
    this.#map.assign('www.example.org', 0)
    for (const suffix of ['example.org', 'local', 'a.b.c.d']) this.#split.set(suffix, suffix.length)
  }

  /** One message as a query, and if it is sound one as its answer. */
  step(): void {
    const asked = this.#makeQuery()
    this.tally.messages++
    this.#nowMs += this.#random.below(2_000)
    try {
      if (this.#asQuery(asked)) this.#asAnswer(asked)
    } catch (error) {
      throw new Error(`query ${asked.toString('hex')}: ${(error as Error).message}`, { cause: error })
    }
  }

  #makeQuery(): Buffer {
    const random = this.#random
    if (random.once(10)) return random.bytes(random.below(80))
    const query = random.pick(SOUND_QUERIES)
    return random.once(3) ? this.#scribble(Buffer.from(query), 12) : mutateBytes(query, random)
  }

  /** Bytes changed in place from `from` on, some of them to pointers. */
  #scribble(bytes: Buffer, from: number): Buffer {
    const random = this.#random
    for (let count = random.below(4); count > 0 && bytes.length > from + 1; count--) {
      const at = from + random.below(bytes.length - from - 1)
      if (random.once(3)) bytes.writeUInt16BE(0xc000 | random.below(random.once(2) ? 64 : 0x4000), at)
      else bytes[at] = random.once(2) ? random.pick([0, 1, 4, 63, 64, 128, 191, 255]) : random.next()
    }
    return bytes
  }

  #asQuery(asked: Buffer): boolean {
    const query = this.#query
    const out = this.#out
    const verdict = parseQuery(asked, asked.length, query)
    this.#sameWhateverFollows(asked, verdict)
    if (verdict === SILENCE) {
      if (asked.length >= 12 && (asked[2]! & 0x80) === 0) throw new Error('silence to a query')
      return false
    }
    if (verdict !== SOUND) {
      this.#checkOwnAnswer(asked, writeError(out, asked, query, verdict as Rcode))
      return false
    }
    this.tally.sound++
    if (this.#split.find(nameOf(asked, query)) === 0) throw new Error('a resolver that nobody set')
    const length = answerFromMap(out, asked, query, this.#map, this.#nowMs)
    if (length !== FORWARD && length !== FORWARD_WITHOUT_HINTS) {
      this.tally.answeredByMap++
      this.#checkOwnAnswer(asked, length)
    }
    return true
  }

  /** What stands behind a message is not looked at. */
  #sameWhateverFollows(asked: Buffer, verdict: number): void {
    const bytes = Buffer.alloc(asked.length + 300, this.#random.once(2) ? 0xff : 1)
    bytes.set(asked)
    const again = this.#again
    if (parseQuery(bytes, asked.length, again) !== verdict) throw new Error('another verdict with bytes behind it')
    if (verdict === SOUND && (again.key !== this.#query.key || again.bytes !== this.#query.bytes))
      throw new Error('another key with bytes behind it')
  }

  #asAnswer(asked: Buffer): void {
    const random = this.#random
    const query = this.#query
    const cases = random.once(2) ? random.bytes(CASE_BYTES) : undefined
    const withEdns = !random.once(4)
    const sentBytes = writeUpstreamQuery(this.#sent, asked, query, random.below(65_536), cases, withEdns)
    const sent = this.#sent.subarray(0, sentBytes)
    if (parseQuery(sent, sentBytes, this.#again) !== SOUND || !sameQuestion(sent, asked, query, false))
      throw new Error('the upstream is asked something else')
    const about = { bytes: sent, query, exactCase: cases !== undefined, hasEdns: withEdns, isStream: random.once(3) }
    const bytes = this.#makeAnswer(sent)
    this.tally.messages++
    const verdict = acceptAnswer(bytes, bytes.length, about, this.#answer)
    if (verdict === 'failed') this.#cache.failed(query, this.#nowMs)
    if (verdict === 'accepted') this.#useAnswer(asked, bytes, this.#answer.bytes)
    this.#askCache(asked)
  }

  #makeAnswer(sent: Buffer): Buffer {
    const random = this.#random
    const questionEnd = endOfQuestion(sent)
    const parts = Array.from({ length: random.below(6) }, () => random.pick(RECORDS))
    const bytes = Buffer.concat([sent.subarray(0, questionEnd), ...parts])
    bytes[2] = random.once(50) ? random.next() : 0x80
    bytes[3] = random.once(8) ? random.next() : random.pick([0x80, 0x80, 0xa0, 0x83])
    bytes.fill(0, 6, 12)
    for (const _ of parts) bytes[random.pick([7, 7, 9, 11])]!++
    if (random.once(3)) return this.#makeRightAnswer(bytes.subarray(0, questionEnd))
    if (random.once(3)) return bytes
    if (random.once(8)) return mutateBytes(bytes, random)
    return this.#scribble(bytes, random.once(8) ? 0 : questionEnd)
  }

  /** A record of the type that was asked for, or that there is none. */
  #makeRightAnswer(question: Buffer): Buffer {
    const ttl = this.#random.pick([1, 60, 86_400, 0x7fff_ffff])
    if (this.#random.once(3)) {
      const bytes = Buffer.concat([question, RECORDS[SOA]!])
      bytes.fill(0, 6, 12)
      bytes[9] = 1
      return bytes
    }
    const bytes = Buffer.concat([question, bytesOf('#c00c'), question.subarray(-4), bytesOf('#00000000 #0003 2 hi')])
    bytes.writeUInt32BE(ttl, question.length + 6)
    bytes.fill(0, 6, 12)
    bytes[7] = 1
    return bytes
  }

  #useAnswer(asked: Buffer, bytes: Buffer, length: number): void {
    this.tally.accepted++
    const limit = this.#random.pick([512, 1_232, 65_535])
    // A stream may bring a truncated one, which is passed on as it is.
    const forwarded = writeForwarded(this.#out, asked, this.#query, bytes, length, limit)
    this.#checkAnswer(asked, forwarded, limit)
    if (this.#cache.keep(this.#query, bytes, length, this.#nowMs)) this.tally.kept++
    const stripped = withoutHints(this.#more, bytes, length, this.#query.questionEnd)
    if (stripped === MALFORMED) return
    this.tally.stripped++
    this.#checkNoAddresses(stripped)
    this.#checkAnswer(asked, writeForwarded(this.#out, asked, this.#query, this.#more, stripped, 65_535), 65_535)
  }

  #askCache(asked: Buffer): void {
    const kept = this.#cache.find(this.#query, this.#nowMs)
    if (kept === undefined) return
    this.#cache.freshness(kept, this.#nowMs)
    const length = this.#cache.write(this.#out, asked, this.#query, kept, this.#nowMs, 1_232)
    this.#checkAnswer(asked, length, 1_232)
    for (const ttl of ttlsOf(this.#out, length, this.#query.questionEnd))
      if (ttl > 86_400) throw new Error(`a TTL of ${ttl} from the cache`)
    if (this.#cache.bytes > 100_000 || this.#cache.entries > 500) throw new Error('the cache is over its bounds')
  }

  /** Whole, an answer, of the query’s ID and, if it has one, its question. */
  #checkAnswer(asked: Buffer, length: number, limit = 65_535): void {
    const out = this.#out
    if (length < 12 || length > limit) throw new Error(`an answer of ${length} bytes`)
    if (readU16(out, 0) !== readU16(asked, 0) || (out[2]! & 0x80) === 0) throw new Error('no answer to this')
    const questionEnd = readU16(out, 4) === 0 ? 12 : this.#query.questionEnd
    if (readU16(out, 4) > 0 && !sameQuestion(out, asked, this.#query, true)) throw new Error('another question')
    ttlsOf(out, length, questionEnd)
  }

  /** One that holds nothing of others: somebody else's parser takes it, too. */
  #checkOwnAnswer(asked: Buffer, length: number): void {
    this.#checkAnswer(asked, length, 12 + 255 + 4 + 12 + 255 + 11)
    if (this.#random.once(8)) decode(this.#out.subarray(0, length))
  }

  #checkNoAddresses(length: number): void {
    const record = recordFields()
    let at = this.#query.questionEnd
    for (let count = countRecords(this.#more); count > 0; count--) {
      at = readRecord(this.#more, at, length, record)
      if (record.type === 1 || record.type === 28) throw new Error('an address is left')
      if (record.type !== 64 && record.type !== 65) continue
      let parameter = record.dataAt + 2
      while (this.#more[parameter] !== 0) parameter += 1 + this.#more[parameter]!
      for (parameter++; parameter < at; parameter += 4 + readU16(this.#more, parameter + 2))
        if ([4, 6].includes(readU16(this.#more, parameter))) throw new Error('a hint is left')
    }
  }
}

/** The TTLs of all records but OPT, which must be what the header says and fill the message. */
function ttlsOf(bytes: Buffer, length: number, questionEnd: number): number[] {
  const ttls: number[] = []
  const record = recordFields()
  let at = questionEnd
  for (let count = countRecords(bytes); count > 0; count--) {
    at = readRecord(bytes, at, length, record)
    if (at === MALFORMED) throw new Error('an answer that is not whole')
    if (record.type !== 41) ttls.push(record.ttl)
  }
  if (at !== length) throw new Error('bytes behind the answer')
  return ttls
}
