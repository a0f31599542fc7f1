import test from 'ava'
import { LEFT_MS, Rung } from '../../src/resolver/rung.ts'
import { makeQuery } from '../dns/messages.ts'
import { a, dataOf, open, PROXY_DOWN, REFUSED_BY_PROXY, ScriptedWay } from './rig.ts'

test('dns: a way that the proxy refuses is left for the next at once, told once, and tried again later', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  udp.failsWith = REFUSED_BY_PROXY
  const { query, lines, clock } = open(t, [udp, tcp])
  const told = query()
  t.is(tcp.sent.length, 1, 'in the same moment')
  tcp.answer(a('192.0.2.80'))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
  query('b.example.org')
  t.deepEqual([udp.sent.length, tcp.sent.length], [1, 2])
  tcp.answer(a('192.0.2.81', 60, 'b.example.org'))
  t.deepEqual(
    lines.map(({ message, fields }) => [message, fields?.by]),
    [['names are resolved', 'tcp']],
  )
  clock.now += LEFT_MS
  udp.failsWith = undefined
  query('c.example.org')
  t.is(udp.sent.length, 2)
  udp.answer(a('192.0.2.82', 60, 'c.example.org'))
  t.deepEqual(
    lines.map(({ fields }) => fields?.by),
    ['tcp', 'udp'],
  )
})

test('dns: a way of which nothing is known has company after a moment; one that has answered has 2 s', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  const { query, pass } = open(t, [udp, tcp])
  const told = query()
  pass(300)
  t.is(tcp.sent.length, 0)
  pass(200)
  t.is(tcp.sent.length, 1)
  pass(2_000)
  udp.answer(a('192.0.2.80'), udp.sent[0])
  t.is(dataOf(told).length, 1, 'the slow one may still win')
  t.is(tcp.asked.size, 0, 'and the other is given up')
  query('b.example.org')
  pass(1_900)
  t.deepEqual([udp.sent.length, tcp.sent.length], [4, 1], 'asked again, for the path may have lost it')
  pass(200)
  t.is(tcp.sent.length, 2)
  tcp.answer(a('192.0.2.81', 60, 'b.example.org'))
  query('c.example.org')
  t.deepEqual([udp.sent.length, tcp.sent.length], [4, 3], 'the silent one is left')
})

test('dns: one silent name does not make a way bad that answers others', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  const { query, pass } = open(t, [udp, tcp])
  query('a.example.org')
  udp.answer(a('192.0.2.80', 60, 'a.example.org'))
  query('slow.example.org')
  pass(1_000)
  query('b.example.org')
  udp.answer(a('192.0.2.80', 60, 'b.example.org'))
  pass(1_200)
  t.is(tcp.sent.length, 1, 'for the slow one')
  query('c.example.org')
  t.is(udp.sent.at(-1)!.inquiry.query.key.includes('c'), true)
  t.is(tcp.sent.length, 1)
})

test('dns: while a way is tried again others take the one that works', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  udp.failsWith = REFUSED_BY_PROXY
  const { query, clock } = open(t, [udp, tcp])
  query()
  tcp.answer(a('192.0.2.80'))
  udp.failsWith = undefined
  clock.now += LEFT_MS
  for (const name of ['a', 'b', 'c']) query(`${name}.example.org`)
  t.deepEqual([udp.sent.length, tcp.sent.length], [2, 3])
})

test('dns: SERVFAIL within 4.9 s, also for a question that comes right behind a look at what is pending', t => {
  const { query, pass } = open(t, [new ScriptedWay()])
  const told = query()
  pass(99)
  pass(4_800)
  t.deepEqual(dataOf(told), [['SERVFAIL']])
})

test('dns: SERVFAIL within 5 s where nobody answers; where the proxy is away at once', t => {
  const ways = [new ScriptedWay(), new ScriptedWay(true)]
  const { query, pass, clock } = open(t, ways)
  const told = query()
  pass(4_700)
  t.deepEqual(told.answers, [])
  pass(200)
  t.deepEqual(dataOf(told), [['SERVFAIL']])
  t.deepEqual(dataOf(query()), [['SERVFAIL']], 'and for a moment that is remembered')
  clock.now += 6_000
  for (const way of ways) way.failsWith = PROXY_DOWN
  t.deepEqual(dataOf(query()), [['SERVFAIL']])
  for (const way of ways) way.failsWith = undefined
  clock.now += 6_000
  t.deepEqual(query().answers, [], 'it is not the ways that were bad: they are asked')
})

test('dns: a resolver without EDNS is asked without', t => {
  const way = new ScriptedWay()
  const { query } = open(t, [way])
  const told = query()
  t.true(way.sent[0]!.hasEdns)
  way.answer({ rcode: 1 })
  t.false(way.sent[1]!.hasEdns)
  way.answer(a('192.0.2.80'))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
})

test('dns: a resolver that refuses us is left for another; one that failed for this name is not', t => {
  const [first, second] = [new ScriptedWay(), new ScriptedWay()]
  const { query, service } = open(t, [first], [second])
  const told = query()
  first.answer({ rcode: 5 })
  second.answer(a('192.0.2.80'))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
  query('b.example.org')
  t.deepEqual([first.sent.length, second.sent.length], [1, 2])
  const failed = query('c.example.org')
  second.answer({ rcode: 2 }, second.sent.at(-1))
  first.answer({ rcode: 5 })
  t.deepEqual(dataOf(failed), [['REFUSED']])
  query('d.example.org')
  t.is(second.sent.length, 4)
  t.is(service.counters.dns_failed, 1)
})

test('dns: letters in another case are no answer: the stream is asked, and the datagrams are left', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  const { query } = open(t, [udp, tcp])
  const told = query()
  udp.sent[0]!.inquiry.onMangled(udp.sent[0]!)
  t.is(tcp.sent.length, 1)
  tcp.answer(a('192.0.2.80'))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
  query('b.example.org')
  t.is(udp.sent.length, 1)
})

test('dns: where the stream fails too, letters are sent in lower case', t => {
  const udp = new ScriptedWay()
  const tcp = new ScriptedWay(true)
  tcp.failsWith = REFUSED_BY_PROXY
  const { query } = open(t, [udp, tcp])
  const told = query('WWW.EXAMPLE.ORG')
  udp.sent[0]!.inquiry.onMangled(udp.sent[0]!)
  udp.sent[0]!.inquiry.onMangled(udp.sent[0]!)
  t.is(udp.sent.length, 2)
  t.true(udp.sent[1]!.bytes.includes('example'))
  t.false(udp.sent[1]!.exactCase)
  udp.answer(a('192.0.2.80'))
  t.deepEqual(dataOf(told), [['NOERROR', '192.0.2.80']])
})

test('dns: that no name can be resolved is told once a minute, with the reason, and again after it could', t => {
  const way = new ScriptedWay(true)
  way.failsWith = REFUSED_BY_PROXY
  const { query, lines, clock } = open(t, [way])
  for (const name of ['a', 'b', 'c']) query(`${name}.example.org`)
  const warned = () => lines.filter(({ message }) => message === 'names cannot be resolved')
  t.deepEqual(
    warned().map(({ fields }) => fields),
    [{ resolver: '192.0.2.1:53', reason: 'tcp: command not supported' }],
  )
  way.failsWith = undefined
  query('d.example.org')
  way.answer(a('192.0.2.80', 60, 'd.example.org'))
  way.failsWith = PROXY_DOWN
  query('e.example.org')
  t.is(warned().length, 2)
  clock.now += 61_000
  query('f.example.org')
  t.is(warned().length, 3)
})

test('dns: where no way is left, each is told with its reason', t => {
  const [udp, tcp] = [new ScriptedWay(), new ScriptedWay(true)]
  udp.failsWith = REFUSED_BY_PROXY
  tcp.failsWith = PROXY_DOWN
  const { query, lines } = open(t, [udp, tcp])
  query('a.example.org')
  const [warned] = lines.filter(({ message }) => message === 'names cannot be resolved')
  t.regex(String(warned?.fields?.reason), /^\S+: command not supported; \S+: (?!command not supported)./)
})

test('dns: a name that a resolver refuses is no complaint', t => {
  const way = new ScriptedWay()
  const { query, lines } = open(t, [way])
  query()
  way.answer({ rcode: 2 })
  t.deepEqual(lines, [])
})

test('dns: who asks any number of resolvers fills no log', t => {
  const { ask, lines } = open(t, [new ScriptedWay()])
  for (let at = 0; at < 50; at++) {
    const way = new ScriptedWay()
    const rungs = [new Rung('udp', `${at}`, way)]
    ask(makeQuery('www.example.org'), false, { prefix: `\u0001${at}`, name: `${at}`, rungs, answeredBy: undefined })
    way.answer(a('192.0.2.80'))
  }
  t.is(lines.length, 8)
})
