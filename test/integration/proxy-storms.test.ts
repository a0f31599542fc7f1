/** The quick form of test/long/proxy-storms.test.ts, and a proxy that is killed. */
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { ECHO_PORT, startEchoes } from './destinations.ts'
import { comeAndGo, cutOff, manyEndpoints, startFarProxy, startProxy, stopInMidTransfer, told } from './proxy-storms.ts'
import {
  createWorld,
  DEST4,
  endsWithFile,
  type GatewayProcess,
  PROXY4,
  until,
  untilAtRest,
  type World,
} from './world.ts'

/** Of each flow to the proxy that is killed. */
const BYTES = 65_536 * 1024
const HOLD_PORT = 7003

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await startEchoes(world)
  gateway = await world.gateway()
})
endsWithFile(() => ({ world, gateway }))

test.serial('proxy-storms: stopped for 3 s with 10 bulk flows: memory bounded, every byte arrives', async t => {
  const proxy = await startProxy(world)
  t.teardown(() => proxy.end())
  await stopInMidTransfer(t, world, gateway, proxy, { flows: 10, bytes: 8_000_000, ms: 3_000 })
})

test.serial('proxy-storms: kill -9 in mid-transfer: no flow stays, none is taken for whole, one line', async t => {
  const proxy = await startProxy(world)
  t.teardown(() => proxy.end())
  await world.far.call('listen', 'hold', '0.0.0.0', HOLD_PORT, 'hold')
  await world.far.call('takeAccepted')
  const ids = await world.near.call('dialMany', DEST4, HOLD_PORT, 3)
  // its kernel has accepted them, the program that is to pause them perhaps not yet
  await until(async () => (await world.far.call('acceptedCount')) === ids.length, 'the connections')
  const views = () => Promise.all(ids.map(id => world.near.call('view', id)))
  for (const id of await world.far.call('takeAccepted')) await world.far.call('pause', id)
  for (const id of ids) await world.near.call('write', id, 'x'.repeat(1024), BYTES / 1024)
  // what nobody reads comes to rest in the middle, with bytes in every queue
  let last = -1
  await until(
    async () => {
      const before = last
      const { receive_buffer_bytes, bytes_in } = (await gateway.status()).counters
      last = bytes_in!
      await delay(200)
      return last === before && receive_buffer_bytes! > 0
    },
    'rest',
    20_000,
  )
  const before = told(gateway).length
  await proxy.end('SIGKILL')
  await until(async () => (await views()).every(({ closed }) => closed), 'the end of all')
  for (const { error, ended } of await views()) t.deepEqual({ error, ended }, { error: 'ECONNRESET', ended: false })
  t.is((await world.near.call('dial', DEST4, ECHO_PORT)).code, 'ECONNREFUSED')
  t.deepEqual(told(gateway).slice(before), ['upstream down'])
  const line = gateway.logged('upstream down').at(-1)!
  t.is(line.upstream, `${PROXY4}:1080`)
  t.regex(String(line.reason), /cannot be reached: ECONNREFUSED: nobody listens there; is the proxy running/)
  await untilAtRest(gateway)
})

test.serial('proxy-storms: it comes back five times: the first success within 100 ms of its listening', async t => {
  await startFarProxy(t, world)
  await comeAndGo(t, world, gateway, 5)
})

test.serial(
  'proxy-storms: its packets are dropped at 1,000 connections/s: bounded, told once, back at once',
  async t => {
    await gateway.stop()
    gateway = await world.gateway({ args: ['--tcp-connect-timeout', '1s', '--log-level', 'info'] })
    await startFarProxy(t, world)
    await cutOff(t, world, gateway, { perSecond: 1_000, ms: 3_000, dials: 256 })
  },
)

test.serial('proxy-storms: 3,000 UDP endpoints in a second: the oldest give way, all is given back', async t => {
  await gateway.stop()
  gateway = await world.gateway({ args: ['--udp-max-associations', '128', '--udp-idle-timeout', '2s'] })
  await startFarProxy(t, world)
  await manyEndpoints(t, world, gateway, { count: 3_000, ms: 1_000, associations: 128 })
})
