/** A gateway that is stopped (SIGSTOP) amid its work, and goes on (SIGCONT). */
import { setTimeout as delay } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { addSilent, SILENT4, startSocksAndEchoes } from './destinations.ts'
import { DEST4, type GatewayProcess, until, type World } from './world.ts'

const IDLE = 24
const BULK_BYTES = 64 * 65_536

export async function prepareStandstill(world: World): Promise<void> {
  await addSilent(world)
  await startSocksAndEchoes(world, { connectTimeoutMs: 120_000 })
}

/** Every time-out of the gateway must be shorter than `pauseMs`, and longer than what a leap counts (2 s). */
export async function survivesPause(
  t: ExecutionContext,
  world: World,
  gateway: GatewayProcess,
  pauseMs: number,
): Promise<void> {
  const idle = await world.near.call('dialMany', DEST4, 7001, IDLE)
  const bulk = await world.near.call('dial', DEST4, 7001)
  const udp = await world.near.call('openUdp', '0.0.0.0')
  t.teardown(() => world.near.call('closeUdp', udp.id))
  t.teardown(() => world.near.call('destroy', [...idle, bulk.id]))
  await world.near.call('sendUdp', udp.id, 100, 7, DEST4)
  await until(async () => (await world.near.call('viewUdp', udp.id)).got.length === 1, 'the answer')
  const dialed = world.near.call('dial', SILENT4, 80, pauseMs + 500)
  await until(async () => (await gateway.counter('dials_in_flight')) === 1, 'the dial')
  await world.near.call('write', bulk.id, 'x', BULK_BYTES)

  const before = await gateway.status()
  gateway.child.kill('SIGSTOP')
  await delay(pauseMs)
  gateway.child.kill('SIGCONT')

  await gateway.untilLog('the gateway stood still')
  const after = await gateway.status()
  const { tcp_flows, udp_flows, dials_in_flight } = after.counters
  t.deepEqual({ tcp_flows, udp_flows, dials_in_flight }, { tcp_flows: IDLE + 2, udp_flows: 1, dials_in_flight: 1 })
  t.is(gateway.logged('flow ended').length, 0)

  await until(async () => (await world.near.call('view', bulk.id)).bytes === BULK_BYTES, 'the rest', 20_000)
  // what is not the bulk's is little: no probe for each flow, no packet for each second that was missed
  const { counters } = await gateway.status()
  const payload = counters.bytes_out! - before.counters.bytes_out!
  t.true(payload < BULK_BYTES * 1.2 + 40 * IDLE, `${payload} bytes`)
  for (const id of idle) await world.near.call('write', id, 'still there')
  for (const id of idle)
    await until(async () => (await world.near.call('view', id)).text === 'still there', 'the echo of each')
  await world.near.call('sendUdp', udp.id, 100, 7, DEST4)
  await until(async () => (await world.near.call('viewUdp', udp.id)).got.length === 2, 'the second answer')
  t.is(await gateway.counter('udp_associations'), 1)
  t.is((await dialed).code, 'STILL_CONNECTING')
}
