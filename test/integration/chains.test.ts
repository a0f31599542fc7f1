/** Chains of real proxies, no proxy at all, and none by choice, through a tun. */
import test from 'ava'
import { isInstalled, startDante, startMicrosocks } from '../helpers/servers.ts'
import {
  createWorld,
  DEST4,
  DEST6,
  endsWithFile,
  type GatewayProcess,
  skip,
  until,
  untilAtRest,
  type World,
} from './world.ts'

const PROXY = '10.8.0.2'
const [EMBEDDED, MICROSOCKS, DANTE] = [1080, 1081, 1082]

let world: World
let gateway: GatewayProcess | undefined

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: PROXY, port: EMBEDDED })
  await world.far.call('listen', 'echo', '0.0.0.0', 7001, 'echo')
  await world.far.call('listen', 'echo6', '::', 7001, 'echo')
  await world.far.call('startUdpEchoes', [DEST4, DEST6], 7)
  // the way beside the tun
  await world.client.mustRun('ip', ['-6', 'route', 'add', 'default', 'via', 'fd08::2', 'metric', '9999'])
  if (isInstalled('microsocks')) await startMicrosocks(world.server, { host: PROXY, port: MICROSOCKS })
  if (isInstalled('danted')) {
    const internal = [PROXY, '127.0.0.1']
    await startDante(world.server, { port: DANTE, internal, external: ['lo', 'veth0'] })
  }
})
endsWithFile(() => ({ world, gateway }))
test.afterEach.always(async () => {
  await gateway?.stop()
  gateway = undefined
})

async function echoes(destination: string): Promise<string> {
  const { id, code } = await world.near.call('dial', destination, 7001)
  if (code !== '') return code
  await world.near.call('write', id, 'hello', 1)
  // microsocks ends a connection with the first FIN of either side
  await until(async () => (await world.near.call('view', id)).text !== '', 'the echo')
  const { text } = await world.near.call('view', id)
  await world.near.call('end', id)
  await until(async () => (await world.near.call('view', id)).closed, 'the end')
  return text
}

async function answers(destination: string, bytes: number): Promise<readonly unknown[]> {
  const { id } = await world.near.call('openUdp', destination.includes(':') ? '::' : '0.0.0.0')
  const sha256 = await world.near.call('sendUdp', id, bytes, 7, destination)
  await until(async () => (await world.near.call('viewUdp', id)).got.length > 0, 'the answer')
  const { got } = await world.near.call('viewUdp', id)
  await world.near.call('closeUdp', id)
  return [got, [{ from: destination, port: 7, bytes, sha256 }]]
}

for (const [what, hops, program] of [
  ['two', [EMBEDDED, MICROSOCKS], 'microsocks'],
  ['three', [MICROSOCKS, EMBEDDED, DANTE], 'danted'],
] as const)
  test.serial(`chains: ${what} proxies, each known to the next by what it connects to`, async t => {
    if (!isInstalled('microsocks') || !isInstalled(program)) return skip(t, `${program} is not installed`)
    gateway = await world.gateway({ proxy: hops.map(port => `socks5://${PROXY}:${port}`).join(' ') })
    for (const destination of [DEST4, DEST6]) t.is(await echoes(destination), 'hello')
    t.is((await world.near.call('dial', DEST4, 7009)).code, 'ECONNREFUSED')
    await untilAtRest(gateway)
  })

test.serial('chains: SOCKS4 to a proxy behind SOCKS5', async t => {
  if (!isInstalled('danted')) return skip(t, 'danted is not installed')
  gateway = await world.gateway({ proxy: `socks5://${PROXY}:${EMBEDDED} socks4://${PROXY}:${DANTE}` })
  t.is(await echoes(DEST4), 'hello')
  t.is((await world.near.call('dial', DEST6, 7001)).code, 'ECONNREFUSED', 'SOCKS4 has no IPv6')
  await untilAtRest(gateway)
})

test.serial('chains: one whose second proxy is not there says so, and names the first', async t => {
  gateway = await world.gateway({ proxy: `socks5://${PROXY}:${EMBEDDED} socks5://${PROXY}:9` })
  t.is((await world.near.call('dial', DEST4, 7001)).code, 'ECONNREFUSED')
  const line = await gateway.untilLog('upstream down')
  t.is(line.upstream, `${PROXY}:9`)
  t.regex(String(line.reason), new RegExp(`^through ${PROXY}:${EMBEDDED}: the proxy answered 5`))
})

test.serial('chains: datagrams go by a relay behind a relay', async t => {
  if (!isInstalled('danted')) return skip(t, 'danted is not installed')
  gateway = await world.gateway({ proxy: `socks5://${PROXY}:${EMBEDDED} socks5://${PROXY}:${DANTE}` })
  for (const [destination, bytes] of [
    [DEST4, 0],
    [DEST4, 1400],
    [DEST4, 9000],
    [DEST6, 1200],
  ] as const) {
    const [got, wanted] = await answers(destination, bytes)
    t.deepEqual(got, wanted)
  }
})

test.serial('chains: datagrams are refused where the first proxy carries none', async t => {
  if (!isInstalled('microsocks')) return skip(t, 'microsocks is not installed')
  gateway = await world.gateway({ proxy: `socks5://${PROXY}:${MICROSOCKS} socks5://${PROXY}:${EMBEDDED}` })
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  await world.near.call('sendUdp', id, 10, 7, DEST4)
  const line = await gateway.untilLog('the proxy carries no UDP')
  t.is(line.upstream, `${PROXY}:${MICROSOCKS}`)
  await world.near.call('closeUdp', id)
})

test.serial('direct: connections and datagrams leave by an interface, and answers come back', async t => {
  gateway = await world.gateway({ proxy: 'direct://?interface=veth0' })
  for (const destination of [DEST4, DEST6]) t.is(await echoes(destination), 'hello')
  t.is((await world.near.call('dial', DEST4, 7009)).code, 'ECONNREFUSED')
  for (const destination of [DEST4, DEST6])
    for (const bytes of [0, 1, 1400, 9000]) {
      const [got, wanted] = await answers(destination, bytes)
      t.deepEqual(got, wanted)
    }
  await untilAtRest(gateway)
})

test.serial('direct: as the first hop', async t => {
  gateway = await world.gateway({ proxy: `direct://?interface=veth0 socks5://${PROXY}:${EMBEDDED}` })
  t.is(await echoes(DEST4), 'hello')
})

test.serial('reject: nothing leaves, and clients know at once', async t => {
  gateway = await world.gateway({ proxy: 'reject://' })
  for (const destination of [DEST4, DEST6]) {
    const { code, ms } = await world.near.call('dial', destination, 7001)
    t.is(code, 'ECONNREFUSED')
    t.true(ms < 500, `${ms} ms`)
  }
})
