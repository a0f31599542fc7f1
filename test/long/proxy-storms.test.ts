/**
 * A proxy that stops for a minute with 50 bulk flows, comes back a hundred times, is cut off for half a minute, and 50,000 UDP
 * endpoints in 10 s: three minutes, most of it waiting. The quick form is test/integration/proxy-storms.test.ts.
 */
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { ECHO_PORT, startEchoes } from '../integration/destinations.ts'
import {
  comeAndGo,
  cutOff,
  cutPath,
  manyEndpoints,
  startFarProxy,
  startProxy,
  stopInMidTransfer,
} from '../integration/proxy-storms.ts'
import { createWorld, DEST4, endsWithFile, type GatewayProcess, untilAtRest, type World } from '../integration/world.ts'

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await startEchoes(world)
})
test.beforeEach(async () => {
  gateway = await world.gateway()
})
test.afterEach.always(async () => {
  await gateway.stop()
})
endsWithFile(() => ({ world, gateway }))

test.serial('proxy-storms: stopped for 60 s with 50 bulk flows: memory bounded, every byte arrives', async t => {
  const proxy = await startProxy(world)
  t.teardown(() => proxy.end())
  await stopInMidTransfer(t, world, gateway, proxy, { flows: 50, bytes: 8_000_000, ms: 60_000 })
})

test.serial(
  'proxy-storms: it comes back a hundred times: the first success within 100 ms of its listening',
  async t => {
    await startFarProxy(t, world)
    await comeAndGo(t, world, gateway, 100)
  },
)

test.serial(
  'proxy-storms: its packets are dropped for 30 s at 1,000 connections/s: bounded, told, back at once',
  async t => {
    await startFarProxy(t, world)
    await gateway.stop()
    gateway = await world.gateway({ args: ['--log-level', 'info'] })
    await cutOff(t, world, gateway, { perSecond: 1_000, ms: 30_000, dials: 256 })
  },
)

test.serial('proxy-storms: a dial whose SYNs were lost stands as soon as the proxy can be reached again', async t => {
  await startFarProxy(t, world)
  await gateway.stop()
  gateway = await world.gateway({ args: ['--tcp-connect-timeout', '20s'] })
  const restore = await cutPath(t, world)
  const dialed = world.near.call('dial', DEST4, ECHO_PORT, 19_000)
  // the kernel sends a lost SYN again after 1, 3, 7 and 15 s, or after 1, 2, 3, 4, 5, 7 and 11 s (Linux 6.5 and later)
  await delay(7_300)
  await restore()
  const { id, code, ms } = await dialed
  t.is(code, '')
  t.true(ms < 8_800, `${ms} ms`)
  await world.near.call('reset', id)
  await untilAtRest(gateway)
})

test.serial('proxy-storms: 50,000 UDP endpoints in 10 s: the oldest give way, all is given back', async t => {
  await gateway.stop()
  gateway = await world.gateway({ args: ['--udp-idle-timeout', '5s'] })
  await startFarProxy(t, world)
  await manyEndpoints(t, world, gateway, { count: 50_000, ms: 10_000, associations: 1_024 })
})
