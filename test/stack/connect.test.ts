import { Flag, ip } from '../helpers/packets.ts'
import { Client, forBoth, LINUX_OPTIONS, type Rig, stackTest, V4, V6 } from './rig.ts'

const RST_ACK = Flag.rst | Flag.ack

/** The options of a SYN-ACK as [kind, …value] lists, padding left out. */
function optionsOf(bytes: readonly number[]): number[][] {
  const found: number[][] = []
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    if (bytes[at] === 1) at++
    else {
      found.push([bytes[at]!, ...bytes.slice(at + 2, at + bytes[at + 1]!)])
      at += bytes[at + 1]!
    }
  }
  return found
}

forBoth('connect: a SYN is held and not answered, also when it comes again', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  const id = client.knock()
  const { abi } = rig.stack
  t.is(rig.state(id), abi.stateHeld)
  t.true(rig.has(id, abi.eventSyn))
  rig.flows.get(id)!.events = 0
  t.deepEqual(client.send(Flag.syn, { ack: 0, options: LINUX_OPTIONS }), [])
  t.deepEqual(rig.tick(5_000), [])
  t.is(rig.counter('syn_retransmitted'), 1)
  t.is(rig.flows.get(id)!.events, 0, 'no second dial')
  t.is(rig.held().flows, 1)
  rig.tell('release', id)
})

forBoth('connect: the flow knows who asks for what', {}, (t, rig, pair) => {
  const id = new Client(rig, pair, 50_001, 8443).knock()
  const { abi, words, bytes } = rig.stack
  const row = abi.flows + id * abi.flowBytes
  const isV6 = pair === V6
  t.is(words[(row + abi.flowFamily) / 4], isV6 ? 6 : 4)
  t.is(words[(row + abi.flowClientPort) / 4], 50_001)
  t.is(words[(row + abi.flowDestPort) / 4], 8443)
  const client = [...bytes.slice(row + abi.flowClient, row + abi.flowClient + 16)]
  const dest = [...bytes.slice(row + abi.flowDest, row + abi.flowDest + 16)]
  const zeros = (count: number) => new Array<number>(count).fill(0)
  t.deepEqual(client, isV6 ? [0xfd, 0x74, 0x75, 0x6e, ...zeros(11), 1] : [198, 18, 0, 1, ...zeros(12)])
  t.deepEqual(dest, isV6 ? [0x20, 1, 0x0d, 0xb8, ...zeros(11), 7] : [203, 0, 113, 7, ...zeros(12)])
  rig.tell('release', id)
})

for (const vnetHdr of [false, true])
  forBoth(
    `connect: accept answers with MSS of the device, window scale and SACK, ${vnetHdr ? 'vnet' : 'plain'}`,
    { vnetHdr, mtu: 1400 },
    (t, rig, pair) => {
      const client = new Client(rig, pair)
      const id = client.knock()
      const [answer, ...more] = rig.tell('accept', id)
      t.deepEqual(more, [])
      t.is(answer!.from, pair.to)
      t.is(answer!.to, pair.from)
      const { tcp } = answer!
      t.is(tcp!.flags, Flag.syn | Flag.ack)
      t.is(tcp!.ack, client.isn + 1)
      const mss = pair === V6 ? 1340 : 1360
      t.deepEqual(
        optionsOf(tcp!.options).sort((a, b) => a[0]! - b[0]!),
        [[2, mss >> 8, mss & 255], [3, 5], [4]],
      )
      t.is(rig.state(id), rig.stack.abi.stateOpening)
      t.is(rig.counter('tcp_opened'), 0)
      client.seq++
      client.ack = tcp!.seq + 1
      t.deepEqual(client.send(Flag.ack), [])
      t.is(rig.state(id), rig.stack.abi.stateOpen)
      t.true(rig.has(id, rig.stack.abi.eventOpen))
      t.is(rig.counter('tcp_opened'), 1)
      client.close()
    },
  )

stackTest('connect: options that the client did not offer are not used', {}, (t, rig) => {
  const client = new Client(rig)
  const id = client.knock([])
  const [answer] = rig.tell('accept', id)
  t.deepEqual(optionsOf(answer!.tcp!.options), [[2, 0x05, 0xb4]])
  rig.tell('abort', id)
  rig.tell('release', id)
})

for (const vnetHdr of [false, true])
  stackTest(
    `connect: a SYN-ACK that was lost is sent again, its MSS still that of the device, ${vnetHdr ? 'vnet' : 'plain'}`,
    { vnetHdr },
    (t, rig) => {
      const client = new Client(rig)
      const [first] = rig.tell('accept', client.knock())
      const again = rig.tick(1_500)
      t.is(again.length, 1)
      t.deepEqual(again[0]!.tcp!.options, first!.tcp!.options)
      t.is(again[0]!.tcp!.seq, first!.tcp!.seq)
      t.is(again[0]!.tcp!.flags, Flag.syn | Flag.ack)
      rig.tell('release', client.id)
    },
  )

forBoth('connect: refuse with RST', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  const id = client.knock()
  const [answer, ...more] = rig.refuse(id, rig.stack.abi.answerReset)
  t.deepEqual(more, [])
  t.is(answer!.tcp!.flags, RST_ACK)
  t.is(answer!.tcp!.ack, client.isn + 1)
  t.is(answer!.tcp!.seq, 0)
  t.deepEqual([answer!.from, answer!.tcp!.fromPort], [pair.to, 80])
  t.deepEqual([answer!.to, answer!.tcp!.toPort], [pair.from, 40_000])
  t.true(rig.has(id, rig.stack.abi.eventGone))
  rig.tell('release', id)
})

forBoth('connect: refuse with silence', {}, (t, rig, pair) => {
  const id = new Client(rig, pair).knock()
  t.deepEqual(rig.refuse(id, rig.stack.abi.answerSilence), [])
  t.true(rig.has(id, rig.stack.abi.eventGone))
  t.deepEqual(rig.tell('release', id), [])
  t.deepEqual(rig.tick(2_000), [])
})

/** RFC 792, RFC 1812 5.2.7.1; RFC 4443 3.1: type and code. */
const CODES = [
  ['answerNetUnreachable', [3, 0], [1, 0]],
  ['answerHostUnreachable', [3, 1], [1, 3]],
  ['answerProhibited', [3, 13], [1, 1]],
  ['answerPortUnreachable', [3, 3], [1, 4]],
] as const

function refused(rig: Rig, answer: (typeof CODES)[number][0], pair: typeof V4) {
  const id = new Client(rig, pair, 0xabcd, 0x1234, 0x01020304).knock()
  const out = rig.refuse(id, rig.stack.abi[answer])
  rig.tell('release', id)
  return out
}

for (const [answer, v4, v6] of CODES) {
  stackTest(`connect: ${answer}: exact bytes of the ICMP error (IPv4)`, {}, (t, rig) => {
    const [packet, ...more] = refused(rig, answer, V4)
    t.deepEqual(more, [])
    t.is(packet!.from, V4.to)
    t.is(packet!.to, V4.from)
    t.is(packet!.protocol, 1)
    const quoted = Buffer.from([
      ...[0xab, 0xcd, 0x12, 0x34, 1, 2, 3, 4, 0, 0, 0, 0], // ports, sequence, acknowledgement
      ...[0x50, 2, 0, 0, 0, 0, 0, 0], // length and SYN; window, checksum, urgent
    ])
    const message = packet!.payload
    t.deepEqual([...message.subarray(0, 2)], v4)
    t.deepEqual([...message.subarray(4, 8)], [0, 0, 0, 0])
    const whole = ip(V4, { protocol: 6, payload: quoted })
    t.deepEqual([...message.subarray(8)], [...whole.subarray(0, message.length - 8)])
    t.true(message.length >= 8 + 20 + 8, 'the header and 8 bytes at least (RFC 792)')
  })

  stackTest(`connect: ${answer}: exact bytes of the ICMPv6 error (IPv6)`, {}, (t, rig) => {
    const [packet, ...more] = refused(rig, answer, V6)
    t.deepEqual(more, [])
    t.is(packet!.from, V6.to)
    t.is(packet!.to, V6.from)
    t.is(packet!.protocol, 58)
    const quoted = Buffer.from([0xab, 0xcd, 0x12, 0x34, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0])
    const message = packet!.payload
    t.deepEqual([...message.subarray(0, 2)], v6)
    t.deepEqual([...message.subarray(4, 8)], [0, 0, 0, 0])
    const whole = ip(V6, { protocol: 6, payload: quoted })
    t.deepEqual([...message.subarray(8)], [...whole.subarray(0, message.length - 8)])
    t.true(message.length >= 8 + 40 + 8)
  })
}

forBoth('connect: the RST of a held SYN ends the flow, one of another sequence does not', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  const id = client.knock()
  t.deepEqual(client.send(Flag.rst, { seq: client.isn + 2 }), [])
  t.is(rig.state(id), rig.stack.abi.stateHeld)
  t.deepEqual(client.send(Flag.rst, { seq: client.isn + 1 }), [])
  t.true(rig.has(id, rig.stack.abi.eventGone))
  t.is(rig.error(id), rig.stack.abi.errorReset)
  t.deepEqual(rig.tell('accept', id), [], 'a late accept is nothing')
  rig.tell('release', id)
})

forBoth('connect: RST in answer to the SYN-ACK ends the flow', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  const id = client.knock()
  rig.tell('accept', id)
  t.deepEqual(client.send(Flag.rst, { seq: client.isn + 1 }), [])
  t.true(rig.has(id, rig.stack.abi.eventGone))
  rig.tell('release', id)
})

forBoth('connect: a segment of no flow is answered with RST', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  const [answer] = client.send(Flag.ack, { seq: 77, ack: 88 })
  t.is(answer!.tcp!.flags & Flag.rst, Flag.rst)
  t.is(answer!.tcp!.seq, 88)
  t.deepEqual(client.send(Flag.rst), [], 'a RST never is')
})

stackTest('connect: a SYN of another sequence while one is held takes its place', {}, (t, rig) => {
  const client = new Client(rig)
  const id = client.knock()
  client.send(Flag.syn, { seq: 0x7000_0000, ack: 0, options: LINUX_OPTIONS })
  t.is(rig.held().flows, 1)
  const [answer] = rig.tell('accept', id)
  t.is(answer!.tcp!.ack, 0x7000_0001)
  rig.tell('release', id)
})

stackTest(
  'connect: above the limit of flows a SYN is dropped and counted, and old flows live',
  { maxFlows: 2 },
  (t, rig) => {
    const [a, b] = [new Client(rig, V4, 1001).open(), new Client(rig, V4, 1002).open()]
    t.is(new Client(rig, V4, 1003).knock(), -1)
    t.is(rig.counter('drop_flow_limit'), 1)
    a.data(Buffer.from('still here'))
    t.is(rig.received(a.id).toString(), 'still here')
    b.close()
    rig.tick(2_000)
    const c = new Client(rig, V4, 1003)
    t.true(c.knock() >= 0, 'a place is free again')
    a.close()
    rig.tell('release', c.id)
  },
)

stackTest('connect: two flows that differ in one name alone are two', {}, (t, rig) => {
  const clients = [
    new Client(rig, V4, 5000, 80),
    new Client(rig, V4, 5001, 80),
    new Client(rig, V4, 5000, 81),
    new Client(rig, { ...V4, to: '203.0.113.8' }, 5000, 80),
    new Client(rig, { ...V4, from: '198.18.0.2' }, 5000, 80),
    new Client(rig, V6, 5000, 80),
  ].map(client => client.open())
  t.is(new Set(clients.map(client => client.id)).size, clients.length)
  for (const [at, client] of clients.entries()) client.data(Buffer.from(`flow ${at}`))
  for (const [at, client] of clients.entries()) t.is(rig.received(client.id).toString(), `flow ${at}`)
  for (const client of clients) client.close()
})
