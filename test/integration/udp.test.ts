import test from 'ava'
import { isInstalled, startDante, startMicrosocks } from '../helpers/servers.ts'
import {
  createWorld,
  DEST4,
  DEST6,
  endsWithFile,
  type GatewayProcess,
  NOWHERE4,
  PROXY4,
  skip,
  until,
  type World,
} from './world.ts'

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: PROXY4 })
  // one socket for each destination: answers must come from the address that was asked
  await world.far.call('startUdpEchoes', [DEST4, DEST6], 7)
  gateway = await world.gateway()
})
endsWithFile(() => ({ world, gateway }))

async function client(t: { teardown(fn: () => unknown): void }, dest = DEST4) {
  const { id, port } = await world.near.call('openUdp', dest.includes(':') ? '::' : '0.0.0.0')
  t.teardown(() => world.near.call('closeUdp', id))
  return { id, port }
}

async function answers(id: number, count: number, timeoutMs = 5000) {
  await until(async () => (await world.near.call('viewUdp', id)).got.length >= count, `${count} answers`, timeoutMs)
  return (await world.near.call('viewUdp', id)).got
}

for (const [dest, limit] of [
  [DEST4, 65_497],
  [DEST6, 65_485],
] as const) {
  for (const bytes of [0, 1, 1452, 1472, 1473, 9000, 65_000, limit])
    test.serial(`udp: ${bytes} bytes come back whole (${dest})`, async t => {
      const { id } = await client(t, dest)
      const sha256 = await world.near.call('sendUdp', id, bytes, 7, dest)
      t.deepEqual(await answers(id, 1), [{ from: dest, port: 7, bytes, sha256 }])
    })

  test.serial(`udp: ${limit + 1} bytes are dropped and counted, never cut (${dest})`, async t => {
    const { id } = await client(t, dest)
    const before = await gateway.counter('udp_too_large')
    await world.near.call('sendUdp', id, limit + 1, 7, dest)
    await until(async () => (await gateway.counter('udp_too_large')) === before + 1, 'the count')
    // the association lives: what comes next is answered, and it is the only answer
    const sha256 = await world.near.call('sendUdp', id, 10, 7, dest)
    t.deepEqual(await answers(id, 1), [{ from: dest, port: 7, bytes: 10, sha256 }])
    await world.near.call('sendUdp', id, limit + 1, 7, dest)
    await until(async () => (await gateway.counter('udp_too_large')) === before + 2, 'the count')
  })
}

test.serial('udp: one association for a client endpoint, whatever it asks', async t => {
  const { id } = await client(t)
  const before = (await world.far.call('socksCounters')).associates
  for (let at = 1; at <= 20; at++) await world.near.call('sendUdp', id, at, 7, DEST4)
  await answers(id, 20)
  await world.near.call('sendUdp', id, 5, 9, '203.0.113.200')
  await world.near.call('sendUdp', id, 21, 7, DEST4)
  await answers(id, 21)
  t.is((await world.far.call('socksCounters')).associates, before + 1)
})

test.serial('udp: the association ends with its control connection and comes back with the next datagram', async t => {
  const { id } = await client(t)
  await world.near.call('sendUdp', id, 1, 7, DEST4)
  await answers(id, 1)
  await world.far.call('stop', 'socks')
  await until(
    async () => (await gateway.status()).flows.every(flow => flow.state !== 'open'),
    'the end of the association',
  )
  await world.far.call('startSocks', { host: PROXY4 })
  await until(async () => {
    await world.near.call('sendUdp', id, 2, 7, DEST4)
    return (await world.near.call('viewUdp', id)).got.length >= 2
  }, 'an answer')
  t.is((await world.far.call('socksCounters')).associates, 1)
})

test.serial('udp: full cone: a peer that was never asked is heard, and its answers carry its address', async t => {
  await gateway.stop()
  await world.far.call('setFault', 'relay')
  const port = await world.far.call('startFaulty', PROXY4)
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${port}` })
  const stranger = await world.far.call('openUdp', DEST4, 4444)
  const other = await world.far.call('openUdp', '203.0.113.99', 5555)
  const { id } = await client(t)
  const target = await world.far.call('openUdp', '203.0.113.50', 3333)
  await world.near.call('sendUdp', id, 11, 3333, '203.0.113.50')
  await until(async () => (await world.far.call('viewUdp', target.id)).got.length === 1, 'the question')
  const [question] = (await world.far.call('viewUdp', target.id)).got
  t.is(question!.bytes, 11)
  const outer = (await world.far.call('relayPorts'))[0]!
  t.is(question!.port, outer)
  const sent = await world.far.call('sendUdp', stranger.id, 22, outer, '10.8.0.2')
  const [first] = await answers(id, 1)
  t.deepEqual(first, { from: DEST4, port: 4444, bytes: 22, sha256: sent })
  await world.far.call('sendUdp', other.id, 33, outer, '10.8.0.2')
  const [, second] = await answers(id, 2)
  t.is(second!.from, '203.0.113.99')
  t.is(second!.port, 5555)
  // the same mapping for another destination
  await world.near.call('sendUdp', id, 44, 5555, '203.0.113.99')
  await until(async () => (await world.far.call('viewUdp', other.id)).got.length === 1, 'the second question')
  t.is((await world.far.call('viewUdp', other.id)).got[0]!.port, outer)
  await world.far.call('stop', 'faulty')
})

test.serial('udp: a proxy that refuses UDP: ECONNREFUSED at a connected socket, one warning', async t => {
  await gateway.stop()
  await world.far.call('stop', 'socks')
  await world.far.call('startSocks', { host: PROXY4, udp: false })
  gateway = await world.gateway()
  for (const dest of [DEST4, DEST6]) {
    const { id } = await client(t, dest)
    await world.near.call('connectUdp', id, dest, 7)
    await world.near.call('sendUdp', id, 5)
    await until(async () => (await world.near.call('viewUdp', id)).error !== '', 'an error')
    t.is((await world.near.call('viewUdp', id)).error, 'ECONNREFUSED')
  }
  const { id } = await client(t)
  for (let count = 0; count < 30; count++) await world.near.call('sendUdp', id, 5, 7, DEST4)
  await until(async () => (await gateway.counter('icmp_out')) >= 32, 'port unreachable for each')
  t.is(gateway.logged('the proxy carries no UDP').length, 1)
  t.true((await gateway.counter('udp_associations')) <= 4, 'the proxy is not asked for each datagram')
})

test.serial('udp: idle associations end, and of too many the least recently used goes first', async t => {
  await gateway.stop()
  await world.far.call('stop', 'socks')
  await world.far.call('startSocks', { host: PROXY4 })
  gateway = await world.gateway({ args: ['--udp-max-associations', '3', '--udp-idle-timeout', '2s'] })
  const clients = [await client(t), await client(t), await client(t)]
  for (const { id } of clients) {
    await world.near.call('sendUdp', id, 1, 7, DEST4)
    await answers(id, 1)
  }
  await world.near.call('sendUdp', clients[0]!.id, 2, 7, DEST4)
  await answers(clients[0]!.id, 2)
  const fourth = await client(t)
  await world.near.call('sendUdp', fourth.id, 1, 7, DEST4)
  await answers(fourth.id, 1)
  const ports = (await gateway.status()).flows.map(flow => Number(flow.client.split(':').at(-1)))
  t.deepEqual(new Set(ports), new Set([clients[0]!.port, clients[2]!.port, fourth.port]))
  await until(async () => (await world.far.call('socksCounters')).liveAssociations === 3, 'the end of the second')
  await until(async () => (await gateway.counter('udp_flows')) === 0, 'the idle time-out', 6000)
  await until(async () => (await world.far.call('socksCounters')).liveAssociations === 0, 'the end of all')
  t.is(await gateway.counter('endpoint_slots'), 0)
  await until(async () => (await gateway.counter('open_descriptors')) === 1, 'the end of what was made in advance')
})

test.serial('udp: dig to any address by way of dante', async t => {
  if (!isInstalled('danted') || !isInstalled('dig')) {
    skip(t, 'danted or dig is not installed')
    return
  }
  await gateway.stop()
  await world.far.call('startDns', [DEST4, '203.0.113.53', DEST6], 53, { 'a.test': ['192.0.2.1', '2001:db8::99'] })
  const dante = await startDante(world.server, { port: 1082, internal: [PROXY4], external: ['lo', 'veth0'] })
  t.teardown(() => dante.close())
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:1082` })
  for (const [server, type, address] of [
    [DEST4, 'A', '192.0.2.1'],
    ['203.0.113.53', 'AAAA', '2001:db8::99'],
    [DEST6, 'A', '192.0.2.1'],
  ] as const) {
    const args = ['+short', '+time=2', '+tries=2', `@${server}`, 'a.test', type]
    const { code, stdout } = await world.client.run('dig', args)
    t.is(code, 0, `${server}: ${stdout}\n${dante.log()}`)
    t.is(stdout.trim(), address)
  }
})

test.serial('udp: microsocks knows no UDP: dig is told so at once', async t => {
  if (!isInstalled('microsocks') || !isInstalled('dig')) {
    skip(t, 'microsocks or dig is not installed')
    return
  }
  await gateway.stop()
  const microsocks = await startMicrosocks(world.server, { host: PROXY4, port: 1083 })
  t.teardown(() => microsocks.close())
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:1083` })
  const { code, stdout } = await world.client.run('dig', [
    '+time=5',
    '+tries=1',
    '-p',
    '5353',
    `@${NOWHERE4}`,
    'a.test',
  ])
  t.is(code, 9)
  t.regex(stdout, /connection refused/)
  t.is(gateway.logged('the proxy carries no UDP').length, 1)
})
