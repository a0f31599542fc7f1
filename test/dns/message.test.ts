import test from 'ava'
import { describeAnswer, encodeQuery } from '../../src/dns/message.ts'
import { nameOf } from '../../src/dns/question.ts'
import { bytesOf, makeAnswer, makeQuery, parsed } from './messages.ts'

test('message: a query of our own is one that we can read', t => {
  for (const name of ['', 'example.org', `${'x'.repeat(63)}.${'y'.repeat(63)}.${'z'.repeat(63)}.${'w'.repeat(61)}`]) {
    const message = encodeQuery(name, 'AAAA', 0x4321)
    const query = parsed(message)
    t.like(query, { id: 0x4321, flags: 0x0100, type: 28, hasEdns: true, udpBytes: 1_232, dnssecOk: false })
    t.is(nameOf(message, query), name)
  }
})

test('message: what is no name is refused', t => {
  for (const name of ['x'.repeat(64), 'a..b', '.a', `${'x.'.repeat(126)}xx`, 'ü'.repeat(32)])
    t.throws(() => encodeQuery(name, 'A', 1), { instanceOf: RangeError, message: /is no name/ })
})

test('message: an answer in words', t => {
  const asked = makeQuery('a.example')
  const describe = (bytes: Buffer) => describeAnswer(bytes, bytes.length)
  const answer = makeAnswer(asked, {
    answers: [
      { name: 'a.example', type: 'CNAME', ttl: 1, data: 'b.example' },
      { name: 'b.example', type: 'A', ttl: 1, data: '192.0.2.1' },
    ],
  })
  t.is(describe(answer), 'NOERROR: CNAME b.example, A 192.0.2.1')
  t.is(describe(makeAnswer(asked, { rcode: 3 })), 'NXDOMAIN')
  const unknown = Buffer.concat([makeAnswer(asked, {}), bytesOf('#c00c #0041 #0001 #00000001 #0003 #000100')])
  unknown[7] = 1
  t.is(describe(unknown), 'NOERROR: TYPE65 3 bytes')
  const odd = Buffer.concat([makeAnswer(asked, {}), bytesOf('#c00c #0005 #0001 #00000001 #0004 2 #0a1b 0')])
  odd[7] = 1
  t.is(describe(odd), 'NOERROR: CNAME \\n\\u001b', 'nothing that a terminal would obey')
  t.regex(describe(answer.subarray(0, 40)), /^cannot be read: /)
})
