import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { formatEndpoint } from '../../src/endpoint.ts'
import { GatewayError } from '../../src/errors.ts'
import { addon } from '../../src/io/addon.ts'
import { Flag, udp } from '../helpers/packets.ts'
import { until } from '../helpers/sockets.ts'
import { established, OPTIONS, open, PAIR, type Rig, segment, untilSent } from './rig.ts'

test('data-plane: a SYN is one dial, however often it comes, and is answered when the dial has succeeded', async t => {
  const rig = await open(t)
  t.deepEqual(rig.send(segment(Flag.syn), segment(Flag.syn)), [])
  t.is(rig.dialer.waiting.length, 1)
  t.is(formatEndpoint(rig.dialer.waiting[0]!.to), '203.0.113.7:80')
  t.is(formatEndpoint(rig.dialer.waiting[0]!.client), '198.18.0.1:40000')
  t.is(rig.plane.counters().dials_in_flight, 1)
  await rig.dialer.succeed()
  const out = await untilSent(rig)
  t.is(out[0]!.tcp!.flags, Flag.syn | Flag.ack)
  t.is(rig.plane.counters().dials_in_flight, 1, 'until the client has answered')
  t.is(rig.plane.flows()[0]!.state, 'opening')
  rig.send(segment(Flag.ack, { seq: 1001, ack: out[0]!.tcp!.seq + 1 }))
  t.is(rig.plane.counters().dials_in_flight, 0)
})

test('data-plane: a SYN whose client has left in the same batch is no dial', async t => {
  const rig = await open(t)
  t.deepEqual(rig.send(segment(Flag.syn), segment(Flag.rst, { seq: 1001 })), [])
  t.is(rig.dialer.waiting.length, 0)
  t.deepEqual(rig.plane.flows(), [])
  const { dials_in_flight, flow_slots, tcp_flows } = rig.plane.counters()
  t.deepEqual([dials_in_flight, flow_slots, tcp_flows], [0, 0, 0])
  rig.send(segment(Flag.syn, { seq: 2000 }))
  t.is(rig.dialer.waiting.length, 1, 'the next one is')
})

test('data-plane: a failed dial is told to the client in the same turn, with one debug line', async t => {
  const rig = await open(t)
  rig.send(segment(Flag.syn))
  rig.dialer.fail('refused')
  rig.plane.endTurn()
  const [answer] = rig.take()
  t.is(answer!.tcp!.flags & Flag.rst, Flag.rst)
  t.is(rig.plane.counters().tcp_flows, 0)
  t.is(rig.plane.counters().flow_slots, 0)
  t.deepEqual(
    rig.lines.map(({ level, fields }) => [level, fields.reason, fields.client, fields.destination]),
    [['debug', 'as the test says', '198.18.0.1:40000', '203.0.113.7:80']],
  )
})

test('data-plane: bytes behind the handshake are the first that the client gets', async t => {
  const rig = await open(t)
  await established(rig, Buffer.from('220 welcome'))
  rig.plane.endTurn()
  let text = ''
  await until(() => {
    for (const packet of rig.take()) text += packet.tcp!.payload.toString()
    return text.length >= 11
  }, 'the greeting')
  t.is(text, '220 welcome')
})

test('data-plane: bytes go both ways and are counted', async t => {
  const got: Buffer[] = []
  const rig = await open(t, {}, peer => {
    peer.on('data', chunk => {
      got.push(chunk)
      peer.write('pong')
    })
  })
  const { ack } = await established(rig)
  rig.send(segment(Flag.ack, { seq: 1001, ack, payload: Buffer.from('ping') }))
  let text = ''
  await until(() => {
    for (const packet of rig.take()) text += packet.tcp!.payload.toString()
    return text === 'pong'
  }, 'the answer')
  t.is(Buffer.concat(got).toString(), 'ping')
  const [view] = rig.plane.flows()
  t.deepEqual([view!.bytesUp, view!.bytesDown, view!.state], [4, 4, 'open'])
})

test('data-plane: the proxy as destination is refused without a dial, and complained of once', async t => {
  const rig = await open(t)
  for (let port = 1; port <= 5; port++) {
    const [answer] = rig.send(segment(Flag.syn, { fromPort: port, toPort: 1080 }))
    t.is(answer!.tcp!.flags & Flag.rst, Flag.rst)
  }
  t.is(rig.dialer.waiting.length, 0)
  t.is(rig.lines.filter(({ level }) => level === 'warn').length, 1)
  t.is(rig.plane.counters().to_upstream_itself, 5)
})

test("data-plane: datagrams to many relays are the gateway's own: one complaint, which names the first", async t => {
  const rig = await open(t)
  rig.dialer.isUpstream = ({ port }) => port >= 20_000
  for (let count = 0; count < 50; count++) rig.send(udp(PAIR, 3000 + count, 20_000 + count, Buffer.from('x')))
  t.is(rig.dialer.associations.length, 0)
  t.is(rig.plane.counters().to_upstream_itself, 50)
  const said = rig.lines.filter(({ level }) => level === 'warn')
  t.is(said.length, 1)
  t.regex(said[0]!.message, /^the route to the proxy leads into the tun: /)
  t.deepEqual(said[0]!.fields, { destination: '203.0.113.7:20000', tun: 'memory' })
})

test('data-plane: at the cap of dials a SYN gets silence, and its next one a dial', async t => {
  const rig = await open(t, { limits: { flows: 100, dials: 1, dialsPerSource: 1 } })
  rig.send(segment(Flag.syn, { fromPort: 1 }))
  t.deepEqual(rig.send(segment(Flag.syn, { fromPort: 2 })), [])
  t.is(rig.dialer.waiting.length, 1)
  t.is(rig.plane.counters().dial_limit, 1)
  rig.dialer.fail('refused')
  rig.plane.endTurn()
  rig.send(segment(Flag.syn, { fromPort: 2 }))
  t.is(rig.dialer.waiting.length, 2)
})

test('data-plane: a dial that takes too long is cancelled, and the client hears nothing', async t => {
  const rig = await open(t, { tcp: { ...OPTIONS.tcp, connectTimeoutMs: 100 } })
  rig.send(segment(Flag.syn))
  await until(() => rig.dialer.waiting[0]!.cancelled, 'the time-out')
  await until(() => rig.plane.counters().flow_slots === 0, 'the end')
  t.deepEqual(rig.take(), [])
  t.is(rig.plane.counters().dials_in_flight, 0)
})

test('data-plane: RST of a client that waits cancels its dial', async t => {
  const rig = await open(t)
  rig.send(segment(Flag.syn))
  rig.send(segment(Flag.rst, { seq: 1001 }))
  t.true(rig.dialer.waiting[0]!.cancelled)
  t.is(rig.plane.counters().dials_in_flight, 0)
  t.is(rig.plane.counters().tcp_flows, 0)
})

test('data-plane: datagrams wait for their association, the oldest going first at the bound', async t => {
  const rig = await open(t)
  for (let at = 0; at < 70; at++) rig.send(udp(PAIR, 5000, 53, Buffer.from([at])))
  t.is(rig.dialer.associations.length, 1)
  t.is(formatEndpoint(rig.dialer.associations[0]!.client), '198.18.0.1:5000')
  t.is(rig.plane.counters().udp_queue_full, 6)
  rig.dialer.associations[0]!.listener.onAssociationFailed({ failure: 'general', message: 'no UDP here' })
  rig.plane.endTurn()
  const out = rig.take()
  t.is(out.length, 64)
  t.true(out.every(packet => packet.protocol === 1 && packet.payload[0] === 3 && packet.payload[1] === 3))
  t.is(rig.lines.filter(({ level }) => level === 'warn').length, 1)
})

test('data-plane: who knows that there is no UDP has said so: no warning of its own', async t => {
  const rig = await open(t)
  rig.send(udp(PAIR, 5000, 53, Buffer.from('x')))
  rig.dialer.associations[0]!.listener.onAssociationFailed({ failure: 'unsupported', message: 'no UDP here' })
  rig.plane.endTurn()
  t.is(rig.take().length, 1)
  t.deepEqual(
    rig.lines.map(({ level }) => level),
    ['debug'],
  )
})

test('data-plane: the least recently used endpoint gives way', async t => {
  const rig = await open(t)
  for (const port of [1, 2, 3, 4]) {
    rig.send(udp(PAIR, port, 53, Buffer.from('x')))
    await delay(2)
  }
  rig.send(udp(PAIR, 1, 53, Buffer.from('x')))
  rig.send(udp(PAIR, 5, 53, Buffer.from('x')))
  t.deepEqual(
    rig.dialer.associations.map(one => one.closed),
    [false, true, false, false, false],
  )
  t.is(rig.plane.counters().endpoint_slots, 4)
})

test('data-plane: a batch that asks for more endpoints than there may be', async t => {
  const rig = await open(t)
  rig.send(...Array.from({ length: 60 }, (_, at) => udp(PAIR, 100 + at, 53, Buffer.from('x'))))
  t.is(rig.plane.counters().udp_flows, 4)
  t.is(rig.plane.counters().endpoint_slots, 4)
  t.is(rig.dialer.associations.filter(one => !one.closed).length, 4)
})

test('data-plane: a stack that stops is explained, and closing then lets go of every socket', async t => {
  const rig = await open(t)
  await established(rig)
  const [view] = rig.plane.flows()
  rig.send(segment(Flag.syn, { fromPort: 2 }))
  const { abi, words, bytes } = rig.stack
  const row = abi.flows + (1 - view!.id) * abi.flowBytes
  bytes[words[(row + abi.flowError) / 4 + 2]! + 14] = 0 // the reference count of the held SYN
  const trap = t.throws(() => rig.dialer.fail('refused', 1), { any: true })
  const explained = rig.stack.explain(trap)
  t.true(explained instanceof GatewayError && explained.code === 'STACK_TRAP')
  rig.plane.close(false)
  t.true(rig.dialer.closed)
  rig.plane.close(false)
})

test('data-plane: close resets its clients and ends its dials, and no descriptor is left', async t => {
  const rig = await open(t)
  await established(rig)
  rig.send(segment(Flag.syn, { fromPort: 2 }))
  rig.send(udp(PAIR, 5000, 53, Buffer.from('x')))
  rig.take()
  rig.plane.close()
  const out = rig.take()
  t.is(out.filter(packet => (packet.tcp?.flags ?? 0) & Flag.rst).length, 2)
  t.true(rig.dialer.waiting[1]!.cancelled)
  t.true(rig.dialer.associations[0]!.closed)
  t.is(rig.stack.exports.tg_flows_used(), 0)
  t.is(rig.stack.exports.tg_pcbs(), 0)
  t.is(rig.stack.exports.tg_endpoints_used(), 0)
  rig.plane.close()
})

test.after.always('data-plane: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})

// serial: the clock is everybody's
test.serial('data-plane: that it stood still is told once, whatever comes before the next sweep', async t => {
  const rig = await open(t)
  const { now } = performance
  t.teardown(() => {
    performance.now = now
  })
  let added = 0
  performance.now = () => now.call(performance) + added
  const stood = () => rig.lines.filter(({ message }) => message.startsWith('the gateway stood still'))
  added = 60_000
  for (let at = 0; at < 20; at++) {
    added += 2
    rig.send(segment(Flag.syn))
  }
  added += 5_000
  rig.send(segment(Flag.syn))
  t.is(stood().length, 1)
  const { ms } = stood()[0]!.fields as { ms: number }
  t.true(ms > 57_000 && ms <= 60_002, `${ms} ms`)
})

/** How often the plane has swept from now on. */
function countSweeps(rig: Rig): () => number {
  let sweeps = 0
  const { tg_trim } = rig.stack.exports
  const counted = () => {
    sweeps++
    return tg_trim()
  }
  Object.assign(rig.stack, { exports: { ...rig.stack.exports, tg_trim: counted } })
  return () => sweeps
}

test('data-plane: a limit that is near in turn, and far, is told once a minute', async t => {
  const limits = { flows: 10, dials: 100, dialsPerSource: 100 }
  const rig = await open(t, { limits, tcp: { ...OPTIONS.tcp, idleTimeoutMs: 80 } })
  const sweeps = countSweeps(rig)
  const swept = async () => {
    const since = sweeps()
    await until(() => sweeps() > since + 1, 'a sweep')
  }
  for (let round = 1, at = 0; round <= 3; round++) {
    for (let port = 1; port <= 8; port++) rig.send(segment(Flag.syn, { fromPort: 100 * round + port }))
    t.is(rig.plane.counters().flow_slots, 8)
    await swept()
    while (at < 8 * round) rig.dialer.fail('refused', at++)
    await until(() => rig.plane.counters().flow_slots === 0, 'their end')
    await swept()
  }
  t.is(rig.lines.filter(({ message }) => message === 'near a limit: flows').length, 1)
})

test('data-plane: a limit that comes near is told once, and its use can be looked up', async t => {
  const limits = { flows: 10, dials: 100, dialsPerSource: 100 }
  const rig = await open(t, { limits, tcp: { ...OPTIONS.tcp, idleTimeoutMs: 100 } })
  const near = () => rig.lines.filter(({ message }) => message === 'near a limit: flows')
  for (let port = 1; port <= 8; port++) rig.send(segment(Flag.syn, { fromPort: port }))
  await until(() => near().length > 0, 'the warning')
  t.deepEqual(near()[0], { level: 'warn', message: 'near a limit: flows', fields: { used: 8, limit: 10 } })
  rig.send(segment(Flag.syn, { fromPort: 9 }))
  const { limit_flows, flow_slots, limit_dials, limit_associations, limit_stack_memory_bytes } = rig.plane.counters()
  t.deepEqual({ limit_flows, flow_slots }, { limit_flows: 10, flow_slots: 9 })
  t.deepEqual({ limit_dials, limit_associations }, { limit_dials: 100, limit_associations: 4 })
  t.true(limit_stack_memory_bytes! > 100e6)
  const sweeps = countSweeps(rig)
  await until(() => sweeps() > 3, 'more sweeps')
  t.is(near().length, 1)
  t.is(rig.lines.filter(({ level }) => level === 'warn').length, 1)
})
