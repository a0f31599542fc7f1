import test from 'ava'
import { NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { MAX_QUESTIONS, NO_ANSWER } from '../../src/resolver/dns-service.ts'
import type { Resolver } from '../../src/resolver/rung.ts'
import { LEFT_MS, Rung } from '../../src/resolver/rung.ts'
import { makeQuery, room } from '../dns/messages.ts'
import { a, dataOf, open, PROXY_DOWN, REFUSED_BY_PROXY, ScriptedWay } from './rig.ts'

const namesBehind = (names = 100) =>
  new NameMap(
    new VirtualAddresses({
      network4: Uint8Array.of(198, 18, 0, 0),
      bits4: 15,
      own4: Uint8Array.of(198, 18, 0, 1),
      prefix6: undefined,
    }),
    { names, ttlSeconds: 10, holdSeconds: 20 },
  )

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

test('dns: in map mode names have virtual addresses, and other types are forwarded', t => {
  const way = new ScriptedWay()
  const { query, service } = open(t, [way], [], { map: namesBehind() })
  t.deepEqual(dataOf(query('www.example.org')), [['NOERROR', '198.18.0.2']])
  t.deepEqual(dataOf(query('www.example.net')), [['NOERROR', '198.18.0.3']])
  t.deepEqual(dataOf(query('2.0.18.198.in-addr.arpa', { type: 'PTR' })), [['NOERROR', 'www.example.org']])
  t.is(way.sent.length, 0)
  t.is(service.counters.dns_from_map, 3)
  const text = query('www.example.org', { type: 'TXT' })
  way.answer({ answers: [{ type: 'TXT', name: 'www.example.org', data: 'hi' }] })
  t.is(text.answers[0]!.answers!.length, 1)
})

test('dns: in map mode service records carry no addresses, from the cache as well', t => {
  const way = new ScriptedWay()
  const { ask } = open(t, [way], [], { map: namesBehind() })
  const query = makeQuery('www.example.org', { typeNumber: 65 })
  const told = ask(query)
  const sent = way.sent[0]!
  // alpn h2, and an ipv4hint of 192.0.2.1
  const data = Buffer.from('00010000010003026832000400 04c0000201'.replace(' ', ''), 'hex')
  const head = Buffer.from('c00c004100010000003c', 'hex')
  const bytes = Buffer.concat([sent.bytes.subarray(0, sent.query.questionEnd), head, Buffer.of(0, data.length), data])
  bytes[2] = 0x81
  bytes[3] = 0x80
  bytes.writeUInt16BE(1, 6)
  bytes.writeUInt32BE(0, 8)
  way.asked.clear()
  sent.inquiry.onAnswer(sent, 'accepted', bytes, { bytes: bytes.length, rcode: 0 })
  const again = ask(query)
  for (const { raw } of [told, again]) {
    t.is(raw.length, 1)
    t.false(raw[0]!.includes(Buffer.from('c0000201', 'hex')))
    t.true(raw[0]!.includes('h2'))
  }
  t.is(way.sent.length, 1)
})

test('dns: a suffix has its own resolver, before the map', t => {
  const way = new ScriptedWay()
  const inner = new ScriptedWay()
  const { query, split } = open(t, [way], [], { map: namesBehind() })
  split.set('cluster.local', {
    prefix: '\u0003',
    name: 'inner',
    rungs: [new Rung('udp', 'inner', inner)],
    answeredBy: undefined,
  })
  const told = query('db.cluster.local')
  t.deepEqual([way.sent.length, inner.sent.length], [0, 1])
  inner.answer(a('10.0.0.9', 5, 'db.cluster.local'))
  t.deepEqual(dataOf(told), [['NOERROR', '10.0.0.9']])
  t.deepEqual(dataOf(query('db.example.org')), [['NOERROR', '198.18.0.2']])
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
