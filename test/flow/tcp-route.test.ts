/** Flows that something is decided about before they are dialed. */
import type { Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { formatEndpoint } from '../../src/endpoint.ts'
import type { Decision, NameLookup, RoutedFlow, Router } from '../../src/flow/router.ts'
import { addon } from '../../src/io/addon.ts'
import { Flag, type Packet } from '../helpers/packets.ts'
import { until } from '../helpers/sockets.ts'
import { hello, records, sni } from '../rules/client-hello.ts'
import { OPTIONS, open, type Rig, segment, type TestDialer, untilSent } from './rig.ts'

type Decide = (flow: RoutedFlow, dial: Decision) => Decision
const LOOK: Decision = { kind: 'look', why: '' }

/** What the router was asked, and what it holds. */
class Asked {
  readonly flows: RoutedFlow[] = []
  readonly held: string[] = []
  released = 0
  verdict: ((decision: Decision) => void) | undefined
}

function routerOf(dialer: TestDialer, asked: Asked, decide: Decide, virtual: Readonly<Record<string, string>>): Router {
  const dial: Decision = { kind: 'dial', dialer, why: 'rule 1 (test): proxy' }
  const names: NameLookup = {
    acquire: address => {
      const name = virtual[address.join('.')]
      if (name) asked.held.push(name)
      return name
    },
    release: address => {
      asked.released++
      asked.held.splice(asked.held.indexOf(virtual[address.join('.')]!), 1)
    },
  }
  return {
    single: undefined,
    names,
    revision: 0,
    decide: flow => {
      asked.flows.push({ ...flow, destination: flow.destination, domain: flow.domain })
      return decide(flow, dial)
    },
    ask: () =>
      new Promise(resolve => {
        asked.verdict = resolve
      }),
    isUpstream: endpoint => dialer.isUpstream(endpoint),
    counters: () => dialer.counters(),
    close: () => dialer.close(),
  }
}

async function openDeciding(
  t: ExecutionContext,
  decide: Decide,
  { virtual = {}, serve = () => {} }: { virtual?: Record<string, string>; serve?: (peer: Socket) => void } = {},
) {
  const asked = new Asked()
  const rig = await open(t, {}, serve, dialer => routerOf(dialer, asked, decide, virtual))
  return { rig, asked }
}

const HELLO = records(hello(sni('secret.example.org')))
const isReset = (packet: Packet) => ((packet.tcp?.flags ?? 0) & Flag.rst) !== 0
const reasonOf = (rig: Rig) => rig.lines.find(({ message }) => message === 'tcp flow ended')?.fields

/** SYN, SYN-ACK, ACK of a client that is answered first. */
function answeredFirst(rig: Rig): number {
  const [answer] = rig.send(segment(Flag.syn))
  const ack = answer!.tcp!.seq + 1
  rig.send(segment(Flag.ack, { seq: 1001, ack }))
  return ack
}

test('tcp-route: rejected by a rule is RST at once, and the log has the rule', async t => {
  const { rig } = await openDeciding(t, () => ({ kind: 'reject', why: 'rule 2 (ads): reject' }))
  t.deepEqual(rig.send(segment(Flag.syn)).map(isReset), [true])
  rig.plane.endTurn()
  t.is(rig.dialer.waiting.length, 0)
  t.like(reasonOf(rig), { reason: 'reject', why: 'rule 2 (ads): reject' })
  t.like(rig.plane.counters(), { flow_slots: 0, tcp_refused: 1, dials_in_flight: 0 })
})

test('tcp-route: dropped by a rule is silence, and the next SYN is decided anew', async t => {
  const { rig, asked } = await openDeciding(t, () => ({ kind: 'drop', why: 'rule 1: drop' }))
  for (let at = 0; at < 3; at++) t.deepEqual(rig.send(segment(Flag.syn)), [])
  t.is(asked.flows.length, 3)
  t.is(rig.plane.counters().flow_slots, 0)
})

test('tcp-route: a dial by a rule has its reason in the view', async t => {
  const { rig } = await openDeciding(t, (_, dial) => dial)
  rig.send(segment(Flag.syn))
  t.like(rig.plane.flows()[0], { state: 'dialing', why: 'rule 1 (test): proxy', destination: '203.0.113.7:80' })
  t.false('domain' in rig.plane.flows()[0]!)
})

test('tcp-route: a virtual address is dialed by its name, and held until the flow is over', async t => {
  const { rig, asked } = await openDeciding(t, (_, dial) => dial, { virtual: { '203.0.113.7': 'www.example.org' } })
  rig.send(segment(Flag.syn))
  t.is(formatEndpoint(rig.dialer.waiting[0]!.to), 'www.example.org:80')
  t.deepEqual(asked.flows[0]!.domain, 'www.example.org')
  t.like(rig.plane.flows()[0], { domain: 'www.example.org', destination: '203.0.113.7:80' })
  t.deepEqual(asked.held, ['www.example.org'])
  rig.dialer.fail('refused')
  rig.plane.endTurn()
  t.deepEqual(rig.take().map(isReset), [true])
  t.deepEqual(asked.held, [])
})

test('tcp-route: a virtual address whose name is not known any more is host unreachable, not dialed', async t => {
  const { rig, asked } = await openDeciding(t, (_, dial) => dial, { virtual: { '203.0.113.7': '' } })
  const [told] = rig.send(segment(Flag.syn))
  t.deepEqual([told!.protocol, told!.payload[0], told!.payload[1]], [1, 3, 1])
  t.is(asked.flows.length, 0)
  rig.plane.close()
  t.deepEqual(asked.held, [])
})

test('tcp-route: the client is answered, its hello names the domain, and all of it reaches the upstream', async t => {
  const got: Buffer[] = []
  const decide: Decide = (flow, dial) => (flow.domain === undefined ? LOOK : dial)
  const { rig, asked } = await openDeciding(t, decide, { serve: peer => peer.on('data', chunk => got.push(chunk)) })
  const ack = answeredFirst(rig)
  t.is(rig.plane.flows()[0]!.state, 'deciding')
  t.is(rig.dialer.waiting.length, 0)
  rig.send(segment(Flag.ack | Flag.psh, { seq: 1001, ack, payload: HELLO.subarray(0, 70) }))
  t.is(rig.dialer.waiting.length, 0, 'the name has not come')
  rig.send(segment(Flag.ack | Flag.psh, { seq: 1071, ack, payload: HELLO.subarray(70) }))
  t.deepEqual(
    asked.flows.map(flow => flow.domain),
    [undefined, 'secret.example.org'],
  )
  t.is(formatEndpoint(rig.dialer.waiting[0]!.to), '203.0.113.7:80', 'by the address that it asked for')
  t.like(rig.plane.flows()[0], { state: 'dialing', domain: 'secret.example.org' })
  rig.send(segment(Flag.ack | Flag.psh, { seq: 1001 + HELLO.length, ack, payload: Buffer.from('more') }))
  await rig.dialer.succeed()
  await until(() => Buffer.concat(got).length >= HELLO.length + 4, 'the bytes')
  t.true(Buffer.concat(got).equals(Buffer.concat([HELLO, Buffer.from('more')])))
  t.is(rig.plane.flows()[0]!.state, 'open')
})

test('tcp-route: a client that says nothing is dialed without a name after a moment', async t => {
  const decide: Decide = (flow, dial) => (flow.domain === undefined ? LOOK : dial)
  const { rig, asked } = await openDeciding(t, decide, { serve: peer => void peer.write('220 mail') })
  const ack = answeredFirst(rig)
  const since = performance.now()
  await until(() => rig.dialer.waiting.length > 0, 'the dial')
  t.true(performance.now() - since > 200)
  t.is(asked.flows[1]!.domain, '')
  await rig.dialer.succeed()
  const packets = await untilSent(rig)
  t.is(packets[0]!.tcp!.payload.toString(), '220 mail')
  t.is(packets[0]!.tcp!.seq, ack)
})

test('tcp-route: FIN ends the look, and goes on to the upstream behind the bytes', async t => {
  let ended = ''
  const decide: Decide = (flow, dial) => (flow.domain === undefined ? LOOK : dial)
  const serve = (peer: Socket) => {
    let text = ''
    peer.on('data', chunk => {
      text += chunk
    })
    peer.on('end', () => {
      ended = text
    })
  }
  const { rig } = await openDeciding(t, decide, { serve })
  const ack = answeredFirst(rig)
  rig.send(segment(Flag.ack | Flag.psh | Flag.fin, { seq: 1001, ack, payload: Buffer.from('GET') }))
  await rig.dialer.succeed()
  await until(() => ended === 'GET', 'the end')
  t.is(rig.plane.flows()[0]!.state, 'half-closed')
})

for (const [kind, end] of [
  ['a dial that fails', (rig: Rig) => rig.dialer.fail('host-unreachable')],
  ['a dial that takes too long', () => {}],
] as const)
  test(`tcp-route: behind an answer ${kind} is RST, and the log says why`, async t => {
    const decide: Decide = (flow, dial) => (flow.domain === undefined ? LOOK : dial)
    const asked = new Asked()
    const tcp = { ...OPTIONS.tcp, connectTimeoutMs: 100 }
    const rig = await open(
      t,
      { tcp },
      () => {},
      dialer => routerOf(dialer, asked, decide, {}),
    )
    const ack = answeredFirst(rig)
    rig.send(segment(Flag.ack | Flag.psh, { seq: 1001, ack, payload: HELLO }))
    end(rig)
    const out: Packet[] = []
    await until(() => {
      rig.plane.endTurn()
      out.push(...rig.take())
      return out.some(isReset)
    }, 'the reset')
    t.regex(String(reasonOf(rig)!.reason), /as the test says \(the client was answered for its first bytes/)
    t.is(rig.plane.counters().tcp_flows, 0)
  })

test('tcp-route: rejected by the name in its first bytes is RST', async t => {
  const decide: Decide = flow => (flow.domain === undefined ? LOOK : { kind: 'reject', why: 'rule 1: reject' })
  const { rig } = await openDeciding(t, decide)
  const ack = answeredFirst(rig)
  const out = rig.send(segment(Flag.ack | Flag.psh, { seq: 1001, ack, payload: HELLO }))
  t.true(out.some(isReset))
  t.like(reasonOf(rig), { why: 'rule 1: reject', domain: 'secret.example.org' })
  t.is(rig.plane.counters().tcp_flows, 0)
})

test('tcp-route: RST of a client during the look ends it', async t => {
  const { rig } = await openDeciding(t, () => LOOK)
  const ack = answeredFirst(rig)
  rig.send(segment(Flag.rst, { seq: 1001, ack }))
  t.is(rig.plane.counters().tcp_flows, 0)
  t.is(rig.stack.exports.tg_flows_used(), 0)
})

test('tcp-route: the SYN is held while a verdict is waited for', async t => {
  const { rig, asked } = await openDeciding(t, () => ({ kind: 'ask', why: '' }))
  t.deepEqual(rig.send(segment(Flag.syn)), [])
  t.is(rig.plane.flows()[0]!.state, 'deciding')
  asked.verdict!({ kind: 'dial', dialer: rig.dialer, why: 'the script: proxy' })
  await until(() => rig.dialer.waiting.length === 1, 'the dial')
  await rig.dialer.succeed()
  const [answer] = await untilSent(rig)
  t.is(answer!.tcp!.flags, Flag.syn | Flag.ack)
})

test('tcp-route: a verdict that comes when its client has left dials nobody', async t => {
  const { rig, asked } = await openDeciding(t, () => ({ kind: 'ask', why: '' }))
  rig.send(segment(Flag.syn))
  rig.send(segment(Flag.rst, { seq: 1001 }))
  t.is(rig.plane.counters().tcp_flows, 0)
  asked.verdict!({ kind: 'dial', dialer: rig.dialer, why: '' })
  await new Promise(resolve => setImmediate(resolve))
  t.is(rig.dialer.waiting.length, 0)
})

test('tcp-route: a stack that stops while a flow ends has its name released once', async t => {
  const virtual = { '203.0.113.7': 'www.example.org' }
  const { rig, asked } = await openDeciding(t, (_, dial) => dial, { virtual })
  rig.send(segment(Flag.syn), segment(Flag.syn, { fromPort: 40_001 }))
  const { exports } = rig.stack
  const stops = () => {
    throw new Error('unreachable')
  }
  Object.defineProperty(rig.stack, 'exports', { value: { ...exports, tg_tcp_release: stops } })
  t.throws(() => rig.send(segment(Flag.rst, { seq: 1001 })), { message: 'unreachable' })
  t.is(asked.released, 1)
  rig.plane.close(false)
  t.is(asked.released, 2)
})

test('tcp-route: close resets clients in each state', async t => {
  const { rig } = await openDeciding(t, flow => (flow.source.port === 40_000 ? LOOK : { kind: 'ask', why: '' }))
  answeredFirst(rig)
  rig.send(segment(Flag.syn, { fromPort: 40_001 }))
  rig.plane.close()
  t.is(rig.take().filter(isReset).length, 2)
  t.is(rig.stack.exports.tg_flows_used(), 0)
})

test.after.always('tcp-route: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
