import type { ExecutionContext } from 'ava'
import { checksum, fragments, type Packet, type Pair, udp, udpDatagram } from '../helpers/packets.ts'
import { answer, forget, takeDatagrams } from './datagrams.ts'
import { forBoth, pattern, stackTest, V4, V6 } from './rig.ts'

/** Puts the fragments of one datagram together; its transport checksum must be right. */
function reassemble(t: ExecutionContext, packets: readonly Packet[]): Buffer {
  const isV6 = packets[0]!.from.includes(':')
  const offsetOf = ({ fragment }: Packet) => (isV6 ? fragment & 0xfff8 : (fragment & 0x1fff) * 8)
  const sorted = [...packets].sort((a, b) => offsetOf(a) - offsetOf(b))
  let end = 0
  for (const packet of sorted) {
    t.is(offsetOf(packet), end)
    end += packet.payload.length
  }
  const whole = Buffer.concat(sorted.map(packet => packet.payload))
  t.is(whole.readUInt16BE(4), whole.length)
  const { bytes } = sorted[0]!
  const addresses = isV6 ? bytes.subarray(8, 40) : bytes.subarray(12, 20)
  const tail = Buffer.from([0, 17, whole.length >> 8, whole.length & 255])
  t.is(checksum(addresses, tail, whole), 0, 'the checksum of the whole')
  return whole
}

const PEER4 = Buffer.from([192, 0, 2, 99])
const PEER6 = Buffer.from('20010db8000000000000000000000099', 'hex')
const SERVER4 = Buffer.from([203, 0, 113, 7])
const SERVER6 = Buffer.from('20010db8000000000000000000000007', 'hex')

for (const length of [0, 1, 2, 1000, 1472])
  forBoth(`udp: ${length} bytes from a client`, {}, (t, rig, pair) => {
    const payload = pattern(Math.min(length, pair === V6 ? 1452 : 1472))
    t.deepEqual(rig.send([udp(pair, 5353, 53, payload)]), [])
    const got = takeDatagrams(rig)
    t.is(got.length, 1)
    t.deepEqual(got[0]!.payload, payload)
    t.deepEqual(got[0]!.dest, pair === V6 ? SERVER6 : SERVER4)
    t.is(got[0]!.destPort, 53)
    t.is(rig.counter('udp_in'), 1)
    forget(rig, got)
  })

for (const vnetHdr of [false, true])
  for (const length of [0, 1, 1000, 1452, 1453, 1472, 1473, 8000, 65_000, 65_507])
    forBoth(`udp: ${length} bytes to a client, vnet ${vnetHdr}`, { vnetHdr }, (t, rig, pair: Pair) => {
      rig.send([udp(pair, 5353, 53, Buffer.from('?'))])
      const asked = takeDatagrams(rig)
      // over a relay an IPv6 datagram is never longer: a SOCKS header of 22 bytes stands before it
      const payload = pattern(pair === V6 ? Math.min(length, 65_485) : length)
      const packets = answer(t, rig, asked[0]!.endpoint, pair === V6 ? PEER6 : PEER4, 4242, payload)
      t.true(
        packets.every(packet => packet.bytes.length <= 1500),
        `${packets[0]!.bytes.length} bytes`,
      )
      const room = pair === V6 ? 1452 : 1472
      t.is(packets.length === 1, length <= room)
      for (const packet of packets) {
        t.is(packet.to, pair.from)
        t.is(packet.from, pair === V6 ? '2001:db8::99' : '192.0.2.99')
      }
      const first = packets.find(packet => (packet.fragment & (pair === V6 ? 0xfff8 : 0x1fff)) === 0)!
      const partial = packets.length === 1 && vnetHdr
      if (partial) t.is(first.vnet!.flags, 1)
      const whole = partial ? first.payload : reassemble(t, packets)
      t.is(whole.readUInt16BE(0), 4242)
      t.is(whole.readUInt16BE(2), 5353)
      t.true(whole.subarray(8).equals(payload))
      forget(rig, asked)
    })

for (const length of [1473, 8000, 65_507])
  forBoth(`udp: ${length} bytes in fragments, in order, reversed and doubled`, {}, (t, rig, pair) => {
    const payload = pattern(pair === V6 ? Math.min(length, 65_485) : length)
    const datagram = udpDatagram(pair, 5353, 53, payload)
    const parts = fragments(pair, 17, datagram, 1500)
    const orders = [parts, [...parts].reverse(), [parts.at(-1)!, ...parts]]
    for (const [at, order] of orders.entries()) {
      rig.send(order.map(packet => withId(packet, at + 1)))
      const got = takeDatagrams(rig)
      t.is(got.length, 1, `order ${at}`)
      t.true(got[0]!.payload.equals(payload))
      forget(rig, got)
    }
    rig.tick(40_000)
  })

/** The packet with another identification of its fragments. */
function withId(packet: Buffer, id: number): Buffer {
  const copy = Buffer.from(packet)
  if (copy[0]! >> 4 === 6) copy.writeUInt32BE(id, 44)
  else {
    copy.writeUInt16BE(id, 4)
    copy.writeUInt16BE(0, 10)
    copy.writeUInt16BE(checksum(copy.subarray(0, 20)), 10)
  }
  return copy
}

forBoth('udp: fragments of which one is missing are forgotten after a while', {}, (t, rig, pair) => {
  const parts = fragments(pair, 17, udpDatagram(pair, 5353, 53, pattern(8000)), 1500)
  rig.send(parts.slice(0, -1))
  t.is(takeDatagrams(rig).length, 0)
  t.is(rig.held().slots, 0, 'fragments hold no slot')
  const ticksWanted = () => rig.stack.exports.tg_tick(rig.now) !== 0
  rig.tick(1000)
  t.true(ticksWanted())
  const out = rig.tick(40_000)
  t.false(ticksWanted(), 'the timers rest')
  t.true(out.length <= 1, 'at most a "reassembly time exceeded"')
  rig.send(parts.slice(-1))
  const got = takeDatagrams(rig)
  t.is(got.length, 0, 'the others are gone')
  rig.tick(40_000)
})

stackTest('udp: an endpoint has one number, whatever it asks for, and each endpoint its own', {}, (t, rig) => {
  const one = Buffer.from('1')
  rig.send([
    udp(V4, 1000, 53, one),
    udp({ ...V4, to: '192.0.2.1' }, 1000, 99, one),
    udp(V4, 1001, 53, one),
    udp({ ...V4, from: '198.18.0.2' }, 1000, 53, one),
    udp(V6, 1000, 53, one),
  ])
  const got = takeDatagrams(rig)
  const ids = got.map(datagram => datagram.endpoint)
  t.is(ids[0], ids[1])
  t.is(new Set(ids).size, 4)
  t.is(rig.held().endpoints, 4)
  forget(rig, got)
})

stackTest('udp: a batch of 64 datagrams is 64 rows, and the slots are free after release', {}, (t, rig) => {
  rig.send(Array.from({ length: 64 }, (_, at) => udp(V4, 1000, 2000 + at, pattern(at))))
  t.is(rig.held().slots, 64)
  const got = takeDatagrams(rig)
  t.deepEqual(
    got.map(({ destPort, payload }) => [destPort, payload.length]),
    Array.from({ length: 64 }, (_, at) => [2000 + at, at]),
  )
  t.is(rig.held().slots, 0)
  forget(rig, got)
})

stackTest('udp: there is room for a header in front, told by the row and its first iovec', {}, (t, rig) => {
  rig.send([udp(V4, 1000, 53, Buffer.from('x'))])
  const { abi, words } = rig.stack
  const row = abi.datagrams / 4
  const first = abi.datagramIovecs / 4 + 2 * words[row + abi.datagramFirstIovec / 4]!
  t.is(words[first], words[row + abi.datagramHeader / 4]!)
  t.is(words[first + 1], 0)
  forget(rig, takeDatagrams(rig))
})

stackTest('udp: no checksum is let pass over IPv4, and dropped over IPv6', {}, (t, rig) => {
  for (const [pair, header] of [
    [V4, 20],
    [V6, 40],
  ] as const) {
    const packet = udp(pair, 1000, 53, Buffer.from('bare'))
    packet.writeUInt16BE(0, header + 6)
    rig.send([packet])
  }
  const got = takeDatagrams(rig)
  t.is(got.length, 1)
  t.is(got[0]!.dest.length, 4)
  t.is(rig.counter('drop_checksum'), 1)
  forget(rig, got)
})

for (const [name, change] of [
  ['a wrong checksum', (packet: Buffer) => packet.writeUInt8(packet[26]! ^ 1, 26)],
  ['a length beyond the packet', (packet: Buffer) => packet.writeUInt16BE(13, 24)],
  ['a length below 8', (packet: Buffer) => packet.writeUInt16BE(7, 24)],
  ['destination port 0', (packet: Buffer) => packet.writeUInt16BE(0, 22)],
] as const)
  stackTest(`udp: dropped and counted: ${name}`, {}, (t, rig) => {
    const packet = udp(V4, 1000, 53, Buffer.from('data'))
    change(packet)
    rig.send([packet])
    t.is(takeDatagrams(rig).length, 0)
    t.is(rig.counter('drop_checksum') + rig.counter('drop_malformed'), 1)
  })

stackTest('udp: a partial checksum is taken when the virtio header vouches for it', { vnetHdr: true }, (t, rig) => {
  const packet = udp(V4, 1000, 53, Buffer.from('partial'))
  packet.writeUInt16BE(0x1234, 26)
  const vouched = Buffer.alloc(12)
  vouched.set([1, 0, 0, 0, 0, 0, 20, 0, 6, 0])
  rig.send([packet], vouched)
  const got = takeDatagrams(rig)
  t.is(got[0]?.payload.toString(), 'partial')
  rig.send([packet])
  t.is(takeDatagrams(rig).length, 0)
  t.is(rig.counter('drop_checksum'), 1)
  forget(rig, got)
})

forBoth('udp: refuse is port unreachable with the ports of the datagram', {}, (t, rig, pair) => {
  rig.send([udp(pair, 0x1111, 0x2222, Buffer.from('?'))])
  const got = takeDatagrams(rig)
  const { abi, bytes, exports } = rig.stack
  bytes.set(got[0]!.dest, abi.scratch)
  exports.tg_udp_refuse(got[0]!.endpoint, abi.scratch, 0x2222, abi.answerPortUnreachable)
  const [packet] = rig.flush()
  t.is(packet!.from, pair.to)
  t.is(packet!.to, pair.from)
  t.deepEqual([...packet!.payload.subarray(0, 2)], pair === V6 ? [1, 4] : [3, 3])
  const quoted = packet!.payload.subarray(8 + (pair === V6 ? 40 : 20))
  t.deepEqual([...quoted.subarray(0, 4)], [0x11, 0x11, 0x22, 0x22])
  t.is(packet!.payload[8 + (pair === V6 ? 6 : 9)], 17)
  forget(rig, got)
})

stackTest('udp: an answer of the other family is refused and counted', {}, (t, rig) => {
  rig.send([udp(V4, 1000, 53, Buffer.from('?'))])
  const got = takeDatagrams(rig)
  const { abi, exports, words } = rig.stack
  t.is(exports.tg_udp_send(got[0]!.endpoint, 6, abi.scratch, 53, words[abi.landingTable / 4]!, 1), 1)
  t.is(rig.counter('udp_family'), 1)
  t.deepEqual(rig.flush(), [])
  forget(rig, got)
})

stackTest('udp: forget frees the number, and does nothing twice', {}, (t, rig) => {
  for (let round = 0; round < 3; round++) {
    rig.send([udp(V4, 1000 + round, 53, Buffer.from('?'))])
    const got = takeDatagrams(rig)
    t.is(got[0]!.endpoint, 0)
    forget(rig, got)
    forget(rig, got)
    t.is(rig.held().endpoints, 0)
  }
})
