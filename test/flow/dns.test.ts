import test from 'ava'
import { decode } from 'dns-packet'
import { NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { makeQuery } from '../dns/messages.ts'
import { Flag, type Packet, udp } from '../helpers/packets.ts'
import { framed } from '../resolver/live-rig.ts'
import { a } from '../resolver/rig.ts'
import { openDns } from './dns-rig.ts'
import { PAIR, segment } from './rig.ts'

type Rig = ReturnType<typeof openDns>

const names = () => {
  const networks = {
    network4: Uint8Array.of(198, 18, 0, 0),
    bits4: 15,
    own4: Uint8Array.of(198, 18, 0, 1),
    prefix6: undefined,
  }
  return new NameMap(new VirtualAddresses(networks), { names: 20_000, ttlSeconds: 10, holdSeconds: 0 })
}
const answerIn = ({ payload }: Packet) => decode(payload.subarray(8))
const addressIn = (packet: Packet) => answerIn(packet).answers!.map(answer => 'data' in answer && answer.data)
const dns = (query: Uint8Array, from = 5_000) => udp(PAIR, from, 53, query)

test('dns: a query to port 53 of any address is answered from there, and no way of the proxy is opened for it', t => {
  const rig = openDns(t, names())
  const [answer] = rig.send(dns(makeQuery('www.example.org', { id: 77 })))
  t.deepEqual(
    [answer!.from, answer!.to, answer!.payload.readUInt16BE(0), answer!.payload.readUInt16BE(2)],
    [PAIR.to, PAIR.from, 53, 5_000],
  )
  t.deepEqual([answerIn(answer!).id, addressIn(answer!)], [77, ['198.18.0.2']])
  t.deepEqual(rig.asked, ['203.0.113.7:53'])
  t.is(rig.dialer.associations.length, 0)
  t.is(rig.plane.counters().dials_in_flight, 0)
})

test('dns: what is answered later goes to who asked, from whom was asked', t => {
  const rig = openDns(t)
  t.deepEqual(
    rig.send(dns(makeQuery('a.example.org', { id: 1 }), 5_001), dns(makeQuery('b.example.org', { id: 2 }), 5_002)),
    [],
  )
  rig.way.answer(a('192.0.2.2', 60, 'b.example.org'), rig.way.sent[1])
  rig.way.answer(a('192.0.2.1', 60, 'a.example.org'), rig.way.sent[0])
  t.deepEqual(
    rig.take().map(packet => [packet.from, packet.payload.readUInt16BE(2), answerIn(packet).id, ...addressIn(packet)]),
    [
      [PAIR.to, 5_002, 2, '192.0.2.2'],
      [PAIR.to, 5_001, 1, '192.0.2.1'],
    ],
  )
})

test('dns: many answers in one batch do not write over each other', t => {
  const rig = openDns(t, names())
  const queries = Array.from({ length: 400 }, (_, at) =>
    dns(makeQuery(`n${at}.example.org`, { id: at }), 6_000 + (at % 3)),
  )
  const answers: Packet[] = []
  for (let at = 0; at < queries.length; at += 200)
    answers.push(...rig.send(...queries.slice(at, at + 200)), ...rig.send())
  t.is(answers.length, 400)
  for (const packet of answers) {
    const { id, questions } = answerIn(packet)
    t.is(questions![0]!.name, `n${id}.example.org`)
    t.deepEqual(addressIn(packet), [`198.18.${Math.floor((id! + 1) / 254)}.${((id! + 1) % 254) + 1}`])
  }
})

test('dns: a fragmented query is read whole, and garbage is not answered', t => {
  const rig = openDns(t, names())
  t.deepEqual(rig.send(dns(Buffer.from('hello'))), [])
  t.deepEqual(rig.send(dns(new Uint8Array())), [])
  const padded = Buffer.concat([makeQuery('www.example.org'), Buffer.alloc(900)])
  t.is(rig.send(dns(padded)).length, 1)
  t.is(rig.service.counters.dns_malformed, 2)
})

test('dns: other ports are none of its business', t => {
  const rig = openDns(t, names())
  rig.send(udp(PAIR, 5_000, 5353, makeQuery('www.example.org')))
  rig.send(segment(Flag.syn, { toPort: 853 }))
  t.is(rig.dialer.associations.length, 1)
  t.is(rig.dialer.waiting.length, 1)
  t.is(rig.service.counters.dns_queries, 0)
})

test('dns: an endpoint that asked once is forgotten, and is no dial', t => {
  const rig = openDns(t, names())
  for (let port = 10_000; port < 10_040; port++) t.is(rig.send(dns(makeQuery('www.example.org'), port)).length, 1)
  t.is(rig.plane.counters().dials_in_flight, 0)
  t.true(rig.plane.counters().udp_flows! <= 4, 'those who asked longest ago gave way')
})

// ---- streams ----

function connect(rig: Rig, fromPort = 40_000) {
  const [answer] = rig.send(segment(Flag.syn, { fromPort, toPort: 53 }))
  t0(answer!.tcp!.flags === (Flag.syn | Flag.ack), 'the client is answered at once')
  let seq = 1_001
  let ack = answer!.tcp!.seq + 1
  rig.send(segment(Flag.ack, { fromPort, toPort: 53, seq, ack }))
  let stream = Buffer.alloc(0)
  let ended = false
  const hear = (packets: Packet[]) => {
    for (const { tcp } of packets) {
      if (tcp === undefined || tcp.toPort !== fromPort) continue
      stream = Buffer.concat([stream, tcp.payload])
      ack += tcp.payload.length + (tcp.flags & Flag.fin ? 1 : 0)
      ended ||= (tcp.flags & Flag.fin) !== 0
    }
  }
  return {
    write(bytes: Uint8Array, flags = 0) {
      hear(rig.send(segment(Flag.ack | flags, { fromPort, toPort: 53, seq, ack, payload: bytes })))
      seq += bytes.length + (flags & Flag.fin ? 1 : 0)
      rig.plane.endTurn()
      hear(rig.take())
    },
    hear() {
      rig.plane.endTurn()
      hear(rig.take())
    },
    get ended() {
      return ended
    },
    /** The messages that have come whole. */
    messages() {
      const found: ReturnType<typeof decode>[] = []
      for (let at = 0; at + 2 <= stream.length && at + 2 + stream.readUInt16BE(at) <= stream.length; ) {
        const end = at + 2 + stream.readUInt16BE(at)
        found.push(decode(stream.subarray(at + 2, end)))
        at = end
      }
      return found
    },
    close() {
      rig.send(segment(Flag.ack, { fromPort, toPort: 53, seq, ack }))
    },
  }
}

function t0(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not so: ${what}`)
}

test('dns-stream: messages in any pieces, and several in one', t => {
  const rig = openDns(t, names())
  const client = connect(rig)
  const bytes = Buffer.concat([1, 2, 3].map(id => framed(makeQuery(`n${id}.example.org`, { id }))))
  for (const byte of bytes) client.write(Uint8Array.of(byte))
  t.deepEqual(
    client.messages().map(({ id }) => id),
    [1, 2, 3],
  )
  client.write(bytes)
  t.deepEqual(
    client.messages().map(({ id }) => id),
    [1, 2, 3, 1, 2, 3],
  )
  t.is(rig.dialer.waiting.length, 0)
})

test('dns-stream: answers come as they are known, and all before the end of a client that has closed its side', t => {
  const rig = openDns(t)
  const client = connect(rig)
  const query = (id: number) => framed(makeQuery(`n${id}.example.org`, { id }))
  client.write(Buffer.concat([query(1), query(2)]), Flag.fin)
  t.false(client.ended)
  rig.way.answer(a('192.0.2.2', 60, 'n2.example.org'), rig.way.sent[1])
  client.hear()
  t.deepEqual(
    client.messages().map(({ id }) => id),
    [2],
  )
  t.false(client.ended)
  rig.way.answer(a('192.0.2.1', 60, 'n1.example.org'), rig.way.sent[0])
  client.hear()
  t.deepEqual(
    client.messages().map(({ id }) => id),
    [2, 1],
  )
  t.true(client.ended)
  client.close()
  const { tcp_flows, flow_slots, dials_in_flight } = rig.plane.counters()
  t.deepEqual([tcp_flows, flow_slots, dials_in_flight], [0, 0, 0])
})

test('dns-stream: no more than 64 questions of a client at a time; the rest waits, and is answered', t => {
  const rig = openDns(t)
  const client = connect(rig)
  const bytes = Buffer.concat(Array.from({ length: 100 }, (_, id) => framed(makeQuery(`n${id}.example.org`, { id }))))
  for (let at = 0; at < bytes.length; at += 1_000) client.write(bytes.subarray(at, at + 1_000))
  t.is(rig.way.sent.length, 64)
  for (let at = 0; at < 100; at++) {
    rig.way.answer({ rcode: 3 }, rig.way.sent[at])
    client.hear()
  }
  t.is(client.messages().length, 100)
})

test('dns-stream: answers of any size come whole', t => {
  const rig = openDns(t)
  const client = connect(rig)
  client.write(framed(makeQuery('www.example.org', { type: 'TXT' })))
  const answers = Array.from({ length: 250 }, () => ({
    type: 'TXT' as const,
    name: 'www.example.org',
    data: 'x'.repeat(200),
  }))
  rig.way.answer({ answers })
  for (let times = 0; times < 200 && client.messages().length === 0; times++) {
    client.hear()
    client.write(new Uint8Array())
  }
  t.is(client.messages()[0]!.answers!.length, 250)
})

test('dns-stream: a client that resets leaves nothing behind, and what it asked is for nobody', t => {
  const rig = openDns(t)
  const client = connect(rig)
  client.write(framed(makeQuery('www.example.org')))
  rig.send(segment(Flag.rst, { toPort: 53, seq: 1_001 + 2 + makeQuery('www.example.org').length }))
  t.is(rig.plane.counters().tcp_flows, 0)
  rig.way.answer(a('192.0.2.1'))
  rig.plane.endTurn()
  t.deepEqual(rig.take(), [])
})
