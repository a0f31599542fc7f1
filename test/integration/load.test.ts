import test from 'ava'
import { startSocksAndEchoes } from './destinations.ts'
import { forgetEnded } from './load.ts'
import { createWorld, DEST4, type GatewayProcess, until, untilAtRest, type World } from './world.ts'

/** `make test-long` says 100,000. */
const SHORT = Number(process.env.TEST_SHORT_CONNECTIONS ?? 10_000)
const IDLE = 2000
/** What a process that has worked may keep: grown heaps, kept chunks, compiled code. */
const GROWN_BYTES = 64 << 20

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await forgetEnded(world)
  await startSocksAndEchoes(world)
})
test.beforeEach(async () => {
  gateway = await world.gateway()
  await world.near.call('shortConnections', DEST4, 7001, 200, 16) // code is compiled, heaps have grown
  await untilAtRest(gateway)
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway.text.slice(-1000))
  await gateway?.stop()
})
test.after.always(() => world?.close())

test.serial(`load: ${IDLE} idle connections, then all closed: everything is back`, async t => {
  const before = { rss: gateway.rss(), files: await gateway.files() }
  const ids = await world.near.call('dialMany', DEST4, 7001, IDLE)
  t.is(ids.length, IDLE)
  t.is(await gateway.counter('tcp_flows'), IDLE)
  t.is(await gateway.counter('pcbs'), IDLE)
  t.is(await gateway.counter('send_buffer_bytes'), 0, 'an idle flow holds no buffer')
  const each = (gateway.rss() - before.rss) / IDLE
  t.log(`${Math.round(each)} bytes for an idle connection`)
  t.true(each < 16_384, `${each} bytes for each`)
  await world.near.call('destroy', ids)
  await untilAtRest(gateway, 20_000)
  await until(async () => (await gateway.files()) <= before.files + 1, 'the descriptors')
  t.true(gateway.rss() - before.rss < GROWN_BYTES, `${before.rss} → ${gateway.rss()}`)
})

test.serial(`load: ${SHORT} short connections: everything is back`, async t => {
  const before = { rss: gateway.rss(), files: await gateway.files() }
  const start = performance.now()
  for (let done = 0; done < SHORT; done += 5000) {
    const count = Math.min(5000, SHORT - done)
    t.is(await world.near.call('shortConnections', DEST4, 7001, count, 64), count)
  }
  t.log(`${Math.round(SHORT / ((performance.now() - start) / 1000))} connections a second`)
  await untilAtRest(gateway, 20_000)
  await until(async () => (await gateway.files()) <= before.files + 1, 'the descriptors')
  t.true(gateway.rss() - before.rss < GROWN_BYTES, `${before.rss} → ${gateway.rss()}`)
  t.is(await gateway.counter('handshake_failures'), 0)
  t.is(await gateway.counter('drop_flow_limit'), 0)
})
