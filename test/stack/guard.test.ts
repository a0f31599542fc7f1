import { checksum, Flag, fragments, icmp, ip, type Packet, tcp, udp } from '../helpers/packets.ts'
import type { Rig } from './rig.ts'
import { Client, forBoth, pattern, stackTest, V4, V6 } from './rig.ts'

const SYN = { fromPort: 40_000, toPort: 80, seq: 1, flags: Flag.syn }

/** A copy of an IPv4 packet after a change, with a right header checksum again. */
function changed4(packet: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(packet)
  change(copy)
  copy.writeUInt16BE(0, 10)
  copy.writeUInt16BE(checksum(copy.subarray(0, (copy[0]! & 15) * 4)), 10)
  return copy
}

const counters = [
  'drop_malformed',
  'drop_checksum',
  'drop_address',
  'drop_option',
  'drop_protocol',
  'drop_icmp',
  'drop_fragment',
] as const

/** Nothing is answered, no flow begins, and exactly this counter says so. */
function dropped(rig: Rig, packet: Uint8Array): { counted: string[]; out: Packet[]; flows: number } {
  const before = counters.map(name => rig.counter(name))
  const out = rig.send([packet])
  const counted = counters.filter((name, at) => rig.counter(name) === before[at]! + 1)
  return { counted, out, flows: rig.held().flows! + rig.held().endpoints! }
}

const syn4 = tcp(V4, SYN)
const syn6 = tcp(V6, SYN)
/** The SYN with IPv4 options, which are padded. */
function with4(...options: number[]): Buffer {
  const header = Buffer.alloc(20 + Math.ceil(options.length / 4) * 4)
  header.set(syn4.subarray(0, 20))
  header.set(options, 20)
  return changed4(Buffer.concat([header, syn4.subarray(20)]), copy => {
    copy[0] = 0x40 | (header.length / 4)
    copy.writeUInt16BE(copy.length, 2)
  })
}

const optioned = (...options: number[]) => tcp(V4, { ...SYN, options })
const from = (source: string) => tcp({ from: source, to: source.includes(':') ? V6.to : V4.to }, SYN)
const to = (destination: string) => tcp({ from: destination.includes(':') ? V6.from : V4.from, to: destination }, SYN)

const cases: readonly [string, Uint8Array, (typeof counters)[number]][] = [
  ['one byte', Uint8Array.of(0x45), 'drop_malformed'],
  ['version 5', Uint8Array.from([0x55, ...syn4.subarray(1)]), 'drop_malformed'],
  ['19 bytes of IPv4', syn4.subarray(0, 19), 'drop_malformed'],
  ['39 bytes of IPv6', syn6.subarray(0, 39), 'drop_malformed'],
  ['IPv4 header length below 5', changed4(syn4, copy => copy.writeUInt8(0x44, 0)), 'drop_malformed'],
  ['IPv4 header length beyond its total', changed4(syn4, copy => copy.writeUInt16BE(18, 2)), 'drop_malformed'],
  ['IPv4 total beyond the packet', changed4(syn4, copy => copy.writeUInt16BE(41, 2)), 'drop_malformed'],
  ['IPv6 length beyond the packet', Buffer.from(syn6).fill(1, 4, 5), 'drop_malformed'],
  ['IPv4 header checksum', Buffer.from(syn4).fill(9, 8, 9), 'drop_checksum'],
  ['TCP checksum', Buffer.from(syn4).fill(9, 36, 37), 'drop_checksum'],
  ['TCP checksum over IPv6', Buffer.from(syn6).fill(9, 56, 57), 'drop_checksum'],
  [
    'TCP header length below 5',
    ip(V4, { protocol: 6, payload: Buffer.from(syn4.subarray(20)).fill(0x40, 12, 13) }),
    'drop_malformed',
  ],
  [
    'TCP header length beyond the packet',
    ip(V4, { protocol: 6, payload: Buffer.from(syn4.subarray(20)).fill(0xf0, 12, 13) }),
    'drop_malformed',
  ],
  ['19 bytes of TCP', ip(V4, { protocol: 6, payload: syn4.subarray(20, 39) }), 'drop_malformed'],
  ['no TCP at all', ip(V4, { protocol: 6, payload: new Uint8Array() }), 'drop_malformed'],
  ['7 bytes of UDP', ip(V4, { protocol: 17, payload: new Uint8Array(7) }), 'drop_malformed'],
  ['GRE', ip(V4, { protocol: 47, payload: new Uint8Array(20) }), 'drop_protocol'],
  ['IGMP', ip(V4, { protocol: 2, payload: new Uint8Array(8) }), 'drop_protocol'],
  ['no next header', ip(V6, { protocol: 59, payload: new Uint8Array(8) }), 'drop_protocol'],
  ['source 127.0.0.1', from('127.0.0.1'), 'drop_address'],
  ['source 0.0.0.0', from('0.0.0.0'), 'drop_address'],
  ['source multicast', from('224.0.0.1'), 'drop_address'],
  ['source 0.1.2.3', from('0.1.2.3'), 'drop_address'],
  ['source class E', from('240.0.0.1'), 'drop_address'],
  ['source broadcast', from('255.255.255.255'), 'drop_address'],
  ['source ::1', from('::1'), 'drop_address'],
  ['source ::', from('::'), 'drop_address'],
  ['source multicast, IPv6', from('ff02::1'), 'drop_address'],
  ['source ::ffff:1.2.3.4', from('::ffff:1.2.3.4'), 'drop_address'],
  ['destination 127.0.0.1', to('127.0.0.1'), 'drop_address'],
  ['destination 0.0.0.0', to('0.0.0.0'), 'drop_address'],
  ['destination 0.1.2.3', to('0.1.2.3'), 'drop_address'],
  ['destination broadcast', to('255.255.255.255'), 'drop_address'],
  ['destination multicast', to('239.1.2.3'), 'drop_address'],
  ['source ::127.0.0.1', from('::7f00:1'), 'drop_address'],
  ['destination ::1', to('::1'), 'drop_address'],
  ['destination multicast, IPv6', to('ff02::fb'), 'drop_address'],
  ['destination ::ffff:127.0.0.1', to('::ffff:127.0.0.1'), 'drop_address'],
  [
    'land: source and destination the same',
    tcp({ from: V4.to, to: V4.to }, { ...SYN, toPort: 40_000 }),
    'drop_address',
  ],
  ['land over IPv6', tcp({ from: V6.to, to: V6.to }, SYN), 'drop_address'],
  ['IPv4 option of length 0', with4(68, 0, 0, 0), 'drop_malformed'],
  ['IPv4 option of length 1', with4(68, 1, 0, 0), 'drop_malformed'],
  ['IPv4 option of length 255', with4(68, 255, 0, 0), 'drop_malformed'],
  ['IPv4 option without its length', with4(1, 1, 1, 68), 'drop_malformed'],
  ['IPv4 loose source route', with4(131, 7, 4, 192, 0, 2, 1), 'drop_option'],
  ['IPv4 strict source route', with4(1, 137, 7, 4, 192, 0, 2, 1), 'drop_option'],
  ['TCP option of length 0', optioned(8, 0, 0, 0), 'drop_malformed'],
  ['TCP option of length 1', optioned(8, 1, 0, 0), 'drop_malformed'],
  ['TCP option of length 255', optioned(8, 255, 0, 0), 'drop_malformed'],
  ['TCP option without its length', optioned(1, 1, 1, 8), 'drop_malformed'],
  ['TCP option that is cut off', optioned(1, 1, 2, 4), 'drop_malformed'],
  ['window scale of length 255', optioned(3, 255, 7, 0), 'drop_malformed'],
  ['ICMP redirect', icmp(V4, 5, 1, new Uint8Array(32)), 'drop_icmp'],
  ['ICMP echo when echo is off', icmp(V4, 8, 0, new Uint8Array(12)), 'drop_icmp'],
  ['ICMPv6 echo when echo is off', icmp(V6, 128, 0, new Uint8Array(12)), 'drop_icmp'],
  ['router solicitation', icmp(V6, 133, 0, new Uint8Array(12)), 'drop_icmp'],
  ['router advertisement', icmp(V6, 134, 0, new Uint8Array(20)), 'drop_icmp'],
  ['neighbour solicitation', icmp(V6, 135, 0, new Uint8Array(28)), 'drop_icmp'],
  ['neighbour advertisement', icmp(V6, 136, 0, new Uint8Array(28)), 'drop_icmp'],
  ['ICMPv6 redirect', icmp(V6, 137, 0, new Uint8Array(44)), 'drop_icmp'],
]

for (const [name, packet, counter] of cases)
  stackTest(`guard: dropped and counted: ${name}`, {}, (t, rig) => {
    t.deepEqual(dropped(rig, packet), { counted: [counter], out: [], flows: 0 })
  })

stackTest('guard: with echo on, other ICMP is dropped all the same', { echo: true }, (t, rig) => {
  for (const [type, pair] of [
    [5, V4],
    [0, V4],
    [13, V4],
    [129, V6],
    [134, V6],
    [135, V6],
  ] as const)
    t.deepEqual(dropped(rig, icmp(pair, type, 0, new Uint8Array(28))), { counted: ['drop_icmp'], out: [], flows: 0 })
})

stackTest('guard: a wrong sum in an ICMP echo is not answered', { echo: true }, (t, rig) => {
  const expected = { counted: ['drop_checksum'], out: [], flows: 0 }
  t.deepEqual(dropped(rig, Buffer.from(icmp(V4, 8, 0, pattern(20))).fill(1, 30, 31)), expected)
  t.deepEqual(dropped(rig, Buffer.from(icmp(V6, 128, 0, pattern(20))).fill(1, 50, 51)), expected)
})

for (const vnetHdr of [false, true])
  forBoth(`icmp: echo on: the answer has the same bytes, vnet ${vnetHdr}`, { echo: true, vnetHdr }, (t, rig, pair) => {
    const rest = Buffer.concat([Uint8Array.of(0x12, 0x34, 0, 7), pattern(56)])
    const [answer, ...more] = rig.send([icmp(pair, pair === V6 ? 128 : 8, 0, rest)])
    t.deepEqual(more, [])
    t.is(answer!.from, pair.to)
    t.is(answer!.to, pair.from)
    t.is(answer!.payload[0], pair === V6 ? 129 : 0)
    t.deepEqual(answer!.payload.subarray(4), rest)
  })

forBoth('icmp: echo on: a ping larger than the MTU is answered in fragments', { echo: true }, (t, rig, pair) => {
  const rest = Buffer.concat([Uint8Array.of(0x12, 0x34, 0, 7), pattern(4000)])
  const packet = icmp(pair, pair === V6 ? 128 : 8, 0, rest)
  const header = pair === V6 ? 40 : 20
  const parts = fragments(pair, pair === V6 ? 58 : 1, packet.subarray(header), 1500)
  const out = rig.send(parts)
  t.true(out.length >= 3)
  t.true(out.every(one => one.bytes.length <= 1500))
  const whole = Buffer.concat(out.map(one => one.payload))
  t.is(whole[0], pair === V6 ? 129 : 0)
  t.true(whole.subarray(4).equals(rest))
  rig.tick(40_000)
})

stackTest('guard: bytes behind the IP packet are not part of it', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.send([Buffer.concat([client.segment(Flag.ack, { payload: Buffer.from('exact') }), pattern(7)])])
  client.seq += 5
  t.is(rig.received(client.id).toString(), 'exact')
  client.close()
})

stackTest('guard: hop-by-hop and destination options before TCP are skipped', {}, (t, rig) => {
  const segment = syn6.subarray(40)
  const hopByHop = Buffer.from([60, 0, 1, 4, 0, 0, 0, 0])
  const destination = Buffer.from([6, 1, 1, 12, ...new Array<number>(12).fill(0)])
  const out = rig.send([ip(V6, { protocol: 0, payload: Buffer.concat([hopByHop, destination, segment]) })])
  t.deepEqual(out, [])
  t.is(rig.held().flows, 1)
  for (const id of rig.flows.keys()) rig.tell('release', id)
})

stackTest('guard: more than eight extension headers are malformed, and so is one that is cut off', {}, (t, rig) => {
  const option = [60, 0, 1, 4, 0, 0, 0, 0]
  const many = Buffer.concat([Buffer.from(new Array(9).fill(option).flat()), syn6.subarray(40)])
  t.deepEqual(dropped(rig, ip(V6, { protocol: 60, payload: many })).counted, ['drop_malformed'])
  t.deepEqual(dropped(rig, ip(V6, { protocol: 60, payload: Uint8Array.of(6, 200, 0, 0, 0, 0, 0, 0) })).counted, [
    'drop_malformed',
  ])
  t.deepEqual(dropped(rig, ip(V6, { protocol: 60, payload: Uint8Array.of(6, 0, 0, 0) })).counted, ['drop_malformed'])
})

stackTest('guard: IPv4 options before TCP are skipped', {}, (t, rig) => {
  t.deepEqual(rig.send([with4(1, 1, 68, 4, 0, 0, 0, 0)]), [])
  t.is(rig.held().flows, 1)
  for (const id of rig.flows.keys()) rig.tell('release', id)
})

for (const flags of [0, Flag.syn | Flag.fin, Flag.syn | Flag.rst, Flag.fin, 0x3f])
  stackTest(`guard: TCP flags 0x${flags.toString(16)} without a flow begin nothing`, {}, (t, rig) => {
    const out = rig.send([tcp(V4, { ...SYN, flags })])
    t.is(rig.held().flows, 0)
    t.true(out.every(packet => (packet.tcp!.flags & Flag.rst) !== 0))
  })

stackTest('guard: 20,000 random packets: no trap, nothing left, and a SYN is still taken', { echo: true }, (t, rig) => {
  let state = 12_345
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state % below
  }
  const seeds = [
    syn4,
    syn6,
    udp(V4, 1, 2, pattern(30)),
    udp(V6, 1, 2, pattern(30)),
    icmp(V4, 8, 0, pattern(20)),
    icmp(V6, 128, 0, pattern(20)),
  ]
  for (let round = 0; round < 20_000; round++) {
    const packet = Buffer.from(seeds[random(seeds.length)]!)
    for (let change = 0; change <= random(4); change++) packet[random(packet.length)] = random(256)
    if (packet[0]! >> 4 === 4 && random(2) === 0) {
      packet.writeUInt16BE(0, 10)
      packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10)
    }
    rig.send([packet.subarray(0, random(8) === 0 ? random(packet.length) + 1 : packet.length)])
    rig.stack.exports.tg_udp_release()
    if (round % 1000 === 0) rig.tick(500)
  }
  for (let id = 0; id < 64; id++) rig.tell('release', id)
  for (let id = 0; id < 64; id++) rig.stack.exports.tg_udp_forget(id)
  rig.tick(40_000)
  const client = new Client(rig, V4, 60_000).open()
  client.data(Buffer.from('alive'))
  t.is(rig.received(client.id).toString(), 'alive')
  client.close()
  for (let id = 64; id < 16_384; id++) rig.stack.exports.tg_udp_forget(id)
})
