import test from 'ava'
import { isInstalled, startDante, startMicrosocks } from '../helpers/servers.ts'
import {
  createWorld,
  DEST4,
  DEST6,
  type GatewayProcess,
  PROXY4,
  PROXY6,
  skip,
  untilAtRest,
  type World,
} from './world.ts'

/** `make test-long` says 1 GB. */
const BYTES = Number(process.env.TEST_BULK_BYTES ?? 100_000_000)

let world: World
let gateway: GatewayProcess | undefined
/** SHA-256 of what a download and an upload have. */
let down: string
let up: string

test.before(async () => {
  world = await createWorld()
  await world.far.call('startHttp', ['0.0.0.0', '::'], 8080)
  const zeros = ['-c', `head -c ${BYTES} /dev/zero | sha256sum | cut -d' ' -f1`]
  const sums = [
    world.server.mustRun('curl', ['-sS', urlOf(DEST4, `sha256/${BYTES}`)], { timeoutMs: 60_000 }),
    world.client.mustRun('sh', zeros),
  ]
  ;[down, up] = (await Promise.all(sums)).map(sum => sum.trim()) as [string, string]
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway?.text.slice(-2000))
  await gateway?.stop()
})
test.after.always(() => world?.close())

const urlOf = (dest: string, path: string) => `http://${dest.includes(':') ? `[${dest}]` : dest}:8080/${path}`

/** curl in the client namespace: down and up, each with the SHA-256 of what went through. */
async function bothWays(t: import('ava').ExecutionContext, dest: string): Promise<void> {
  const script = `curl -sS -m 100 "$1" | sha256sum | cut -d' ' -f1`
  const got = await world.client.mustRun('sh', ['-c', script, 'sh', urlOf(dest, `bytes/${BYTES}`)], {
    timeoutMs: 110_000,
  })
  t.is(got.trim(), down, 'download')
  const upload = `head -c ${BYTES} /dev/zero | curl -sS -m 100 -H Expect: -T - "$1"`
  const told = await world.client.mustRun('sh', ['-c', upload, 'sh', urlOf(dest, 'upload')], { timeoutMs: 110_000 })
  t.deepEqual(JSON.parse(told), { bytes: BYTES, sha256: up }, 'upload')
}

const MODES = [
  ['offload', []],
  ['plain', ['--offload', 'off']],
] as const

for (const [mode, args] of MODES)
  test.serial(`bulk: curl both ways by way of dante, IPv4 and IPv6, ${mode}`, async t => {
    if (!isInstalled('danted')) {
      skip(t, 'danted is not installed')
      return
    }
    const dante = await startDante(world.server, { port: 1082, internal: [PROXY4], external: ['lo', 'veth0'] })
    t.teardown(() => dante.close())
    gateway = await world.gateway({ proxy: `socks5://${PROXY4}:1082`, args })
    for (const dest of [DEST4, DEST6]) await bothWays(t, dest)
    await untilAtRest(gateway)
  })

test.serial('bulk: curl both ways by way of microsocks with a password, over IPv6', async t => {
  if (!isInstalled('microsocks')) {
    skip(t, 'microsocks is not installed')
    return
  }
  const credentials = { username: 'user', password: 'p@ss:word' }
  const microsocks = await startMicrosocks(world.server, { host: PROXY6, port: 1083, credentials })
  t.teardown(() => microsocks.close())
  gateway = await world.gateway({ proxy: `socks5://user:${encodeURIComponent('p@ss:word')}@[${PROXY6}]:1083` })
  for (const dest of [DEST4, DEST6]) await bothWays(t, dest)
  t.false(gateway.text.includes('p@ss'))
  await untilAtRest(gateway)
})

for (const [mode, args] of MODES)
  test.serial(`bulk: curl both ways by way of the embedded server, MTU 8500, ${mode}`, async t => {
    await world.far.call('startSocks', { host: PROXY4 })
    t.teardown(() => world.far.call('stop', 'socks'))
    gateway = await world.gateway({ args: ['--mtu', '8500', ...args] })
    for (const dest of [DEST4, DEST6]) await bothWays(t, dest)
    await untilAtRest(gateway)
  })

test.serial('bulk: 8 downloads and 8 uploads at once, each whole', async t => {
  await world.far.call('startSocks', { host: PROXY4 })
  t.teardown(() => world.far.call('stop', 'socks'))
  gateway = await world.gateway()
  const each = 10_000_000
  const script = `
    for at in 1 2 3 4 5 6 7 8; do
      (curl -sS -m 60 "$1" | sha256sum | cut -d' ' -f1) &
      (head -c ${each} /dev/zero | curl -sS -m 60 -H Expect: -T - "$2" && echo) &
    done
    wait`
  const out = await world.client.mustRun('sh', [
    '-c',
    script,
    'sh',
    urlOf(DEST4, `bytes/${each}`),
    urlOf(DEST6, 'upload'),
  ])
  const sha256 = (await world.server.mustRun('curl', ['-sS', urlOf(DEST4, `sha256/${each}`)])).trim()
  const lines = out.trim().split('\n')
  t.is(lines.filter(line => line === sha256).length, 8)
  t.is(lines.filter(line => line.includes(`"bytes":${each}`)).length, 8)
  await untilAtRest(gateway)
})
