import test from 'ava'
import { NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { Rung } from '../../src/resolver/rung.ts'
import { makeQuery } from '../dns/messages.ts'
import { a, dataOf, open, ScriptedWay } from './rig.ts'

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
