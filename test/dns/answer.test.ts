import test from 'ava'
import {
  answerBytesOf,
  writeAddress,
  writeError,
  writeForwarded,
  writeKept,
  writePointer,
  writeTruncated,
} from '../../src/dns/answer.ts'
import { Rcode } from '../../src/dns/wire.ts'
import { accepted, decoded, makeAnswer, makeQuery, opt, parsed, RECURSION_DESIRED, room } from './messages.ts'

const address = Uint8Array.of(198, 18, 0, 5)
const address6 = Uint8Array.of(0xfd, 0x74, 0x75, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 198, 18, 0, 5)

test('answer: an address, with the ID and the letters of the query', t => {
  const out = room()
  const message = makeQuery('wWw.eXample.ORG', { id: 0xabcd })
  const answer = decoded(out, writeAddress(out, message, parsed(message), address, 10))
  t.like(answer, { id: 0xabcd, type: 'response', rcode: 'NOERROR', flag_rd: true, flag_ra: true, flag_aa: false })
  t.deepEqual(answer.questions, [{ name: 'wWw.eXample.ORG', type: 'A', class: 'IN' }])
  t.like(answer.answers, [{ name: 'wWw.eXample.ORG', type: 'A', class: 'IN', ttl: 10, data: '198.18.0.5' }])
  t.is(answer.additionals?.length, 0)
})

test('answer: an IPv6 address, and OPT for who sent one', t => {
  const out = room()
  const message = makeQuery('a.example', { type: 'AAAA', udpBytes: 4_096, dnssecOk: true })
  const answer = decoded(out, writeAddress(out, message, parsed(message), address6, 10))
  t.like(answer.answers, [{ type: 'AAAA', ttl: 10, data: 'fd74:756e::c612:5' }])
  t.like(answer.additionals, [opt(1_232, true)])
})

test('answer: RD and CD come back as they were, AD does not', t => {
  const out = room()
  for (const flags of [0, 0x0100, 0x0010, 0x0110, 0x0130]) {
    const message = makeQuery('a.example', { flags })
    writeAddress(out, message, parsed(message), address, 10)
    t.is(out.readUInt16BE(2), 0x8080 | (flags & 0x0110))
  }
})

test('answer: a pointer to a name', t => {
  const out = room()
  const message = makeQuery('5.0.18.198.in-addr.arpa', { type: 'PTR', udpBytes: 1_232 })
  for (const name of [
    'www.example.org',
    'a',
    `${'x'.repeat(63)}.${'y'.repeat(63)}.${'z'.repeat(63)}.${'w'.repeat(61)}`,
  ]) {
    const answer = decoded(out, writePointer(out, message, parsed(message), name, 10))
    t.like(answer.answers, [{ type: 'PTR', ttl: 10, data: name }])
  }
})

test('answer: what the client takes, between 512 and our own bound', t => {
  t.is(answerBytesOf(parsed(makeQuery('a.b'))), 512)
  t.is(answerBytesOf(parsed(makeQuery('a.b', { udpBytes: 600 }))), 600)
  t.is(answerBytesOf(parsed(makeQuery('a.b', { udpBytes: 4_096 }))), 1_232)
  t.is(answerBytesOf(parsed(makeQuery('a.b', { udpBytes: 4_096 })), 2_000), 2_000)
})

test('answer: a truncated one has no records, and the code', t => {
  const out = room()
  const message = makeQuery('a.example', { udpBytes: 512 })
  const answer = decoded(out, writeTruncated(out, message, parsed(message), Rcode.noSuchName))
  t.like(answer, { flag_tc: true, rcode: 'NXDOMAIN', answers: [], questions: [{ name: 'a.example' }] })
})

const records = (count: number) => ({
  answers: Array.from({ length: count }, (_, index) => ({
    name: 'a.example',
    type: 'A' as const,
    ttl: 100 + index,
    data: `192.0.2.${index}`,
  })),
})

test('answer: a kept one counts its TTLs down, at most to 0', t => {
  const out = room()
  const first = makeQuery('a.example')
  const kept = makeAnswer(first, records(3)).toString('latin1')
  const message = makeQuery('A.EXAMPLE', { id: 9, udpBytes: 1_232 })
  const ttls = (age: number, maxTtl: number) => {
    const answer = decoded(out, writeKept(out, message, parsed(message), kept, age, maxTtl, 1_232))
    t.like(answer, { id: 9, questions: [{ name: 'A.EXAMPLE' }], additionals: [opt(1_232)] })
    return answer.answers?.map(each => 'ttl' in each && each.ttl)
  }
  t.deepEqual(ttls(0, 86_400), [100, 101, 102])
  t.deepEqual(ttls(60, 86_400), [40, 41, 42])
  t.deepEqual(ttls(101, 86_400), [0, 0, 1])
  t.deepEqual(ttls(20, 50), [30, 30, 30])
  t.deepEqual(ttls(-1, 30), [30, 30, 30], 'stale')
})

test('answer: OPT stands behind the additional records of others', t => {
  const out = room()
  const message = makeQuery('a.example', { udpBytes: 1_232 })
  const bytes = makeAnswer(message, { additionals: records(2).answers })
  const length = writeKept(out, message, parsed(message), bytes.toString('latin1'), 0, 86_400, 1_232)
  t.like(decoded(out, length).additionals, [{ type: 'A' }, { type: 'A' }, { type: 'OPT' }])
})

test('answer: one of the limit passes, one byte more is truncated', t => {
  const out = room()
  const message = makeQuery('a.example', { udpBytes: 1_232 })
  const query = parsed(message)
  const bytes = makeAnswer(message, records(5))
  const kept = bytes.toString('latin1')
  const length = kept.length + 11
  for (const write of [
    (limit: number) => writeKept(out, message, query, kept, 0, 86_400, limit),
    (limit: number) => writeForwarded(out, message, query, bytes, bytes.length, limit),
  ]) {
    t.like(decoded(out, write(length)), { flag_tc: false, answers: { length: 5 } })
    t.like(decoded(out, write(length - 1)), { flag_tc: true, answers: [] })
  }
})

test('answer: AD is for who asked for it by AD or DO', t => {
  const out = room()
  for (const [choices, wants] of [
    [{}, false],
    [{ flags: RECURSION_DESIRED | 0x0020 }, true],
    [{ udpBytes: 1_232, dnssecOk: true }, true],
  ] as const) {
    const message = makeQuery('a.example', choices)
    const query = parsed(message)
    const bytes = makeAnswer(message, records(1))
    bytes[3]! |= 0x20
    t.is(decoded(out, writeKept(out, message, query, bytes.toString('latin1'), 0, 9, 1_232)).flag_ad, wants)
    t.is(decoded(out, writeForwarded(out, message, query, bytes, bytes.length, 1_232)).flag_ad, wants)
  }
})

test('answer: forwarded, it has the client’s letters, ID and OPT, and the upstream’s TTLs', t => {
  const out = room()
  const sent = makeQuery('A.eXAMPLE', { id: 77, udpBytes: 1_232 })
  const bytes = makeAnswer(sent, { ...records(2), additionals: [opt(4_096)], rcode: 3 })
  const length = accepted(sent, parsed(sent), bytes)
  const message = makeQuery('a.example', { id: 5 })
  const answer = decoded(out, writeForwarded(out, message, parsed(message), bytes, length, 512))
  t.like(answer, { id: 5, rcode: 'NXDOMAIN', questions: [{ name: 'a.example' }], additionals: [] })
  t.like(answer.answers, [
    { ttl: 100, data: '192.0.2.0' },
    { ttl: 101, data: '192.0.2.1' },
  ])
})

test('answer: errors have no records', t => {
  const out = room()
  const message = makeQuery('a.example')
  t.like(decoded(out, writeError(out, message, parsed(message), Rcode.noSuchName)), {
    rcode: 'NXDOMAIN',
    questions: [{ name: 'a.example' }],
    answers: [],
    authorities: [],
    additionals: [],
  })
})
