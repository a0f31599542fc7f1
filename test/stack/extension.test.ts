/** IPv6 extension headers: RFC 8200 §4, and what RFC 4443 says to the sender. */
import { icmp, ip, type Packet, tcp } from '../helpers/packets.ts'
import type { Rig } from './rig.ts'
import { stackTest, V4, V6 } from './rig.ts'

const HOP_BY_HOP = 0
const TCP = 6
const ROUTING = 43
const FRAGMENT = 44
const DESTINATION = 60

const segment = tcp(V6, { fromPort: 40_000, toPort: 80, seq: 1, flags: 2 }).subarray(40)

/** Extension headers: each names the next one. `body` is what stands behind next header and length. */
function chain(headers: readonly [type: number, body: readonly number[]][], last: number, rest: Uint8Array): Buffer {
  const parts = headers.map(([type, body], at) => {
    const next = headers[at + 1]?.[0] ?? last
    const length = Math.ceil((2 + body.length) / 8) - 1
    const bytes = Buffer.alloc(8 * (length + 1))
    bytes.set([next, type === FRAGMENT ? 0 : length, ...body])
    return bytes
  })
  return ip(V6, { protocol: headers[0]?.[0] ?? last, payload: Buffer.concat([...parts, rest]) })
}

const PADDED = [1, 4, 0, 0, 0, 0]

/** What came back, if it is one ICMPv6 error about `packet`. */
function complaint(packet: Buffer, [answer, ...more]: readonly Packet[]) {
  if (answer === undefined) return undefined
  if (more.length > 0 || answer.protocol !== 58) throw new Error('one ICMPv6 message was expected')
  if (answer.from !== V6.to || answer.to !== V6.from) throw new Error('it comes from, or goes to, another')
  if (!answer.payload.subarray(8).equals(packet.subarray(0, 1232))) throw new Error('it quotes something else')
  return { type: answer.payload[0], code: answer.payload[1], pointer: answer.payload.readUInt32BE(4) }
}

function release(rig: Rig): void {
  for (const id of rig.flows.keys()) rig.tell('release', id)
}

const taken: [string, [number, number[]][]][] = [
  ['hop-by-hop options, padded', [[HOP_BY_HOP, PADDED]]],
  ['Pad1 six times', [[DESTINATION, [0, 0, 0, 0, 0, 0]]]],
  ['an unknown option that may be skipped', [[DESTINATION, [0x3e, 4, 1, 2, 3, 4]]]],
  ['a router alert', [[HOP_BY_HOP, [5, 2, 0, 0, 1, 0]]]],
  ['a routing header with nothing left', [[ROUTING, [0, 0, 0, 0, 0, 0]]]],
  ['an atomic fragment', [[FRAGMENT, [0, 0, 0, 0, 0, 9]]]],
  [
    'destination options before and behind an atomic fragment',
    [
      [DESTINATION, PADDED],
      [FRAGMENT, [0, 0, 0, 0, 0, 9]],
      [DESTINATION, PADDED],
    ],
  ],
  ['eight of them', Array.from({ length: 8 }, () => [DESTINATION, PADDED] as [number, number[]])],
]
for (const [name, headers] of taken)
  stackTest(`extension: skipped on the way to TCP: ${name}`, {}, (t, rig) => {
    t.deepEqual(rig.send([chain(headers, TCP, segment)]), [])
    t.is(rig.held().flows, 1)
    release(rig)
  })

const silent: [string, [number, number[]][], string][] = [
  ['nine of them', Array.from({ length: 9 }, () => [DESTINATION, PADDED] as [number, number[]]), 'drop_malformed'],
  ['an option that is longer than its header', [[DESTINATION, [1, 5, 0, 0, 0, 0]]], 'drop_malformed'],
  ['an option without its length', [[DESTINATION, [0, 0, 0, 0, 0, 5]]], 'drop_malformed'],
  ['an unknown option 01: discard', [[DESTINATION, [0x7e, 4, 0, 0, 0, 0]]], 'drop_option'],
  [
    'two fragment headers',
    [
      [FRAGMENT, [0, 0, 0, 0, 0, 9]],
      [FRAGMENT, [0, 0, 0, 0, 0, 9]],
    ],
    'drop_protocol',
  ],
]
for (const [name, headers, counter] of silent)
  stackTest(`extension: dropped without a word: ${name}`, {}, (t, rig) => {
    t.deepEqual(rig.send([chain(headers, TCP, segment)]), [])
    t.is(rig.counter(counter), 1)
    t.is(rig.held().flows, 0)
  })

const told: [string, Buffer, { code: number; pointer: number }, string][] = [
  [
    'an unknown option 10',
    chain([[HOP_BY_HOP, [1, 0, 0xbe, 2, 0, 0]]], TCP, segment),
    { code: 2, pointer: 44 },
    'drop_option',
  ],
  [
    'an unknown option 11',
    chain([[DESTINATION, [0xfe, 4, 0, 0, 0, 0]]], TCP, segment),
    { code: 2, pointer: 42 },
    'drop_option',
  ],
  [
    'a jumbo payload',
    chain([[HOP_BY_HOP, [0xc2, 4, 0, 1, 0, 0]]], TCP, segment),
    { code: 2, pointer: 42 },
    'drop_option',
  ],
  [
    'a routing header of type 0 with a segment left',
    chain([[ROUTING, [0, 1, 0, 0, 0, 0]]], TCP, segment),
    { code: 0, pointer: 42 },
    'drop_option',
  ],
  [
    'hop-by-hop options that are not the first',
    chain(
      [
        [DESTINATION, PADDED],
        [HOP_BY_HOP, PADDED],
      ],
      TCP,
      segment,
    ),
    { code: 1, pointer: 40 },
    'drop_malformed',
  ],
  ['SCTP', ip(V6, { protocol: 132, payload: new Uint8Array(20) }), { code: 1, pointer: 6 }, 'drop_protocol'],
  [
    'SCTP behind options',
    chain([[DESTINATION, PADDED]], 132, new Uint8Array(1400)),
    { code: 1, pointer: 40 },
    'drop_protocol',
  ],
  [
    'a fragment whose length is no multiple of 8',
    chain([[FRAGMENT, [0, 1, 0, 0, 0, 9]]], TCP, segment.subarray(0, 13)),
    { code: 0, pointer: 4 },
    'drop_fragment',
  ],
  [
    'a fragment beyond 65,535',
    chain([[FRAGMENT, [0xff, 0xf8, 0, 0, 0, 9]]], TCP, segment),
    { code: 0, pointer: 42 },
    'drop_fragment',
  ],
]
for (const [name, packet, { code, pointer }, counter] of told)
  stackTest(`extension: dropped, and told by parameter problem: ${name}`, {}, (t, rig) => {
    t.deepEqual(complaint(packet, rig.send([packet])), { type: 4, code, pointer })
    t.is(rig.counter(counter), 1)
    t.is(rig.held().flows, 0)
  })

stackTest('extension: an ICMPv6 error is never answered by one', {}, (t, rig) => {
  const error = icmp(V6, 1, 0, new Uint8Array(60)).subarray(40)
  t.deepEqual(rig.send([chain([[DESTINATION, [0xfe, 4, 0, 0, 0, 0]]], 58, error)]), [])
  t.deepEqual(
    rig.send([
      chain(
        [
          [ROUTING, [0, 1, 0, 0, 0, 0]],
          [DESTINATION, PADDED],
        ],
        58,
        error,
      ),
    ]),
    [],
  )
  t.is(rig.counter('drop_option'), 2)
  t.is(rig.counter('icmp_out'), 0)
})

stackTest('icmp: errors are limited to 1,000 a second', {}, (t, rig) => {
  const packet = ip(V6, { protocol: 132, payload: new Uint8Array(20) })
  let answers = 0
  for (let batch = 0; batch < 50; batch++) answers += rig.send(Array.from({ length: 50 }, () => packet)).length
  t.is(answers, 1000)
  t.is(rig.counter('icmp_limited'), 1500)
  rig.now += 100
  rig.stack.exports.tg_set_now(rig.now)
  answers = 0
  for (let batch = 0; batch < 4; batch++) answers += rig.send(Array.from({ length: 50 }, () => packet)).length
  t.is(answers, 100)
})

stackTest(
  'icmp: echo replies are limited to 1,000 a second, and leave errors their own rate',
  { echo: true },
  (t, rig) => {
    let answers = 0
    for (const [pair, type] of [
      [V4, 8],
      [V6, 128],
    ] as const)
      for (let batch = 0; batch < 15; batch++)
        answers += rig.send(Array.from({ length: 50 }, () => icmp(pair, type, 0, new Uint8Array(8)))).length
    t.is(answers, 1000)
    t.is(rig.counter('icmp_limited'), 500)
    t.is(rig.send([ip(V6, { protocol: 132, payload: new Uint8Array(20) })]).length, 1)
  },
)
