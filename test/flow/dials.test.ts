/** Every dial that is counted is uncounted once, whatever ends it; and the bounds go on to hold. */
import test from 'ava'
import { addon } from '../../src/io/addon.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import { type Step, startBadSocks } from '../helpers/bad-socks.ts'
import { Flag, type Packet, udp } from '../helpers/packets.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { until } from '../helpers/sockets.ts'
import { OPTIONS, open, openWith, PAIR, segment, untilSent } from './rig.ts'

const QUESTION = udp(PAIR, 5000, 53, Buffer.from('question'))
const SHORT = { tcp: { ...OPTIONS.tcp, connectTimeoutMs: 100 } }

/** ICMP destination unreachable, port unreachable (RFC 792). */
const isPortUnreachable = ({ protocol, payload }: Packet) => protocol === 1 && payload[0] === 3 && payload[1] === 3

test('dials: one that fails at once is released once, and the bound still holds', async t => {
  const rig = await open(t, { limits: { flows: 100, dials: 2, dialsPerSource: 2 } })
  rig.dialer.failsAtOnce = 'upstream-down'
  for (let port = 1; port <= 5; port++) {
    rig.send(segment(Flag.syn, { fromPort: port }))
    t.is(rig.plane.counters().dials_in_flight, 0)
  }
  t.is(rig.dialer.waiting.length, 5)
  t.is(rig.plane.counters().tcp_flows, 0)
  rig.dialer.failsAtOnce = undefined
  for (let port = 11; port <= 14; port++) rig.send(segment(Flag.syn, { fromPort: port }))
  t.is(rig.dialer.waiting.length - 5, 2)
  t.is(rig.plane.counters().dials_in_flight, 2)
  t.is(rig.plane.counters().dial_limit, 2)
})

test('dials: one that fails at once takes nothing from the count of those that wait', async t => {
  const rig = await open(t)
  rig.send(segment(Flag.syn, { fromPort: 1 }))
  rig.dialer.failsAtOnce = 'refused'
  rig.send(segment(Flag.syn, { fromPort: 2 }))
  t.is(rig.plane.counters().dials_in_flight, 1)
  rig.dialer.fail('refused', 0)
  t.is(rig.plane.counters().dials_in_flight, 0)
})

test('dials: an association that is never answered is given up, and the client told', async t => {
  const rig = await open(t, SHORT)
  t.deepEqual(rig.send(QUESTION), [])
  t.is(rig.plane.flows()[0]!.state, 'associating')
  t.is(rig.plane.counters().dials_in_flight, 1)
  const out = await untilSent(rig)
  t.deepEqual(out.map(isPortUnreachable), [true])
  t.true(rig.dialer.associations[0]!.closed)
  t.is(rig.plane.counters().dials_in_flight, 0)
  t.is(rig.plane.flows()[0]!.state, 'idle')
})

test('dials: associations count against the bound as connections do', async t => {
  const rig = await open(t, { limits: { flows: 100, dials: 1, dialsPerSource: 1 } })
  rig.send(QUESTION)
  rig.send(udp(PAIR, 5001, 53, Buffer.from('x')))
  rig.send(segment(Flag.syn))
  t.is(rig.dialer.associations.length, 1)
  t.is(rig.dialer.waiting.length, 0)
  t.is(rig.plane.counters().dial_limit, 2)
  t.is(rig.plane.counters().dials_in_flight, 1)
  rig.dialer.associations[0]!.listener.onAssociationFailed({ failure: 'refused', message: 'as the test says' })
  t.is(rig.plane.counters().dials_in_flight, 0)
  rig.send(udp(PAIR, 5001, 53, Buffer.from('x')))
  t.is(rig.dialer.associations.length, 2)
})

/** The relay is at a port where nobody listens (RFC 863, discard). */
const ASSOCIATED = [5, 0, 0, 1, 127, 0, 0, 1, 0, 9]
const endings: readonly [string, readonly Step[]][] = [
  ['with its reply', ['end']],
  ['a moment after its reply', [{ waitMs: 5 }, 'end']],
]

for (const [when, last] of endings)
  test(`dials: a proxy that ends associations ${when} is not asked again and again`, async t => {
    const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 10 }, { send: ASSOCIATED }, ...last])
    t.teardown(() => bad.close())
    const rig = openWith(t, {}, (poller, { bytes, words, abi: { scratch, scratchBytes } }) => {
      const arena = { bytes, words, scratch, scratchBytes }
      const silent = { info() {}, warn() {} }
      const proxy = socks5State({ host: '127.0.0.1', port: bad.port }, 'strict', silent)
      return new ProxyDialer(proxyParts(poller, arena, proxy, 0, silent))
    })
    rig.send(QUESTION)
    await until(() => bad.left() > 0 && rig.plane.flows()[0]!.state === 'idle', 'the end of the association')
    await t.throwsAsync(
      until(() => bad.received.length > 2, 'a third handshake', 400),
      undefined,
      `${bad.received.length} handshakes`,
    )
    t.deepEqual(rig.send(QUESTION).map(isPortUnreachable), [true], 'the client is told')
    t.is(rig.plane.counters().dials_in_flight, 0)
    t.deepEqual(rig.failures, [])
  })

test.after.always('dials: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
