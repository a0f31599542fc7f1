import test from 'ava'
import { MAX_QUESTIONS, NO_ANSWER } from '../../src/resolver/dns-service.ts'
import type { Resolver } from '../../src/resolver/rung.ts'
import { Rung } from '../../src/resolver/rung.ts'
import { makeQuery, room } from '../dns/messages.ts'
import { a, dataOf, open, ScriptedWay } from './rig.ts'

test('dns: an answer goes to the client under its own ID, in its own letters, and then comes from the cache', t => {
  const way = new ScriptedWay()
  const { query, clock, service } = open(t, [way])
  const told = query('WWW.example.ORG', { id: 7 })
  t.deepEqual(told.answers, [])
  way.answer(a('192.0.2.80', 60))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
  t.is(told.answers[0]!.id, 7)
  t.is(told.answers[0]!.questions![0]!.name, 'WWW.example.ORG')
  clock.now += 20_000
  const again = query('www.EXAMPLE.org', { id: 8 })
  t.is(way.sent.length, 1, 'nobody is asked')
  t.deepEqual([again.answers[0]!.id, again.answers[0]!.questions![0]!.name], [8, 'www.EXAMPLE.org'])
  t.is((again.answers[0]!.answers![0] as { ttl: number }).ttl, 40, 'it has grown old')
  clock.now += 40_000
  t.deepEqual(query().answers, [], 'and is over')
  t.is(way.sent.length, 2)
  t.is(service.counters.dns_from_cache, 1)
})

test('dns: equal questions are asked once, and each client has its answer', t => {
  const way = new ScriptedWay()
  const { query } = open(t, [way])
  const told = [
    query('www.example.org', { id: 1 }),
    query('www.example.ORG', { id: 2 }),
    query('other.example.org', { id: 3 }),
  ]
  t.is(way.sent.length, 2)
  way.answer(a('192.0.2.80'), way.sent[0]!)
  t.deepEqual(told.map(dataOf), [[['NOERROR', '192.0.2.80']], [['NOERROR', '192.0.2.80']], []])
  t.deepEqual(
    told.slice(0, 2).map(({ answers }) => answers[0]!.id),
    [1, 2],
  )
})

test('dns: what one resolver said is not what another would', t => {
  const [one, other] = [new ScriptedWay(), new ScriptedWay()]
  const { ask, resolver } = open(t, [one])
  const second: Resolver = {
    prefix: '\u0002',
    name: 'other',
    rungs: [new Rung('udp', 'other', other)],
    answeredBy: undefined,
  }
  ask(makeQuery('www.example.org'))
  one.answer(a('192.0.2.80'))
  const told = ask(makeQuery('www.example.org'), false, second)
  t.deepEqual(told.answers, [])
  other.answer({ rcode: 3 })
  t.deepEqual(dataOf(told), [['NXDOMAIN']])
  t.deepEqual(dataOf(ask(makeQuery('www.example.org'), false, resolver)), [['NOERROR', '192.0.2.80']])
})

test('dns: malformed queries are answered FORMERR, transfers NOTIMP, and answers with silence', t => {
  const way = new ScriptedWay()
  const { ask, service, resolver } = open(t, [way])
  const cut = makeQuery('www.example.org').subarray(0, 20)
  const out = room()
  t.is(service.answer(out, cut, cut.length, false, resolver), 12)
  t.is(out[3]! & 15, 1)
  t.deepEqual(dataOf(ask(makeQuery('example.org', { typeNumber: 252 }))), [['NOTIMP']])
  const answer = makeQuery('www.example.org')
  answer[2]! |= 0x80
  t.is(service.answer(out, answer, answer.length, false, resolver), NO_ANSWER)
  t.is(service.answer(out, answer, 3, false, resolver), NO_ANSWER)
  t.is(service.counters.dns_malformed, 3)
  t.is(way.sent.length, 0)
})

test('dns: at the bound of questions there is SERVFAIL, and a question that is asked already still has room', t => {
  const way = new ScriptedWay()
  const { query, service } = open(t, [way])
  for (let at = 0; at < MAX_QUESTIONS; at++) query(`n${at}.example.org`)
  t.is(service.pending, MAX_QUESTIONS)
  t.deepEqual(dataOf(query('one-more.example.org')), [['SERVFAIL']])
  const second = query('n5.example.org')
  t.deepEqual(second.answers, [])
  way.answer({ rcode: 3 }, way.sent[5]!)
  t.deepEqual(dataOf(second), [['NXDOMAIN']])
  t.is(service.counters.dns_limit, 1)
})

test('dns: truncated goes by TCP, and comes whole', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  const { query } = open(t, [udp, tcp])
  const told = query('www.example.org', { udpBytes: 1_232 })
  const bytes = udp.sent[0]!
  const out = { bytes: 0, rcode: 0 }
  udp.asked.clear()
  bytes.inquiry.onAnswer(bytes, 'truncated', Buffer.from(bytes.bytes), out)
  t.is(tcp.sent.length, 1)
  tcp.answer({
    answers: Array.from({ length: 20 }, (_, at) => ({
      type: 'A',
      name: 'www.example.org',
      data: `192.0.2.${at}`,
      ttl: 9,
    })),
  })
  t.is(told.answers[0]!.answers!.length, 20)
  t.false(told.answers[0]!.flag_tc)
})

test('dns: what is too long for the client is truncated, by TCP it gets all', t => {
  const way = new ScriptedWay(true)
  const { query, ask } = open(t, [way])
  const answers = Array.from({ length: 100 }, (_, at) => ({
    type: 'A' as const,
    name: 'www.example.org',
    data: `192.0.2.${at}`,
    ttl: 9,
  }))
  const told = query()
  way.answer({ answers })
  t.true(told.answers[0]!.flag_tc)
  t.is(told.answers[0]!.answers!.length, 0)
  t.is(ask(makeQuery('www.example.org'), true).answers[0]!.answers!.length, 100)
})

test('dns: a stale answer after 1.8 s of silence, at once while the silence lasts, and a fresh one when it ends', t => {
  const way = new ScriptedWay()
  const { query, pass, clock, service } = open(t, [way])
  query()
  way.answer(a('192.0.2.80', 60))
  clock.now += 120_000
  const told = query()
  pass(1_700)
  t.deepEqual(told.answers, [])
  pass(100)
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
  t.is((told.answers[0]!.answers![0] as { ttl: number }).ttl, 30)
  t.is(query().answers.length, 1, 'who comes later does not wait')
  pass(4_000)
  t.is(service.pending, 0)
  const sent = way.sent.length
  t.deepEqual(dataOf(query()), [['NOERROR', '192.0.2.80']])
  t.is(way.sent.length, sent)
  clock.now += 31_000
  const fresh = query()
  way.answer(a('192.0.2.99', 60))
  t.deepEqual(dataOf(fresh), [['NOERROR', '192.0.2.99']])
})
