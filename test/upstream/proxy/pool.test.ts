import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { GatewayOptions } from '../../../src/options.ts'
import { type BadSocks, type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { associated, dial, GREETED, OK, open, outcomeOf, REQUEST, type Rig } from '../rig.ts'

const GOOD: readonly Step[] = [...GREETED, { send: OK }]

/** A proxy that plays one script for each connection, the last for all further ones, or one as it is asked for; and a dialer with a pool. */
async function play(
  t: ExecutionContext,
  scripts: readonly (readonly Step[])[] | (() => readonly Step[]),
  upstream: Partial<GatewayOptions['upstream']>,
) {
  const said: string[] = []
  const log = { info: (line: string) => said.push(line), warn: (line: string) => said.push(line) }
  const bad = await startBadSocks(typeof scripts === 'function' ? scripts : n => scripts[n] ?? scripts.at(-1)!)
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, log as never, upstream)
  return { bad, rig, said }
}

const count = (rig: Rig, name: string) => rig.dialer.counters()[name]!

/** So many wait, greeted: the proxy has had nothing else to say to them. */
const waiting = (rig: Rig, bad: BadSocks, wanted: number, connections: number) =>
  until(
    () =>
      count(rig, 'pool_ready') === wanted &&
      bad.received.length === connections &&
      bad.received.every(bytes => bytes.length >= 3),
    'connections that wait',
  )

async function never(t: ExecutionContext, state: () => boolean, timeoutMs: number): Promise<void> {
  await t.throwsAsync(until(state, 'what must not be', timeoutMs))
}

for (const handshake of ['auto', 'strict'] as const)
  test(`pool: nothing before the first dial; the next finds a greeted connection, ${handshake}`, async t => {
    const { bad, rig } = await play(t, [GOOD], { handshake, pool: 1 })
    await never(t, () => bad.received.length > 0, 300)
    t.truthy((await outcomeOf(t, rig)).connected)
    await waiting(rig, bad, 1, 2)
    t.deepEqual([...bad.received[1]!], [5, 1, 0])
    t.truthy((await outcomeOf(t, rig)).connected)
    t.deepEqual([...bad.received[1]!], [5, 1, 0, ...REQUEST])
    t.deepEqual([count(rig, 'pool_hits'), count(rig, 'pool_misses')], [1, 1])
  })

test('pool: a dial that takes one while it is being greeted waits for that, and no longer', async t => {
  const slow: readonly Step[] = [{ expect: 3 }, { waitMs: 200 }, { send: [5, 0] }, { expect: 10 }, { send: OK }]
  const { bad, rig } = await play(t, [GOOD, slow], { handshake: 'auto', pool: 1 })
  await outcomeOf(t, rig)
  await waiting(rig, bad, 1, 2)
  t.truthy((await outcomeOf(t, rig)).connected)
  t.is(count(rig, 'pool_hits'), 1)
  t.deepEqual([...bad.received[1]!], [5, 1, 0, ...REQUEST])
})

for (const [pool, wanted] of [
  [0, 0],
  [2, 2],
  [16, 5],
] as const)
  test(`pool: upstream.pool ${pool}: after 5 dials ${wanted} wait`, async t => {
    const { bad, rig } = await play(t, [GOOD], { pool })
    await Promise.all(Array.from({ length: 5 }, () => outcomeOf(t, rig)))
    await waiting(rig, bad, wanted, 5 + wanted)
    await never(t, () => count(rig, 'pool_ready') > wanted, 100)
  })

test('pool: when nobody dials any more it is empty, within 5 s, and stays so', async t => {
  const { bad, rig } = await play(t, [GOOD], { pool: 4 })
  await Promise.all(Array.from({ length: 4 }, () => outcomeOf(t, rig)))
  await waiting(rig, bad, 4, 8)
  await until(() => count(rig, 'pool_ready') === 0 && bad.left() === 4, 'the end of all that wait')
  t.is(count(rig, 'pool_discarded'), 4)
  await never(t, () => bad.received.length > 8, 600)
})

for (const end of ['end', 'reset'] as const)
  test(`pool: the proxy closes what waits (${end}): the next dial is none the worse`, async t => {
    const closing: readonly Step[] = [{ expect: 3 }, { send: [5, 0] }, { waitMs: 50 }, end]
    const { bad, rig, said } = await play(t, [GOOD, closing, GOOD], { handshake: 'auto', pool: 1 })
    await outcomeOf(t, rig)
    await waiting(rig, bad, 1, 2)
    await until(() => count(rig, 'pool_discarded') === 1, 'its end')
    t.truthy((await outcomeOf(t, rig)).connected)
    t.is(count(rig, 'handshake_failures'), 0)
    t.deepEqual(said, ['upstream up'])
  })

for (const end of ['end', 'reset'] as const)
  test(`pool: the proxy closes one as it is taken (${end}): the dial is made again, without a word`, async t => {
    const { bad, rig, said } = await play(t, [GOOD, [...GREETED, end], GOOD], { handshake: 'strict', pool: 1 })
    await outcomeOf(t, rig)
    await waiting(rig, bad, 1, 2)
    const { connected, error } = await outcomeOf(t, rig)
    t.is(error, undefined)
    t.true(connected!.socket.open)
    t.is(count(rig, 'pool_hits'), 1)
    t.is(count(rig, 'handshake_failures'), 0)
    t.deepEqual(said, ['upstream up'])
  })

test('pool: once a word of the reply has come, its end is told and the dial is not made again', async t => {
  const halfway: readonly Step[] = [...GREETED, { send: OK.slice(0, 4) }, { waitMs: 5 }, 'end']
  const { bad, rig } = await play(t, [GOOD, halfway, GOOD], { pool: 1 })
  await outcomeOf(t, rig)
  await waiting(rig, bad, 1, 2)
  t.is((await outcomeOf(t, rig)).error!.failure, 'upstream-down')
})

for (const [reply, failure] of [
  [2, 'prohibited'],
  [4, 'host-unreachable'],
  [5, 'refused'],
] as const)
  test(`pool: reply ${reply} on a connection that waited is an answer: ${failure}`, async t => {
    const refusal: readonly Step[] = [...GREETED, { send: [5, reply, 0, 1, 0, 0, 0, 0, 0, 0] }, 'end']
    const { bad, rig } = await play(t, [GOOD, refusal, ['silence']], { handshake: 'auto', pool: 1 })
    await outcomeOf(t, rig)
    await waiting(rig, bad, 1, 2)
    t.is((await outcomeOf(t, rig)).error!.failure, failure)
    t.is(count(rig, 'handshake_fallbacks'), 0)
  })

test('pool: a proxy that closes whatever waits is not given one connection after the other', async t => {
  const { bad, rig } = await play(t, [GOOD, [{ expect: 3 }, 'end']], { pool: 1 })
  await outcomeOf(t, rig)
  await until(() => count(rig, 'pool_discarded') > 0, 'the first that is closed')
  await never(t, () => bad.received.length > 4, 1_500)
})

test('pool: it is not filled while the proxy is down, and is filled when it is up again', async t => {
  const down: readonly Step[] = [{ expect: 3 }, 'reset']
  let script = GOOD
  const { bad, rig, said } = await play(t, () => script, { handshake: 'strict', pool: 1 })
  await outcomeOf(t, rig)
  await waiting(rig, bad, 1, 2)
  script = down
  t.truthy((await outcomeOf(t, rig)).connected, 'the one that waited before')
  // what waits may be closed, and made again after a pause, between any two of them
  for (let round = 0; round < 3; round++) t.truthy((await outcomeOf(t, rig)).error)
  t.deepEqual(said, ['upstream up', 'upstream down'])
  await until(() => count(rig, 'pool_ready') === 0, 'the end of what waits')
  const connections = bad.received.length
  await never(t, () => bad.received.length > connections, 1_000)
  script = GOOD
  t.truthy((await outcomeOf(t, rig)).connected)
  await until(() => count(rig, 'pool_ready') === 1, 'one that waits')
  t.deepEqual(said, ['upstream up', 'upstream down', 'upstream up'])
})

test('pool: an association takes one too', async t => {
  const relay = await udpEnd(t)
  const reply = [5, 0, 0, 1, 127, 0, 0, 1, relay.port >> 8, relay.port & 255]
  const { bad, rig } = await play(t, [GOOD, [...GREETED, { send: reply }]], { pool: 1 })
  await outcomeOf(t, rig)
  await waiting(rig, bad, 1, 2)
  await associated(t, rig)
  t.is(count(rig, 'pool_hits'), 1)
})

test('pool: close of the dialer closes what waits and what is being opened', async t => {
  const { bad, rig } = await play(t, [GOOD, [{ expect: 3 }, { send: [5, 0] }, 'silence']], { pool: 2 })
  await outcomeOf(t, rig)
  await waiting(rig, bad, 1, 2)
  const { outcome } = dial(t, rig)
  await waiting(rig, bad, 2, 4)
  rig.dialer.close()
  rig.dialer.close()
  await until(() => bad.left() === 3, 'the end of three')
  t.is(outcome.calls, 0)
  t.is(count(rig, 'pool_ready'), 0)
})

test.after.always('pool: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
