/** Two data planes in threads, over a device with two queues. */
import { readdirSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { createGateway } from '../../src/gateway.ts'
import { addon } from '../../src/io/addon.ts'
import type { FlowView } from '../../src/options.ts'
import type { StatusDocument } from '../../src/status.ts'
import { createWorld, DEST4, DEST6, type GatewayProcess, PROXY4, until, untilAtRest, type World } from './world.ts'

const MANY = 48

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: PROXY4, replies: { [`${DEST4}:9005`]: 5, [`${DEST4}:9003`]: 3 } })
  for (const host of ['0.0.0.0', DEST6]) await world.far.call('listen', `echo ${host}`, host, 7001, 'echo')
  await world.far.call('startUdpEchoes', [DEST4, DEST6], 7)
})
test.beforeEach(async () => {
  gateway = await world.gateway({ workers: 2 })
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway.text.slice(-2000))
  await gateway.stop()
})
test.after.always(() => world?.close())

/** docs/library.md: the number of a flow has that of its worker in it. */
const workerOf = (flow: FlowView) => Math.floor(flow.id / 100_000)
const workersOf = (flows: readonly FlowView[]) => [...new Set(flows.map(workerOf))].sort()

/** A worker that is late counts with its last answer, so what the gateway says is polled. */
async function untilCounters(expected: Readonly<Record<string, number>>): Promise<StatusDocument> {
  let status = await gateway.status()
  const wrong = () => Object.entries(expected).filter(([name, value]) => status.counters[name] !== value)
  await until(
    async () => {
      status = await gateway.status()
      return wrong().length === 0
    },
    () => `${JSON.stringify(expected)}, found ${JSON.stringify(status.counters)}`,
  )
  return status
}

async function echoes(t: ExecutionContext, text = 'hello'): Promise<number> {
  const { id, code } = await world.near.call('dial', DEST4, 7001)
  t.is(code, '')
  await world.near.call('write', id, text)
  await until(async () => (await world.near.call('view', id)).text === text, 'the echo')
  return id
}

async function client(t: ExecutionContext, dest = DEST4): Promise<{ id: number; port: number }> {
  const opened = await world.near.call('openUdp', dest === DEST6 ? '::' : '0.0.0.0')
  t.teardown(() => world.near.call('closeUdp', opened.id))
  return opened
}

for (const dest of [DEST4, DEST6])
  test.serial(`workers: TCP flows are spread over both, and counted and listed as one (${dest})`, async t => {
    const ids = await world.near.call('dialMany', dest, 7001, MANY)
    for (const id of ids) await world.near.call('write', id, `flow ${id}`)
    for (const id of ids)
      await until(async () => (await world.near.call('view', id)).text === `flow ${id}`, 'its own words')
    const counts = { tcp_flows: MANY, tcp_opened: MANY, flow_slots: MANY, pcbs: MANY, handshakes: MANY }
    await untilCounters({ ...counts, open_descriptors: 2 + MANY })
    const bytes = ids.reduce((sum, id) => sum + `flow ${id}`.length, 0)
    let flows: readonly FlowView[] = []
    await until(async () => {
      flows = (await gateway.status()).flows
      return flows.reduce((sum, flow) => sum + flow.bytesUp, 0) === bytes
    }, 'the bytes of all flows')
    t.deepEqual(workersOf(flows), [0, 1])
    t.is(new Set(flows.map(flow => flow.id)).size, MANY)
    await world.near.call('destroy', ids)
    await untilAtRest(gateway)
  })

test.serial('workers: a refusal is told truthfully by both', async t => {
  for (let at = 0; at < 16; at++) {
    t.is((await world.near.call('dial', DEST4, 9005)).code, 'ECONNREFUSED')
    t.is((await world.near.call('dial', DEST4, 9003)).code, 'ENETUNREACH')
  }
  await untilCounters({ tcp_refused: 32 })
  await untilAtRest(gateway)
})

for (const dest of [DEST4, DEST6])
  test.serial(`workers: whole and fragmented datagrams of one socket are both answered (${dest})`, async t => {
    const ends: { id: number; port: number }[] = []
    for (let at = 0; at < 20; at++) ends.push(await client(t, dest))
    for (const bytes of [100, 5000, 200, 65_000, 300]) {
      for (const { id } of ends) {
        const before = (await world.near.call('viewUdp', id)).got.length
        const sha256 = await world.near.call('sendUdp', id, bytes, 7, dest)
        await until(async () => (await world.near.call('viewUdp', id)).got.length > before, `${bytes} bytes`)
        t.deepEqual((await world.near.call('viewUdp', id)).got.at(-1), { from: dest, port: 7, bytes, sha256 })
      }
    }
    const { counters } = await untilCounters({ udp_out: 5 * ends.length })
    let flows: readonly FlowView[] = []
    await until(async () => {
      flows = (await gateway.status()).flows
      return flows.length === counters.udp_flows
    }, 'a flow for each endpoint of each worker')
    const ofClient = ends.map(({ port }) => flows.filter(flow => flow.client.endsWith(`:${port}`)))
    const shared = ofClient.filter(found => found.length === 2)
    t.true(shared.length > 0, 'fragments of some went to the other worker')
    for (const found of shared) t.deepEqual(workersOf(found), [0, 1])
  })

test.serial('workers: limits are those of all together', async t => {
  await gateway.stop()
  gateway = await world.gateway({ workers: 2, args: ['--limits-flows', '4', '--udp-max-associations', '6'] })
  for (let at = 0; at < 24; at++) {
    const { id } = await client(t)
    await world.near.call('sendUdp', id, 10, 7, DEST4)
    await until(async () => (await world.near.call('viewUdp', id)).got.length === 1, 'the answer')
  }
  await untilCounters({ udp_flows: 6 })
  const dialed = await Promise.all(
    Array.from({ length: 24 }, () => world.near.call('dial', DEST4, 7001, 800).catch(() => undefined)),
  )
  t.is(dialed.filter(result => result?.code === '').length, 4)
  await untilCounters({ tcp_flows: 4 })
  t.true((await gateway.counter('drop_flow_limit')) >= 20)
})

test.serial('workers: the proxy down and up is said once', async t => {
  const dial = async (code: string) => {
    for (let at = 0; at < 16; at++) t.is((await world.near.call('dial', DEST4, 7001)).code, code)
  }
  await dial('')
  await world.far.call('stop', 'socks')
  await dial('ECONNREFUSED')
  await world.far.call('startSocks', { host: PROXY4, replies: { [`${DEST4}:9005`]: 5, [`${DEST4}:9003`]: 3 } })
  await dial('')
  const told = gateway.lines().filter(line => line.message.startsWith('upstream '))
  t.deepEqual(
    told.map(line => line.message),
    ['upstream up', 'upstream down', 'upstream up'],
  )
})

test.serial('workers: datagrams to relays that a wrong route leads back are known by both, and told once', async t => {
  await world.far.call('stop', 'socks')
  await world.far.call('startSocks', { host: PROXY4, relayHost: '10.8.0.3' })
  t.teardown(async () => {
    await world.client.run('ip', ['route', 'del', '10.8.0.3/32', 'dev', 'tg0'])
    await world.far.call('stop', 'socks')
    await world.far.call('startSocks', { host: PROXY4 })
  })
  await world.client.ip(['route add 10.8.0.3/32 dev tg0'])
  for (let at = 0; at < 20; at++) {
    const { id } = await client(t)
    await world.near.call('sendUdp', id, 10, 7, DEST4)
  }
  await untilCounters({ to_upstream_itself: 20, udp_associations: 20 })
  await untilAtRest(gateway)
  await untilCounters({ to_upstream_itself: 20, udp_associations: 20 })
  const told = gateway.logged('route to the proxy')
  t.is(told.length, 1)
  t.regex(String(told[0]!.destination), /^10\.8\.0\.3:\d+$/)
})

for (const signal of ['SIGTERM', 'SIGKILL'] as const)
  test.serial(`workers: ${signal} leaves nothing, and the next gateway starts`, async t => {
    const ids = await world.near.call('dialMany', DEST4, 7001, MANY)
    await world.near.call('write', ids[0]!, 'x'.repeat(1024), 65_536)
    const { code, ms } = await gateway.stop(signal)
    t.true(ms < 2000, `${ms} ms`)
    t.false(await world.hasDevice('tg0'))
    await until(async () => (await world.far.call('socksCounters')).liveConnections === 0, 'the end at the proxy')
    if (signal === 'SIGTERM') {
      t.is(code, 0)
      for (const id of ids) await until(async () => (await world.near.call('view', id)).error === 'ECONNRESET', 'RST')
    }
    gateway = await world.gateway({ workers: 2 })
    await echoes(t)
    await world.near.call('destroy', ids)
  })

test.serial('workers: the device deleted under them: one error that says so, exit 1', async t => {
  await echoes(t)
  await world.client.ip(['link del tg0'])
  await until(() => gateway.child.exitCode !== null, 'the end')
  t.is(gateway.child.exitCode, 1)
  t.is(gateway.lines().filter(line => line.code === 'TUN_GONE').length, 1)
})

test.serial(
  'workers: a device that was made with several queues is attached, and one with a single queue is refused',
  async t => {
    await gateway.stop()
    for (const [name, kind] of [
      ['tgm', 'multi_queue'],
      ['tgs', ''],
    ])
      await world.client.ip([`tuntap add dev ${name} mode tun ${kind}`, `link set ${name} up`])
    t.teardown(() => world.client.ip(['link del tgm', 'link del tgs']))
    await t.throwsAsync(world.gateway({ workers: 2, tun: 'tgs' }), { message: /workers 2: .*EINVAL.*single queue/ })
    await world.client.ip(['address add 10.98.0.1/24 dev tgm'])
    gateway = await world.gateway({ workers: 2, tun: 'tgm' })
    await world.near.call('dialMany', DEST4, 7001, MANY)
    await until(async () => workersOf((await gateway.status()).flows).join() === '0,1', 'flows of both')
    await gateway.stop()
    t.true(await world.hasDevice('tgm'))
  },
)

test.serial(
  'workers: a device of which another program holds a queue is refused, and is free when that has ended',
  async t => {
    await gateway.stop()
    await world.client.ip(['tuntap add dev tgm mode tun multi_queue', 'link set tgm up'])
    t.teardown(() => world.client.run('ip', ['link', 'del', 'tgm']))
    gateway = await world.gateway({ tun: 'tgm', workers: 2, routes: false })
    for (const workers of [1, 2]) {
      const second = world.gateway({ tun: 'tgm', workers, routes: false })
      await t.throwsAsync(second, { message: /another program holds 2 queues of this device/ })
    }
    t.is(gateway.child.exitCode, null)
    await gateway.stop()
    gateway = await world.gateway({ tun: 'tgm', workers: 2, routes: false })
  },
)

test.serial("workers: a library's gateway leaves neither threads nor descriptors", async t => {
  await gateway.stop()
  const threads = () => readdirSync('/proc/self/task').length
  const files = () => readdirSync('/proc/self/fd').length
  const round = async () => {
    const own = createGateway({
      proxy: { host: '127.0.0.1', port: 1 },
      tun: { name: 'tgl', pid: world.client.pid },
      workers: 2,
    })
    t.teardown(() => own.close())
    await own.start()
    t.is(own.tunName, 'tgl')
    await until(() => own.counters().packets_in !== undefined, 'an answer')
    t.is(own.counters().open_descriptors, 2)
    t.deepEqual(own.flows(), [])
    await own.close()
    t.deepEqual(own.counters(), { stack_restarts: 0, open_descriptors: 0 })
  }
  await round() // what Node makes once stays
  const before = { threads: threads(), files: files() }
  for (let at = 0; at < 3; at++) await round()
  await until(() => threads() <= before.threads && files() <= before.files, 'the end of the threads')
  t.is(addon.openDescriptors(), 0)
  t.false(await world.hasDevice('tgl'))
})

test.serial('workers: close() while they start: CLOSED, and nothing is left', async t => {
  await gateway.stop()
  const own = createGateway({
    proxy: { host: 'no-such-host.invalid', port: 1080 },
    tun: { name: 'tgl', pid: world.client.pid },
    workers: 2,
  })
  t.teardown(() => own.close())
  const started = own.start()
  await own.close()
  await t.throwsAsync(started, { code: 'CLOSED' })
  t.false(await world.hasDevice('tgl'))
  t.is(addon.openDescriptors(), 0)
})
