import { randomBytes } from 'node:crypto'
import test from 'ava'
import { type Answer, decode } from 'dns-packet'
import { type Asked, acceptAnswer, type UpstreamAnswer } from '../../src/dns/upstream-answer.ts'
import { CASE_BYTES, MAX_QUERY_BYTES, writeUpstreamQuery } from '../../src/dns/upstream-query.ts'
import { Random } from '../fuzz/random.ts'
import { bytesOf, makeAnswer, makeQuery, opt, parsed } from './messages.ts'

const a: Answer = { name: 'www.example.org', type: 'A', ttl: 60, data: '192.0.2.1' }
const ALL_UPPER = new Uint8Array(CASE_BYTES).fill(255)

interface Choices {
  readonly cases?: Uint8Array
  readonly id?: number
  readonly withEdns?: boolean
  readonly isStream?: boolean
  readonly client?: Buffer
}

/** What was asked of the upstream for a client. */
function sent({ cases, id = 0x5555, withEdns = true, isStream = false, client }: Choices = {}): Asked {
  const message = client ?? makeQuery('wWw.example.org', { udpBytes: 4_096 })
  const query = parsed(message)
  const bytes = Buffer.alloc(MAX_QUERY_BYTES)
  const length = writeUpstreamQuery(bytes, message, query, id, cases, withEdns)
  return { bytes: bytes.subarray(0, length), query, exactCase: cases !== undefined, hasEdns: withEdns, isStream }
}

function judge(asked: Asked, bytes: Uint8Array, length = bytes.length): string {
  const out: UpstreamAnswer = { bytes: 0, rcode: 0 }
  const verdict = acceptAnswer(bytes, length, asked, out)
  return verdict === 'accepted' ? `${verdict} ${out.bytes}` : verdict
}

test('upstream-query: ID, question and EDNS of our own', t => {
  const client = makeQuery('wWw.Example.org', { id: 1, type: 'AAAA', udpBytes: 4_096, dnssecOk: true, flags: 0x0030 })
  const { bytes } = sent({ client })
  const query = decode(Buffer.from(bytes))
  t.like(query, { id: 0x5555, type: 'query', flag_rd: true, flag_cd: true, flag_ad: true })
  t.deepEqual(query.questions, [{ name: 'www.example.org', type: 'AAAA', class: 'IN' }])
  t.like(query.additionals, [{ ...opt(1_232, true), flag_do: true }])
  t.is(decode.bytes, bytes.length)
  const bare = decode(Buffer.from(sent({ withEdns: false }).bytes))
  t.like(bare, { questions: [{ name: 'www.example.org' }], additionals: [] })
})

test('upstream-query: the longest name fits', t => {
  const name = `${'x'.repeat(63)}.${'y'.repeat(63)}.${'z'.repeat(63)}.${'w'.repeat(61)}`
  t.is(sent({ client: makeQuery(name) }).bytes.length, MAX_QUERY_BYTES)
  t.is(
    decode(Buffer.from(sent({ client: makeQuery(name), cases: ALL_UPPER }).bytes)).questions?.[0]?.name,
    name.toUpperCase(),
  )
})

test('upstream-query: letters are upper case where chance says so, and nothing else changes', t => {
  const client = makeQuery('aB-9.xn--c')
  const name = (cases: Uint8Array) => Buffer.from(sent({ client, cases }).bytes).toString('latin1', 12, 24)
  t.is(name(new Uint8Array(CASE_BYTES)), '\x04ab-9\x05xn--c\0')
  t.is(name(ALL_UPPER), '\x04AB-9\x05XN--C\0')
  t.is(name(Uint8Array.of(0b10, ...new Uint8Array(CASE_BYTES - 1))), '\x04Ab-9\x05xn--c\0')
  t.is(name(Uint8Array.of(0, 0b100, ...new Uint8Array(CASE_BYTES - 2))), '\x04ab-9\x05xn--C\0')
  const seen = new Set(Array.from({ length: 64 }, () => name(randomBytes(CASE_BYTES))))
  t.true(seen.size > 8)
})

test('upstream-answer: the right one is accepted, its OPT taken away', t => {
  const asked = sent()
  const bare = makeAnswer(asked.bytes, { answers: [a] })
  t.is(judge(asked, bare), `accepted ${bare.length}`)
  t.is(judge(asked, makeAnswer(asked.bytes, { answers: [a], additionals: [opt(4_096)] })), `accepted ${bare.length}`)
  t.is(judge(asked, Buffer.concat([bare, Buffer.alloc(9)])), `accepted ${bare.length}`, 'bytes behind it')
  t.is(judge(asked, makeAnswer(asked.bytes, { rcode: 3 })), `accepted ${bare.length - 31}`, 'NXDOMAIN')
})

test('upstream-answer: what stands behind OPT goes with it, and the count says so', t => {
  const asked = sent()
  const bytes = makeAnswer(asked.bytes, { answers: [a], additionals: [a, opt(4_096), a] })
  const length = Number(judge(asked, bytes).slice('accepted '.length))
  const message = decode(bytes.subarray(0, length))
  t.is(decode.bytes, length)
  t.like(message, { answers: { length: 1 }, additionals: { length: 1 } })
})

const CHANGES: readonly [title: string, change: (bytes: Buffer) => void][] = [
  ['another ID', bytes => bytes.writeUInt16BE(0x5554, 0)],
  ['a query', bytes => bytes.writeUInt8(bytes[2]! & 0x7f, 2)],
  ['another opcode', bytes => bytes.writeUInt8(bytes[2]! | 0x08, 2)],
  ['another name', bytes => bytes.writeUInt8(0x78, 13)],
  ['another type', bytes => bytes.writeUInt8(0x1c, 30)],
  ['another class', bytes => bytes.writeUInt8(3, 32)],
  ['two questions', bytes => bytes.writeUInt16BE(2, 4)],
  ['no question', bytes => bytes.writeUInt16BE(0, 4)],
  ['a record that is not there', bytes => bytes.writeUInt16BE(2, 6)],
  ['a name that leads nowhere', bytes => bytes.writeUInt16BE(0xffff, 33)],
]

test('upstream-answer: another ID, question or direction is of somebody else', t => {
  const asked = sent()
  for (const [title, change] of CHANGES) {
    const bytes = makeAnswer(asked.bytes, { answers: [a] })
    change(bytes)
    t.is(judge(asked, bytes), 'foreign', title)
  }
})

test('upstream-answer: a record whose name leads nowhere is nobody’s', t => {
  const asked = sent()
  const record = (owner: string) => {
    const bytes = Buffer.concat([
      makeAnswer(asked.bytes, {}),
      bytesOf(`${owner} #0001 #0001 #0000003c #0004 #c0000201`),
    ])
    bytes[7] = 1
    return judge(asked, bytes)
  }
  t.regex(record('#c00c'), /^accepted/)
  t.is(record('#ffff'), 'foreign')
  t.is(record('#c021'), 'foreign', 'itself')
})

test('upstream-answer: cut at any byte it is nobody’s', t => {
  const asked = sent()
  const bytes = makeAnswer(asked.bytes, { answers: [a], additionals: [opt(4_096)] })
  for (let cut = 0; cut < bytes.length; cut++) t.is(judge(asked, Buffer.from(bytes), cut), 'foreign', `${cut}`)
  const bare = makeAnswer(asked.bytes, { rcode: 3 })
  for (let cut = 0; cut < bare.length; cut++) t.is(judge(asked, Buffer.from(bare), cut), 'foreign', `bare, ${cut}`)
})

test('upstream-answer: letters must come back where they were chosen by chance', t => {
  const chosen = sent({ cases: ALL_UPPER })
  const lower = sent()
  t.regex(judge(chosen, makeAnswer(chosen.bytes, { answers: [a] })), /^accepted/)
  t.is(judge(chosen, makeAnswer(lower.bytes, { answers: [a] })), 'foreign')
  t.regex(judge(lower, makeAnswer(chosen.bytes, { answers: [a] })), /^accepted/)
})

test('upstream-answer: two OPT, one with a name, and one that is no additional record are nobody’s', t => {
  const asked = sent()
  t.is(judge(asked, makeAnswer(asked.bytes, { additionals: [opt(512), opt(512)] })), 'foreign')
  t.is(judge(asked, makeAnswer(asked.bytes, { authorities: [opt(512)] })), 'foreign')
  const named = makeAnswer(asked.bytes, { additionals: [opt(512)] })
  const withName = Buffer.concat([named.subarray(0, -11), bytesOf('1 a'), named.subarray(-11)])
  t.is(judge(asked, withName), 'foreign')
})

test('upstream-answer: truncated over UDP it is asked again, also where a record is cut off', t => {
  const asked = sent()
  const bytes = makeAnswer(asked.bytes, { answers: [a] })
  bytes[2]! |= 0x02
  t.is(judge(asked, bytes), 'truncated')
  t.is(judge(asked, bytes, bytes.length - 3), 'truncated')
  t.regex(judge({ ...asked, isStream: true }, bytes), /^accepted/)
})

test('upstream-answer: who does not know EDNS is asked without, and who fails has failed', t => {
  const asked = sent()
  for (const [rcode, verdict] of [
    [1, 'withoutEdns'],
    [2, 'failed'],
    [4, 'withoutEdns'],
    [5, 'failed'],
    [9, 'failed'],
  ] as const) {
    t.is(judge(asked, makeAnswer(asked.bytes, { rcode })), verdict)
    const bare = sent({ withEdns: false })
    t.is(judge(bare, makeAnswer(bare.bytes, { rcode })), 'failed')
  }
})

test('upstream-answer: the upper bits of the code are in OPT', t => {
  const asked = sent()
  t.is(
    judge(asked, makeAnswer(asked.bytes, { additionals: [{ ...opt(512), extendedRcode: 1 } as Answer] })),
    'withoutEdns',
  )
  t.is(judge(asked, makeAnswer(asked.bytes, { additionals: [{ ...opt(512), extendedRcode: 2 } as Answer] })), 'failed')
})

test('upstream-answer: a failure without a question counts over a stream alone', t => {
  const header = (flags: string) => bytesOf(`#5555 ${flags} #0000 #0000 #0000 #0000`)
  t.is(judge(sent(), header('#8181')), 'foreign')
  const stream = sent({ isStream: true })
  t.is(judge(stream, header('#8181')), 'withoutEdns')
  t.is(judge(stream, header('#8182')), 'failed')
  t.is(judge(stream, header('#8180')), 'foreign', 'NOERROR says nothing')
})

test('upstream-answer: of 10,000 forged answers none is accepted', t => {
  const random = new Random(11)
  const asked = sent({ id: 0x1357, cases: randomBytes(CASE_BYTES).fill(0x5a) })
  const sound = makeAnswer(asked.bytes, { answers: [a] })
  const tally = { id: 0, letters: 0, question: 0 }
  for (let count = 0; count < 10_000; count++) {
    const forged = Buffer.from(sound)
    const kind = random.pick(['id', 'letters', 'question'] as const)
    tally[kind]++
    if (kind === 'id') forged.writeUInt16BE((0x1357 + 1 + random.below(65_535)) & 0xffff, 0)
    else if (kind === 'letters') {
      const at = random.pick([13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27])
      forged[at]! ^= 0x20
    } else forged[13 + random.below(20)]! ^= 1 << random.below(5)
    if (judge(asked, forged) !== 'foreign') return t.fail(`${kind}: ${forged.toString('hex')}`)
  }
  t.true(Math.min(...Object.values(tally)) > 3_000)
  t.regex(judge(asked, sound), /^accepted/)
})
