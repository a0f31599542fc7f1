import test from 'ava'
import { writeError } from '../../src/dns/answer.ts'
import { emptyQuery, nameOf, parseQuery, SILENCE, SOUND } from '../../src/dns/question.ts'
import { Rcode } from '../../src/dns/wire.ts'
import { bytesOf, decoded, makeQuery, opt, parsed, room } from './messages.ts'

test('question: ID, flags, name in lower case, type, class and EDNS', t => {
  const message = makeQuery('wWw.ExAmple.ORG', { type: 'AAAA', id: 0xbeef, udpBytes: 1_400, dnssecOk: true })
  const query = parsed(message)
  t.like(query, { id: 0xbeef, flags: 0x0100, type: 28, class: 1, hasEdns: true, udpBytes: 1_400, dnssecOk: true })
  t.like(query, { nameBytes: 17, questionEnd: 33, labels: 3, isHostName: true, bytes: message.length })
  t.is(nameOf(message, query), 'www.example.org')
  t.is(query.key, '\x03www\x07example\x03org\0\0\x1c\0\x01\x01')
})

test('question: without EDNS 512 bytes, and a smaller size counts as 512', t => {
  t.like(parsed(makeQuery('a.b')), { hasEdns: false, udpBytes: 512, dnssecOk: false })
  t.like(parsed(makeQuery('a.b', { udpBytes: 1 })), { hasEdns: true, udpBytes: 512 })
  t.like(parsed(makeQuery('a.b', { udpBytes: 65_535 })), { udpBytes: 65_535 })
})

test('question: the key tells name, type, class, DO and CD apart, and nothing else', t => {
  const key = (message: Buffer) => parsed(message).key
  const base = key(makeQuery('a.b', { udpBytes: 1_232 }))
  t.is(key(makeQuery('A.B', { id: 7, udpBytes: 600 })), base)
  t.is(key(makeQuery('a.b', { flags: 0x0020 })), base, 'without EDNS, RD; with AD')
  const others = [
    makeQuery('a.c'),
    makeQuery('a.b', { type: 'AAAA' }),
    makeQuery('a.b', { udpBytes: 1_232, dnssecOk: true }),
    makeQuery('a.b', { flags: 0x0110 }),
    bytesOf('#000001000001000000000000 1 a 1 b 0 #0001 #0003'),
    bytesOf('#000001000001000000000000 3 a.b 0 #0001 #0001'),
  ].map(key)
  t.is(new Set([base, ...others]).size, 7)
})

test('question: no header, or itself an answer: silence', t => {
  const message = makeQuery('example.org')
  for (let cut = 0; cut < 12; cut++) t.is(parseQuery(message, cut, emptyQuery()), SILENCE)
  message[2]! |= 0x80
  t.is(parseQuery(message, message.length, emptyQuery()), SILENCE)
})

test('question: cut at any byte behind the header it is malformed', t => {
  const message = makeQuery('example.org', { udpBytes: 1_232 })
  const reused = emptyQuery()
  for (let cut = 12; cut < message.length; cut++) t.is(parseQuery(message, cut, reused), Rcode.formatError, `${cut}`)
  t.is(parseQuery(message, message.length, reused), SOUND)
  t.is(parseQuery(Buffer.concat([message, Buffer.of(1, 2, 3)]), message.length + 3, reused), SOUND, 'bytes behind it')
  t.is(reused.bytes, message.length)
})

const EMPTY_OPT = '0 #0029 #04d0 #00000000 #0000'
const malformed: readonly [what: string, message: string][] = [
  ['no question', '#000001000000000000000000'],
  ['two questions', '#000001000002000000000000 1 a 0 #00010001 1 a 0 #00010001'],
  ['a pointer in the question', '#000001000001000000000000 1 a #c00c #00010001'],
  ['a label of 64', `#000001000001000000000000 64 ${'x'.repeat(64)} 0 #00010001`],
  ['a name of 256', `#000001000001000000000000 ${`63 ${'x'.repeat(63)} `.repeat(3)} 62 ${'x'.repeat(62)} 0 #00010001`],
  ['an answer in it', '#000001000001000100000000 1 a 0 #00010001 0 #0001 #0001 #00000000 #0000'],
  ['an authority in it', '#000001000001000000010000 1 a 0 #00010001 0 #0001 #0001 #00000000 #0000'],
  ['two OPT', `#000001000001000000000002 1 a 0 #00010001 ${EMPTY_OPT} ${EMPTY_OPT}`],
  ['an OPT with a name', `#000001000001000000000001 1 a 0 #00010001 1 b ${EMPTY_OPT}`],
  ['a record less than it says', `#000001000001000000000002 1 a 0 #00010001 ${EMPTY_OPT}`],
]

test('question: malformed ones get FORMERR', t => {
  for (const [what, text] of malformed) {
    const message = bytesOf(text)
    const query = emptyQuery()
    t.is(parseQuery(message, message.length, query), Rcode.formatError, what)
    const out = room()
    const length = writeError(out, message, query, Rcode.formatError)
    t.like(decoded(out, length), { id: 0, type: 'response', rcode: 'FORMERR', flag_rd: true }, what)
    t.true(length <= message.length + 11, what)
  }
})

test('question: what was read of another one before does not come into the answer', t => {
  const query = emptyQuery()
  const first = makeQuery('before.example.org', { udpBytes: 4_096, dnssecOk: true })
  t.is(parseQuery(first, first.length, query), SOUND)
  const plain = makeQuery('plain.example.org')
  t.is(parseQuery(plain, plain.length, query), SOUND)
  t.like(query, { hasEdns: false, udpBytes: 512, dnssecOk: false })
  const second = bytesOf('#777701000000000000000000')
  t.is(parseQuery(second, 12, query), Rcode.formatError)
  const out = room()
  t.is(writeError(out, second, query, Rcode.formatError), 12)
  t.deepEqual([...out.subarray(0, 12)], [0x77, 0x77, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0])
})

test('question: other opcodes get NOTIMP, with the opcode', t => {
  for (let opcode = 1; opcode < 16; opcode++) {
    const message = makeQuery('example.org', { flags: (opcode << 11) | 0x0100 })
    const query = emptyQuery()
    t.is(parseQuery(message, message.length, query), Rcode.notImplemented)
    const out = room()
    t.is(writeError(out, message, query, Rcode.notImplemented), 12)
    t.is(out.readUInt16BE(2), 0x8184 | (opcode << 11))
  }
})

test('question: another version of EDNS gets BADVERS', t => {
  const message = makeQuery('example.org', { udpBytes: 1_232, version: 1 })
  const query = emptyQuery()
  t.is(parseQuery(message, message.length, query), Rcode.badVersion)
  const out = room()
  const length = writeError(out, message, query, Rcode.badVersion)
  // RFC 6891 §6.1.3: the lower bits in the header, the upper ones in OPT.
  t.like(decoded(out, length), { rcode: 'NOERROR', additionals: [{ type: 'OPT', extendedRcode: 1, ednsVersion: 0 }] })
})

test('question: IXFR may bring its SOA', t => {
  const message = bytesOf('#000001000001000000010000 1 a 0 #00fb0001 #c00c #0006 #0001 #00000000 #0000')
  t.is(parseQuery(message, message.length, emptyQuery()), SOUND)
})

test('question: what a host may be called', t => {
  for (const [name, isHost] of [
    ['example.org', true],
    ['_dmarc.example.org', true],
    ['xn--bcher-kva.example', true],
    ['a', true],
    ['.', false],
    ['a b.org', false],
    ['bücher.example', false],
    ['a*.org', false],
  ] as const)
    t.is(parsed(makeQuery(name)).isHostName, isHost, name)
  t.false(parsed(bytesOf('#000001000001000000000000 3 a.b 0 #00010001')).isHostName)
})

test('question: an error has OPT if the query had', t => {
  const message = makeQuery('example.org', { udpBytes: 4_096, dnssecOk: true })
  const out = room()
  const length = writeError(out, message, parsed(message), Rcode.serverFailure)
  const answer = decoded(out, length)
  t.is(answer.rcode, 'SERVFAIL')
  t.like(answer.additionals?.[0], { ...opt(1_232, true), flag_do: true })
})
