/** Reassembly: RFC 791 §3.2, RFC 8200 §4.5, RFC 5722, and attacks on it. */
import { fragments, ip, type Pair, udp, udpDatagram } from '../helpers/packets.ts'
import { forget, takeDatagrams } from './datagrams.ts'
import type { Rig } from './rig.ts'
import { Client, forBoth, pattern, stackTest, V4, V6 } from './rig.ts'

const UDP = 17
const LARGE = pattern(8_000)
/** What tg_fragments_held may be at most. */
const MAX_BYTES = 8 << 20

const datagram = (pair: Pair, payload: Uint8Array) => udpDatagram(pair, 5000, 53, payload)
const large = (pair: Pair, id: number) => fragments(pair, UDP, datagram(pair, LARGE), 1500, id)

/** One fragment: bytes `start` to `end` of the whole. */
function piece(pair: Pair, whole: Uint8Array, start: number, end: number, more: boolean, id = 9): Buffer {
  const payload = whole.subarray(start, end)
  if (!pair.from.includes(':'))
    return ip(pair, { protocol: UDP, payload, id, fragment: (start / 8) | (more ? 0x2000 : 0) })
  const head = Buffer.alloc(8)
  head[0] = UDP
  head.writeUInt16BE(start | (more ? 1 : 0), 2)
  head.writeUInt32BE(id, 4)
  return ip(pair, { protocol: 44, payload: Buffer.concat([head, payload]) })
}

/** The payloads that came through; endpoints are forgotten. */
function received(rig: Rig): Buffer[] {
  const got = takeDatagrams(rig)
  forget(rig, got)
  return got.map(one => one.payload)
}

/** Exactly the large datagram comes through. */
function stillWorks(rig: Rig, pair: Pair, id = 60_001): boolean {
  rig.send(large(pair, id))
  const [got, ...more] = received(rig)
  return more.length === 0 && got?.equals(LARGE) === true
}

/** Time for what is incomplete to be given up. */
function settle(rig: Rig): void {
  rig.tick(16_000)
}

for (const [order, arrange] of [
  ['in order', (parts: Buffer[]) => parts],
  ['in reversed order', (parts: Buffer[]) => parts.reverse()],
  ['odd ones first', (parts: Buffer[]) => [...parts.filter((_, at) => at % 2), ...parts.filter((_, at) => !(at % 2))]],
  [
    'each twice',
    (parts: Buffer[]) =>
      parts
        .slice(0, -1)
        .flatMap(part => [part, part])
        .concat(parts.slice(-1)),
  ],
] as const)
  for (const size of [1_473, 8_000, 65_507])
    forBoth(`fragments: ${size} bytes of UDP, ${order}`, {}, (t, rig, pair) => {
      const payload = pattern(size)
      rig.send(arrange(fragments(pair, UDP, datagram(pair, payload), 1500)))
      const [got, ...more] = received(rig)
      t.deepEqual(more, [])
      t.true(got?.equals(payload))
    })

stackTest('fragments: the largest datagram over IPv6, 65,527 bytes', {}, (t, rig) => {
  const payload = pattern(65_527)
  rig.send(fragments(V6, UDP, datagram(V6, payload), 1500))
  t.true(received(rig)[0]?.equals(payload))
})

forBoth('fragments: two datagrams, their fragments in turns', {}, (t, rig, pair) => {
  const other = pattern(8_000, 7)
  const [one, two] = [large(pair, 1), fragments(pair, UDP, datagram(pair, other), 1500, 2)]
  rig.send(one.flatMap((part, at) => [part, two[at]!]))
  const got = received(rig)
  t.is(got.length, 2)
  t.true(got[0]!.equals(LARGE))
  t.true(got[1]!.equals(other))
})

forBoth('fragments: those of other clients, destinations and ids do not mix', {}, (t, rig, pair) => {
  const isV6 = pair === V6
  const others = [
    { from: isV6 ? 'fd74:756e::2' : '198.18.0.2', to: pair.to },
    { from: pair.from, to: isV6 ? '2001:db8::8' : '203.0.113.8' },
  ]
  const whole = datagram(pair, LARGE)
  rig.send([piece(pair, whole, 0, 1400, true)])
  for (const other of others) rig.send([piece(other, whole, 1400, 8008, false)])
  rig.send([piece(pair, whole, 1400, 8008, false, 10)])
  t.deepEqual(received(rig), [])
  rig.send([piece(pair, whole, 1400, 8008, false)])
  t.is(received(rig).length, 1)
  settle(rig)
})

stackTest('fragments: a TCP segment in fragments is put together', {}, (t, rig) => {
  const client = new Client(rig).open()
  const data = pattern(3000)
  const segment = client.segment(16, { payload: data })
  rig.send(fragments(V4, 6, segment.subarray(20), 576))
  t.true(data.equals(rig.received(client.id)))
  client.seq += data.length
  client.close()
})

forBoth('fragments: an overlap ends the datagram (RFC 5722), whichever fragment it is', {}, (t, rig, pair) => {
  const whole = datagram(pair, pattern(2_000))
  const evil = Buffer.alloc(whole.length, 0xee)
  const end = whole.length
  const attacks = [
    [piece(pair, whole, 0, 800, true), piece(pair, evil, 400, 1200, true), piece(pair, whole, 1200, end, false)],
    [piece(pair, whole, 0, 800, true), piece(pair, evil, 0, 800, true), piece(pair, whole, 800, end, false)],
    [piece(pair, whole, 800, end, false), piece(pair, evil, 0, 808, true), piece(pair, whole, 0, 800, true)],
    [piece(pair, whole, 0, 800, true), piece(pair, evil, 8, 16, true), piece(pair, whole, 800, end, false)],
    [piece(pair, whole, 0, 800, true), piece(pair, whole, 1000, end, false), piece(pair, evil, 792, 1000, true)],
    // as many bytes as the whole has: the hole would be filled with what was in memory
    [piece(pair, whole, 0, 800, true), piece(pair, evil, 400, 1200, true), piece(pair, whole, 1600, end, false)],
  ]
  for (const packets of attacks) {
    rig.send(packets)
    t.deepEqual(received(rig), [])
    settle(rig)
  }
  t.is(rig.counter('drop_fragment'), 18)
  t.is(rig.counter('drop_checksum'), 0, 'it was put together')
  t.true(stillWorks(rig, pair))
})

forBoth('fragments: two ends, or bytes behind the end, end the datagram', {}, (t, rig, pair) => {
  const whole = datagram(pair, pattern(2_000))
  const head = piece(pair, whole, 0, 800, true)
  const tail = piece(pair, whole, 1_600, 2_008, false)
  for (const packets of [
    [piece(pair, whole, 800, 1_600, false), tail, head],
    [tail, piece(pair, whole, 800, 1_600, false), head],
    [piece(pair, whole, 1_600, 2_000, true), piece(pair, whole, 800, 1_600, false), head],
    [piece(pair, whole, 800, 1_600, false), piece(pair, whole, 1_600, 2_000, true), head],
  ]) {
    rig.send(packets)
    t.deepEqual(received(rig), [])
    settle(rig)
  }
  t.is(rig.counter('drop_fragment'), 12)
  t.true(stillWorks(rig, pair))
})

forBoth('fragments: tiny first fragments and pieces over the TCP header are dropped', {}, (t, rig, pair) => {
  const part = (protocol: number, start: number, bytes: number) => {
    const packet = piece(pair, pattern(64), start, start + bytes, true)
    if (pair === V6) packet[40] = protocol
    else {
      packet[9] = protocol
      packet.writeUInt16BE((packet.readUInt16BE(10) + UDP - protocol) & 0xffff, 10) // its sum takes part
    }
    return packet
  }
  for (const tiny of [part(6, 0, 8), part(6, 0, 16), part(6, 8, 8), part(6, 16, 8)]) {
    rig.send([tiny])
    t.is(rig.held().fragmentBytes, 0)
  }
  t.is(rig.counter('drop_fragment'), 4)
  rig.send([part(6, 0, 24)])
  t.not(rig.held().fragmentBytes, 0)
  settle(rig)
})

stackTest('fragments: beyond 65,535 bytes: dropped, at once or when the whole would be', {}, (t, rig) => {
  rig.send([piece(V4, pattern(65_600), 65_512, 65_528, false)])
  rig.send([piece(V4, pattern(65_600), 65_512, 65_520, true)])
  t.is(rig.counter('drop_fragment'), 2)
  rig.send([piece(V6, pattern(65_600), 65_528, 65_536, false)])
  t.is(rig.counter('drop_fragment'), 3)
  t.is(rig.held().fragmentBytes, 0)
  t.true(stillWorks(rig, V4))
  t.true(stillWorks(rig, V6))
})

stackTest('fragments: of a length that is no multiple of 8, or 0, and more to come: dropped', {}, (t, rig) => {
  const whole = pattern(64)
  rig.send([piece(V4, whole, 0, 13, true), piece(V4, whole, 8, 8, true), piece(V6, whole, 8, 8, false)])
  t.is(rig.counter('drop_fragment'), 3)
  t.is(rig.held().fragmentBytes, 0)
})

forBoth(
  'fragments: 20,000 ids: memory is bounded, and a large datagram passes during and after it',
  {},
  (t, rig, pair) => {
    const whole = datagram(pair, LARGE)
    let most = 0
    for (let id = 0; id < 20_000; id += 50) {
      rig.send(Array.from({ length: 50 }, (_, at) => piece(pair, whole, 0, 1400, true, id + at)))
      most = Math.max(most, rig.held().fragmentBytes!)
      if (id % 2_000 === 0) t.true(stillWorks(rig, pair, 40_000 + id), `after ${id}`)
    }
    t.true(most <= MAX_BYTES, `${most} bytes`)
    t.true(stillWorks(rig, pair))
    settle(rig)
  },
)

forBoth('fragments: who floods loses its own: another client completes one in slow pieces', {}, (t, rig, pair) => {
  const flood: Pair = { from: pair === V6 ? 'fd74:756e::66' : '198.18.0.66', to: pair.to }
  const whole = datagram(flood, pattern(65_000))
  const good = large(pair, 1)
  for (const [at, part] of good.entries()) {
    rig.send([part])
    for (let id = 0; id < 1_000; id += 50)
      rig.send(Array.from({ length: 50 }, (_, more) => piece(flood, whole, 8, 64_008, true, at * 1_000 + id + more)))
  }
  t.true(received(rig)[0]?.equals(LARGE))
  t.true(rig.held().fragmentBytes! <= MAX_BYTES)
  t.true(rig.counter('drop_fragment') > 5_000)
  settle(rig)
})

forBoth('fragments: a datagram in more than 1,024 pieces is given up', {}, (t, rig, pair) => {
  const whole = datagram(pair, pattern(16_000))
  for (let at = 0; at < 1_100 * 8; at += 8) rig.send([piece(pair, whole, at, at + 8, true)])
  t.true(rig.counter('drop_fragment') >= 1_025)
  t.true(stillWorks(rig, pair))
  settle(rig)
})

forBoth('fragments: what is not complete after 15 s is given up, and the client told so', {}, (t, rig, pair) => {
  const first = large(pair, 1)[0]!
  rig.send([first])
  t.deepEqual(rig.tick(14_900), [])
  const [told, ...more] = rig.tick(200)
  t.deepEqual(more, [])
  t.is(rig.held().fragmentBytes, 0)
  t.is(rig.counter('drop_fragment'), 1)
  t.deepEqual([...told!.payload.subarray(0, 2)], pair === V6 ? [3, 1] : [11, 1])
  const quoted = told!.payload.subarray(8)
  t.true(quoted.equals(first.subarray(0, quoted.length)))
  t.true(quoted.length >= 28)
})

stackTest('fragments: with no first fragment nobody is told', {}, (t, rig) => {
  rig.send([...large(V4, 1).slice(1), ...large(V6, 1).slice(1)])
  t.deepEqual(rig.tick(16_000), [])
})

stackTest('fragments: of ICMPv6 with echo off, and of unknown protocols, nothing is kept', {}, (t, rig) => {
  rig.send(fragments(V6, 58, pattern(3_000), 1500))
  rig.send(fragments(V4, 1, pattern(3_000), 1500))
  rig.send(fragments(V4, 47, pattern(3_000), 1500))
  t.is(rig.counter('drop_icmp'), 6)
  t.is(rig.counter('drop_protocol'), 3)
  t.is(rig.held().fragmentBytes, 0)
})

stackTest('fragments: neighbour messages in fragments change nothing (RFC 6980)', { echo: true }, (t, rig) => {
  const message = Buffer.concat([Uint8Array.of(134, 0, 0, 0), pattern(2_996)])
  t.deepEqual(rig.send(fragments(V6, 58, message, 1500)), [])
  t.is(rig.counter('drop_icmp'), 1)
})

stackTest('fragments: a whole packet between them passes', {}, (t, rig) => {
  const parts = large(V4, 1)
  rig.send([parts[0]!, udp(V4, 5000, 53, pattern(10)), ...parts.slice(1)])
  t.deepEqual(
    received(rig).map(payload => payload.length),
    [10, 8_000],
  )
})
