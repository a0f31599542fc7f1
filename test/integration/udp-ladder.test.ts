/** UDP behind proxies that have none, that have it in TCP alone, and that have it: without any configuration. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { isInstalled, startDante, startMicrosocks, startProgram } from '../helpers/servers.ts'
import { ECHO_PORT, startEchoes } from './destinations.ts'
import { DEST4, type GatewayProcess, gatewayForEach, PROXY4, skip, until, type World } from './world.ts'

const NO_UDP = 'the proxy carries no UDP'
const IN_TCP = 'UDP goes through the proxy in TCP'

let world: World
const start = gatewayForEach(startEchoes, made => {
  world = made
})

async function client(t: ExecutionContext): Promise<number> {
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  t.teardown(() => world.near.call('closeUdp', id))
  return id
}

/** What a connected socket is told for a datagram: '' for nothing, within a second. */
async function told(t: ExecutionContext, port: number): Promise<string> {
  const id = await client(t)
  await world.near.call('connectUdp', id, DEST4, port)
  await world.near.call('sendUdp', id, 20)
  const error = async () => (await world.near.call('viewUdp', id)).error
  for (const deadline = Date.now() + 1_000; Date.now() < deadline && (await error()) === ''; ) await delay(5)
  return error()
}

async function echoed(t: ExecutionContext, bytes: number): Promise<void> {
  const id = await client(t)
  const sha256 = await world.near.call('sendUdp', id, bytes, 7, DEST4)
  const got = async () => (await world.near.call('viewUdp', id)).got
  await until(async () => (await got()).length > 0, `the echo of ${bytes} bytes`)
  t.deepEqual(await got(), [{ from: DEST4, port: 7, bytes, sha256 }])
}

test.serial('udp-ladder: behind microsocks each datagram is refused at once, and the proxy is asked once', async t => {
  if (!isInstalled('microsocks')) return skip(t, 'microsocks is not installed')
  const proxy = await startMicrosocks(world.server, { host: PROXY4, port: 1081 })
  t.teardown(() => proxy.close())
  const gateway = await start({ proxy: `socks5://${PROXY4}:1081`, args: ['--upstream-pool', '0'] })
  t.is(await told(t, 443), 'ECONNREFUSED')
  const asked = await gateway.counter('handshakes')
  t.is(asked, 2, 'for a relay, and for UDP in TCP')
  const since = performance.now()
  for (let count = 0; count < 12; count++) {
    t.is(await told(t, count % 2 === 0 ? 443 : 7), 'ECONNREFUSED')
    await delay(100)
  }
  t.true(performance.now() - since > 1_000, 'longer than a refusal is kept for one client')
  t.is(await gateway.counter('handshakes'), asked)
  t.is(gateway.logged(NO_UDP).length, 1)
  t.is(gateway.logged(NO_UDP)[0]!.level, 'warn')
  t.is(gateway.logged('datagrams cannot be relayed').length, 0)

  const ids = await world.near.call('dialMany', DEST4, ECHO_PORT, 1)
  await world.near.call('write', ids[0]!, 'x', 1)
  await until(async () => (await world.near.call('view', ids[0]!)).bytes === 1, 'TCP as ever')
  await world.near.call('destroy', ids)
})

test.serial('udp-ladder: behind dante datagrams go by its relay, and nothing is said of it', async t => {
  if (!isInstalled('danted')) return skip(t, 'danted is not installed')
  const proxy = await startDante(world.server, { port: 1082, internal: [PROXY4], external: ['lo', 'veth0'] })
  t.teardown(() => proxy.close())
  const gateway = await start({ proxy: `socks5://${PROXY4}:1082` })
  for (const bytes of [0, 1, 1472]) await echoed(t, bytes)
  t.deepEqual([gateway.logged(NO_UDP), gateway.logged(IN_TCP)], [[], []])
})

test.serial(
  'udp-ladder: a proxy with UDP in TCP alone: datagrams come back, what it cannot carry is dropped',
  async t => {
    const port = await world.far.call('startFaulty', PROXY4)
    t.teardown(() => world.far.call('stop', 'faulty'))
    await world.far.call('setFault', 'udp in tcp', 'full cone')
    const gateway = await start({ proxy: `socks5://${PROXY4}:${port}`, args: ['--upstream-pool', '0'] })
    for (const bytes of [1, 20, 1472, 1493]) await echoed(t, bytes)
    t.is(gateway.logged(IN_TCP).length, 1)
    t.is(await gateway.counter('handshakes'), 5, 'one for a relay, and one a client')

    const id = await client(t)
    await world.near.call('sendUdp', id, 0, 7, DEST4)
    await world.near.call('sendUdp', id, 1494, 7, DEST4)
    await until(async () => (await gateway.counter('udp_too_large')) === 1, 'the large one')
    t.is(await gateway.counter('udp_send_failed'), 1)
    const sha256 = await world.near.call('sendUdp', id, 30, 7, DEST4)
    await until(async () => (await world.near.call('viewUdp', id)).got.length > 0, 'an answer')
    t.deepEqual((await world.near.call('viewUdp', id)).got, [{ from: DEST4, port: 7, bytes: 30, sha256 }])
  },
)

test.serial('udp-ladder: UDP in TCP is full cone, and many datagrams at once come back', async t => {
  const port = await world.far.call('startFaulty', PROXY4)
  t.teardown(() => world.far.call('stop', 'faulty'))
  await world.far.call('setFault', 'udp in tcp', 'full cone')
  await start({ proxy: `socks5://${PROXY4}:${port}`, args: ['--upstream-pool', '0'] })
  const id = await client(t)
  const view = async () => (await world.near.call('viewUdp', id)).got
  await world.near.call('sendUdp', id, 1, 7, DEST4)
  await until(async () => (await view()).length === 1, 'the association')
  for (let bytes = 2; bytes <= 200; bytes++) await world.near.call('sendUdp', id, bytes, 7, DEST4)
  await until(async () => (await view()).length === 200, '200 answers', 20_000)
  const outer = (await world.far.call('relayPorts'))[0]!
  const stranger = await world.far.call('openUdp', '203.0.113.99', 5555)
  t.teardown(() => world.far.call('closeUdp', stranger.id))
  await world.far.call('sendUdp', stranger.id, 33, outer, PROXY4)
  await until(async () => (await view()).length === 201, 'whom it has not asked')
  t.is((await view())[200]!.from, '203.0.113.99')
})

test.serial('udp-ladder: workers know together that a proxy has no UDP', async t => {
  await world.far.call('startSocks', { host: PROXY4, udp: false })
  t.teardown(() => world.far.call('stop', 'socks'))
  const gateway: GatewayProcess = await start({ workers: 2, args: ['--upstream-pool', '0'] })
  for (let count = 0; count < 16; count++) t.is(await told(t, 443), 'ECONNREFUSED')
  t.true((await gateway.counter('handshakes')) <= 4)
  t.is(gateway.logged(NO_UDP).length, 1)
})

test.serial('udp-ladder: udp.quic reject: port 443 is refused at once, other datagrams go through', async t => {
  await world.far.call('startSocks', { host: PROXY4 })
  t.teardown(() => world.far.call('stop', 'socks'))
  const gateway = await start({ args: ['--udp-quic', 'reject', '--upstream-pool', '0'] })
  for (let count = 0; count < 3; count++) t.is(await told(t, 443), 'ECONNREFUSED')
  t.is(await gateway.counter('handshakes'), 0)
  await echoed(t, 20)
  t.is(await gateway.counter('handshakes'), 1)
})

test.serial('udp-ladder: udp.mode off: the proxy is not asked', async t => {
  await world.far.call('startSocks', { host: PROXY4 })
  t.teardown(() => world.far.call('stop', 'socks'))
  const gateway = await start({ args: ['--udp', 'off', '--upstream-pool', '0'] })
  for (const port of [443, 7]) t.is(await told(t, port), 'ECONNREFUSED')
  t.is(await gateway.counter('handshakes'), 0)
  t.is(gateway.logged('datagrams').length, 0)
})

test.serial('udp-ladder: udp.mode associate: UDP in TCP is not asked for; tcp: a relay is not', async t => {
  const port = await world.far.call('startFaulty', PROXY4)
  t.teardown(() => world.far.call('stop', 'faulty'))
  await world.far.call('setFault', 'udp in tcp', 'full cone')
  const proxy = `socks5://${PROXY4}:${port}`
  const first = await start({ proxy, args: ['--udp', 'associate', '--upstream-pool', '0'] })
  t.is(await told(t, 7), 'ECONNREFUSED')
  t.is(await first.counter('handshakes'), 1)
  await first.stop()
  const second = await start({ proxy, args: ['--udp', 'tcp', '--upstream-pool', '0'] })
  await echoed(t, 20)
  t.is(await second.counter('handshakes'), 1)
})

test.serial('udp-ladder: the real hev-socks5-server: by its relay, and by UDP in TCP', async t => {
  const binary = process.env.HEV_SOCKS5_SERVER
  if (binary === undefined) return skip(t, 'HEV_SOCKS5_SERVER does not name its binary')
  const file = join(world.folder, 'hev.yml')
  await writeFile(file, `main:\n  workers: 1\n  port: 1084\n  listen-address: '${PROXY4}'\n`)
  const server = await startProgram(world.server, 1084, binary, [file])
  t.teardown(() => server.close())
  for (const mode of ['auto', 'tcp']) {
    const gateway = await start({ proxy: `socks5://${PROXY4}:1084`, args: ['--udp', mode] })
    for (const bytes of [1, 500, 1400, 1472]) await echoed(t, bytes)
    t.is(gateway.logged(IN_TCP).length, mode === 'tcp' ? 1 : 0)
    await gateway.stop()
  }
})
