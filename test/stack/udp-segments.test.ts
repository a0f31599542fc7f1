/** Super-packets of UDP: VIRTIO_NET_HDR_GSO_UDP_L4 (linux/virtio_net.h). */
import type { ExecutionContext } from 'ava'
import { type Packet, udp } from '../helpers/packets.ts'
import { forget, takeDatagrams } from './datagrams.ts'
import { forBoth, pattern, type Rig, stackTest, V4, V6 } from './rig.ts'

const USO = { vnetHdr: true, uso: true }
const PEER4 = Buffer.from([192, 0, 2, 99])
const PEER6 = Buffer.from('20010db8000000000000000000000099', 'hex')

/** A virtio header that vouches for the checksum and names a segment size. */
function superHeader(segment: number, gsoType = 5): Buffer {
  const header = Buffer.alloc(12)
  header.set([1, gsoType, 0, 0, 0, 0, 20, 0, 6, 0])
  header.writeUInt16LE(segment, 4)
  return header
}

for (const [bytes, segment, expected] of [
  [250, 100, [100, 100, 50]],
  [200, 100, [100, 100]],
  [100, 100, [100]],
  [99, 100, [99]],
  [0, 100, [0]],
] as const)
  forBoth(`udp-segments: ${bytes} bytes in segments of ${segment} from a client`, USO, (t, rig, pair) => {
    const payload = pattern(bytes)
    rig.send([udp(pair, 5353, 53, payload)], superHeader(segment))
    const got = takeDatagrams(rig)
    t.deepEqual(
      got.map(one => one.payload.length),
      [...expected],
    )
    t.true(Buffer.concat(got.map(one => one.payload)).equals(payload))
    t.true(got.every(one => one.destPort === 53 && one.endpoint === got[0]!.endpoint))
    forget(rig, got)
  })

stackTest('udp-segments: a header that makes more than 128 datagrams of a packet is a lie', USO, (t, rig) => {
  rig.send([udp(V4, 5353, 53, pattern(1281))], superHeader(10))
  t.is(takeDatagrams(rig).length, 0)
  t.is(rig.counter('drop_vnet'), 1)
  rig.send([udp(V4, 5353, 53, pattern(1280))], superHeader(10))
  const got = takeDatagrams(rig)
  t.is(got.length, 128)
  forget(rig, got)
})

stackTest('udp-segments: more datagrams than the table holds wait for the host', USO, (t, rig) => {
  const { abi, words, bytes, exports } = rig.stack
  const count = exports.tg_prepare()
  for (let row = 0; row < count; row++) {
    const packet = Buffer.concat([superHeader(10), udp(V4, 5353, 1 + row, pattern(1000))])
    bytes.set(packet, words[abi.slotTable / 4 + 2 * row]!)
    words[abi.slotTable / 4 + 2 * row + 1] = packet.length
  }
  const ports: number[] = []
  let calls = 0
  for (let done = 0; done < count; calls++) {
    done = exports.tg_ingress(done, count)
    const got = takeDatagrams(rig)
    ports.push(...got.map(one => one.destPort))
    if (done === count) forget(rig, got)
  }
  t.true(calls > 1)
  t.deepEqual(ports, Array.from({ length: count }, (_, row) => Array.from({ length: 100 }, () => 1 + row)).flat())
})

/** Gives the stack datagrams for the client of `to`, all lying in memory until the packets are taken. */
function answers(t: ExecutionContext, rig: Rig, sent: [to: number, from: Buffer, port: number, Buffer][]): Packet[] {
  const { abi, bytes, words, exports } = rig.stack
  let at = words[abi.landingTable / 4]!
  for (const [to, from, port, payload] of sent) {
    bytes.set(from, abi.scratch)
    bytes.set(payload, at)
    t.is(exports.tg_udp_send(to, from.length === 4 ? 4 : 6, abi.scratch, port, at, payload.length), 0)
    at += payload.length
  }
  return rig.flush()
}

forBoth(
  'udp-segments: answers of one size and source leave as one packet, the last may be shorter',
  USO,
  (t, rig, pair) => {
    rig.send([udp(pair, 5353, 53, Buffer.from('?'))])
    const asked = takeDatagrams(rig)
    const peer = pair === V6 ? PEER6 : PEER4
    const sizes = [100, 100, 100, 40, 100, 100, 101, 0, 100]
    const payloads = sizes.map((size, at) => pattern(size, at * 1000))
    const packets = answers(
      t,
      rig,
      payloads.map(payload => [asked[0]!.endpoint, peer, 4242, payload]),
    )
    const header = pair === V6 ? 48 : 28
    t.deepEqual(
      packets.map(({ payload, vnet }) => [payload.length - 8, vnet!.gsoType, vnet!.gsoSize, vnet!.hdrLen]),
      [
        [340, 5, 100, header],
        [200, 5, 100, header],
        [101, 0, 0, 0],
        [0, 0, 0, 0],
        [100, 0, 0, 0],
      ],
    )
    t.true(Buffer.concat(packets.map(({ payload }) => payload.subarray(8))).equals(Buffer.concat(payloads)))
    for (const { payload, vnet } of packets) {
      t.is(payload.readUInt16BE(4), payload.length)
      t.deepEqual([vnet!.flags, vnet!.csumStart, vnet!.csumOffset], [1, header - 8, 6])
    }
    forget(rig, asked)
  },
)

stackTest('udp-segments: another source, port or client is another packet', USO, (t, rig) => {
  rig.send([udp(V4, 5353, 53, Buffer.from('?')), udp(V4, 5354, 53, Buffer.from('?'))])
  const asked = takeDatagrams(rig)
  const [one, two] = [asked[0]!.endpoint, asked[1]!.endpoint]
  const other = Buffer.from([192, 0, 2, 98])
  const payload = pattern(100)
  const packets = answers(t, rig, [
    [one, PEER4, 1, payload],
    [one, PEER4, 2, payload],
    [one, other, 2, payload],
    [two, other, 2, payload],
    [two, other, 2, payload],
  ])
  t.deepEqual(
    packets.map(packet => [
      packet.from,
      packet.payload.readUInt16BE(0),
      packet.payload.readUInt16BE(2),
      packet.payload.length,
    ]),
    [
      ['192.0.2.99', 1, 5353, 108],
      ['192.0.2.99', 2, 5353, 108],
      ['192.0.2.98', 2, 5353, 108],
      ['192.0.2.98', 2, 5354, 208],
    ],
  )
  t.is(answers(t, rig, [[two, other, 2, payload]]).length, 1, 'nothing joins a packet that is written')
  forget(rig, asked)
})

stackTest('udp-segments: a packet has 64 segments and 65,535 bytes at most', USO, (t, rig) => {
  rig.send([udp(V4, 5353, 53, Buffer.from('?'))])
  const asked = takeDatagrams(rig)
  const send = (count: number, size: number) =>
    answers(
      t,
      rig,
      Array.from({ length: count }, () => [asked[0]!.endpoint, PEER4, 1, pattern(size)]),
    ).map(({ payload }) => (payload.length - 8) / size)
  t.deepEqual(send(130, 10), [64, 64, 2])
  t.deepEqual(send(60, 1400), [46, 14])
  forget(rig, asked)
})

stackTest('udp-segments: a device without them gets each datagram as a packet', { vnetHdr: true }, (t, rig) => {
  rig.send([udp(V4, 5353, 53, Buffer.from('?'))])
  const asked = takeDatagrams(rig)
  const packets = answers(
    t,
    rig,
    [1, 2, 3].map(() => [asked[0]!.endpoint, PEER4, 1, pattern(50)]),
  )
  t.deepEqual(
    packets.map(({ payload, vnet }) => [payload.length, vnet!.gsoType]),
    [
      [58, 0],
      [58, 0],
      [58, 0],
    ],
  )
  forget(rig, asked)
})
