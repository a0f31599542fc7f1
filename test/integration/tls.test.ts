/** Proxies inside TLS and over a Unix socket, through the tun. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeCertificate } from '../helpers/certificates.ts'
import { isInstalled, startProgram } from '../helpers/servers.ts'
import { forgetEnded, startLoad, startLoadServers } from './load.ts'
import {
  createWorld,
  DEST4,
  DEST6,
  endsWithFile,
  type GatewayOptions,
  type GatewayProcess,
  PROXY4,
  skip,
  until,
  untilAtRest,
  type World,
} from './world.ts'

/** `make test-long` says 200 MB. */
const BYTES = Number(process.env.TEST_TLS_BYTES ?? 20_000_000)
const CONNECTIONS = 500
const HTTP_PORT = 8080
const NOBODY_PORT = 9
const FRONT_PORT = 8443
const SOCKS = { host: PROXY4, port: 1081 }
/** By name: the address has another certificate. */
const NAME = 'proxy.example'

const authority = makeCertificate({ name: 'test authority' })
const made = (more: Partial<Parameters<typeof makeCertificate>[0]> = {}) =>
  makeCertificate({ name: 'proxy', hosts: [PROXY4], issuer: authority, ...more })
const sound = made()
const client = makeCertificate({ name: 'client 1', issuer: authority })

let world: World
let gateway: GatewayProcess
let ca: string

test.before(async () => {
  world = await createWorld()
  await world.far.call('startHttp', ['0.0.0.0', '::'], HTTP_PORT)
  await world.far.call('startSocks', SOCKS)
  ca = await file('ca.pem', authority.cert)
})
endsWithFile(() => ({ world, gateway }))
test.afterEach.always(() => gateway?.stop())

async function file(name: string, content: string): Promise<string> {
  const path = join(world.folder, name)
  await writeFile(path, content)
  return path
}

async function front(t: ExecutionContext, { cert, key } = sound, clientAuthority?: string): Promise<void> {
  const asks = clientAuthority === undefined ? {} : { clientAuthority }
  await world.far.call('startTlsFront', { host: PROXY4, port: FRONT_PORT, to: SOCKS, cert, key, ...asks })
  t.teardown(() => world.far.call('stop', 'tls-front'))
}

/** Without a pool, whose connections would be counted as held. */
async function start(options = `ca=${ca}`, more: GatewayOptions = {}, scheme = 'socks5+tls'): Promise<void> {
  const proxy = `${scheme}://${PROXY4}:${FRONT_PORT}?${options}`
  gateway = await world.gateway({ proxy, ...more, args: ['--upstream-pool', '0', ...(more.args ?? [])] })
}

const urlOf = (dest: string, path: string) => `http://${dest.includes(':') ? `[${dest}]` : dest}:${HTTP_PORT}/${path}`

/** Down and up, each with the SHA-256 of what went through. */
async function bothWays(t: ExecutionContext, dest: string, bytes: number): Promise<void> {
  const timeoutMs = 110_000
  const expected = await world.server.mustRun('curl', ['-sS', urlOf(DEST4, `sha256/${bytes}`)], { timeoutMs })
  const script = `curl -sS -m 100 "$1" | sha256sum | cut -d' ' -f1`
  const got = await world.client.mustRun('sh', ['-c', script, 'sh', urlOf(dest, `bytes/${bytes}`)], { timeoutMs })
  t.is(got.trim(), expected.trim(), 'download')
  const zeros = ['-c', `head -c ${bytes} /dev/zero | sha256sum | cut -d' ' -f1`]
  const upload = `head -c ${bytes} /dev/zero | curl -sS -m 100 -H Expect: -T - "$1"`
  const told = await world.client.mustRun('sh', ['-c', upload, 'sh', urlOf(dest, 'upload')], { timeoutMs })
  const sha256 = (await world.client.mustRun('sh', zeros)).trim()
  t.deepEqual(JSON.parse(told), { bytes, sha256 }, 'upload')
}

test.serial('tls: a file both ways inside TLS, whole, over IPv4 and IPv6, and all is let go', async t => {
  await front(t)
  await start()
  const cpuBefore = gateway.cpuMs()
  await bothWays(t, DEST4, BYTES)
  t.log(`${gateway.cpuMs() - cpuBefore} ms of CPU for ${(2 * BYTES) / 1e6} MB, ${gateway.rss() >> 20} MiB`)
  await bothWays(t, DEST6, BYTES / 100)
  await untilAtRest(gateway)
})

test.serial('tls: refused and unreachable are told as without TLS', async t => {
  await front(t)
  await start()
  t.is((await world.near.call('dial', DEST4, NOBODY_PORT)).code, 'ECONNREFUSED')
  t.is((await world.near.call('dial', '192.0.2.77', 80)).code, 'ENETUNREACH')
  await untilAtRest(gateway)
})

test.serial('tls: each direction ends apart', async t => {
  await front(t)
  await start()
  await world.far.call('listen', 'answer', DEST4, 8001, 'answer')
  t.teardown(() => world.far.call('stop', 'answer'))
  const { id, code } = await world.near.call('dial', DEST4, 8001)
  t.is(code, '')
  await world.near.call('write', id, 'x', 100_000)
  await world.near.call('end', id)
  await until(async () => (await world.near.call('view', id)).ended, 'the end')
  t.like(await world.near.call('view', id), { text: '100000 bytes', error: '' })
  await untilAtRest(gateway)
})

test.serial('tls: a client that resets is a reset behind the proxy', async t => {
  await front(t)
  await start()
  await world.far.call('takeAccepted')
  await world.far.call('listen', 'hold', DEST4, 8001, 'hold')
  t.teardown(() => world.far.call('stop', 'hold'))
  const { id } = await world.near.call('dial', DEST4, 8001)
  await world.near.call('write', id, 'half a mess')
  await until(async () => (await world.far.call('acceptedCount')) === 1, 'the connection')
  const [accepted] = await world.far.call('takeAccepted')
  await world.near.call('reset', id)
  await until(async () => (await world.far.call('view', accepted!)).closed, 'the end')
  t.is((await world.far.call('view', accepted!)).error, 'ECONNRESET')
  await untilAtRest(gateway)
})

/** Asks for a file and reads it; what ended it. Not in Node: libuv takes EPOLLHUP behind a short read for an end of file. */
const READER = `use IO::Socket::INET; $s = IO::Socket::INET->new(PeerAddr => "$ARGV[0]:$ARGV[1]") or die $@;
  print $s "GET /bytes/1000000000 HTTP/1.0\\r\\n\\r\\n"; $s->flush;
  while (($got = sysread($s, $_, 65536)) > 0) {}
  print defined $got ? "END" : $!{ECONNRESET} ? "ECONNRESET" : "$!"`

test.serial('tls: a connection that is cut in the middle of a file is a reset, and never an end', async t => {
  await front(t)
  await start()
  const end = world.client.mustRun('perl', ['-e', READER, DEST4, String(HTTP_PORT)], { timeoutMs: 60_000 })
  await until(async () => (await gateway.status()).flows.some(({ bytesDown }) => bytesDown > 1_000_000), 'some of it')
  t.is(await world.far.call('cutFronts'), 1)
  t.is(await end, 'ECONNRESET')
  t.regex(String((await gateway.untilLog('tcp flow ended')).reason), /cut inside of TLS .*without close_notify/)
  await untilAtRest(gateway)
})

const REFUSALS: readonly (readonly [what: string, certificate: typeof sound, options: () => string, reason: RegExp])[] =
  [
    ['of an unknown authority', sound, () => 'udp=auto', /certificate of its authority as ca=FILE/],
    ['that signed itself', made({ issuer: undefined as never }), () => `ca=${ca}`, /has signed itself/],
    ['that has expired', made({ until: '240101000000Z' }), () => `ca=${ca}`, /has expired/],
    [
      'for another name',
      made({ hosts: [NAME] }),
      () => `ca=${ca}`,
      /it is for DNS:proxy\.example, not for 10\.8\.0\.2/,
    ],
  ]

for (const [what, certificate, options, reason] of REFUSALS)
  test.serial(`tls: a proxy with a certificate ${what} is told in the log, and clients are refused`, async t => {
    await front(t, certificate)
    await start(options())
    t.is((await world.near.call('dial', DEST4, HTTP_PORT)).code, 'ECONNREFUSED')
    const { level, reason: told } = await gateway.untilLog('upstream down')
    t.is(level, 'warn')
    t.regex(String(told), reason)
    await untilAtRest(gateway)
  })

test.serial('tls: with insecure=true the same is used, and warned of', async t => {
  await front(t, made({ until: '240101000000Z', hosts: [NAME] }))
  await start('insecure=true')
  await bothWays(t, DEST4, 100_000)
  t.is(gateway.logged('the certificate of the proxy is not checked').length, 1)
})

test.serial('tls: two workers each have their own, and the warning is one', async t => {
  await front(t)
  await start('insecure=true', { workers: 2 })
  await world.near.call('shortConnections', DEST4, HTTP_PORT, 40, 8)
  await bothWays(t, DEST4, 1_000_000)
  t.is(gateway.logged('the certificate of the proxy is not checked').length, 1)
  await untilAtRest(gateway)
})

test.serial('tls: behind another proxy', async t => {
  await front(t)
  const proxy = `socks5://${SOCKS.host}:${SOCKS.port} socks5+tls://${PROXY4}:${FRONT_PORT}?ca=${ca}`
  gateway = await world.gateway({ proxy, args: ['--upstream-pool', '0'] })
  await bothWays(t, DEST4, 1_000_000)
  t.is((await world.near.call('dial', DEST4, NOBODY_PORT)).code, 'ECONNREFUSED')
  await world.far.call('stop', 'tls-front')
  t.is((await world.near.call('dial', DEST4, HTTP_PORT)).code, 'ECONNREFUSED')
  await untilAtRest(gateway)
})

test.serial('tls: a name that is in the certificate instead of the host', async t => {
  await front(t, made({ hosts: [NAME] }))
  await start(`ca=${ca}&servername=${NAME}`)
  await bothWays(t, DEST4, 100_000)
})

test.serial('tls: a proxy that wants a certificate of ours gets it, or says so', async t => {
  await front(t, sound, authority.cert)
  await start()
  t.is((await world.near.call('dial', DEST4, HTTP_PORT)).code, 'ECONNREFUSED')
  t.regex(String((await gateway.untilLog('tcp flow ended')).reason), /wants a certificate of ours/)
  await gateway.stop()
  await start(`ca=${ca}&cert=${await file('both.pem', client.key + client.cert)}`)
  await bothWays(t, DEST4, 100_000)
  t.false(gateway.text.includes('PRIVATE'))
})

test.serial('tls: a file that is missing or wrong ends the start, with its name', async t => {
  await t.throwsAsync(start(`ca=${world.folder}/none.pem`), { message: /ended with [1-9][\s\S]*ca: .*none\.pem/ })
  const wrong = await file('wrong.pem', 'nothing')
  await t.throwsAsync(start(`ca=${wrong}`), { message: /no certificate in PEM form/ })
})

test.serial(`tls: ${CONNECTIONS} connections at once, with connections made in advance, and all is let go`, async t => {
  await forgetEnded(world)
  await startLoadServers(world)
  const { cert, key } = sound
  const to = { host: PROXY4, port: 1080 }
  await world.far.call('startTlsFront', { host: PROXY4, port: FRONT_PORT, to, cert, key })
  t.teardown(() => world.far.call('stop', 'tls-front'))
  await start(`ca=${ca}`, { args: ['--upstream-pool', '16', '--log-level', 'info'] })
  const held = startLoad(world, 'idle', '-n', CONNECTIONS, '-k', 16, '-t', 1)
  t.is((await held.result).open, CONNECTIONS)
  const { counters } = await gateway.status()
  t.is(counters.tcp_flows, CONNECTIONS)
  t.true(counters.pool_hits! > 0)
  t.log(`${gateway.rss() >> 20} MiB, ${counters.open_descriptors} descriptors`)
  t.is((await held.finish()).open, CONNECTIONS, 'each still answers')
  await until(async () => (await gateway.counter('pool_ready')) === 0, 'the pool to go', 10_000)
  await untilAtRest(gateway, 20_000)
})

test.serial('tls: stunnel in front of tinyproxy, as https://', async t => {
  if (!isInstalled('stunnel') || !isInstalled('tinyproxy')) {
    skip(t, 'stunnel or tinyproxy is not installed')
    return
  }
  const lines = ['foreground = yes', 'pid =', 'debug = 3', '[https]', `accept = ${PROXY4}:${FRONT_PORT}`]
  const pem = await file('stunnel.pem', sound.key + sound.cert)
  const tinyproxy = await file('tinyproxy.conf', 'Port 8888\nListen 127.0.0.1\nMaxClients 100\n')
  const stunnel = await file('stunnel.conf', [...lines, 'connect = 127.0.0.1:8888', `cert = ${pem}`, ''].join('\n'))
  const behind = await startProgram(world.server, 8888, 'tinyproxy', ['-d', '-c', tinyproxy])
  t.teardown(() => behind.close())
  const before = await startProgram(world.server, FRONT_PORT, 'stunnel', [stunnel])
  t.teardown(() => before.close())
  await start(`ca=${ca}`, {}, 'https')
  for (const dest of [DEST4, DEST6]) {
    const sum = await world.server.mustRun('curl', ['-sS', urlOf(DEST4, 'sha256/2000000')])
    const script = `curl -sS -m 30 "$1" | sha256sum | cut -d' ' -f1`
    t.is(await world.client.mustRun('sh', ['-c', script, 'sh', urlOf(dest, 'bytes/2000000')]), sum)
  }
  await untilAtRest(gateway)
})

for (const scheme of ['socks5+unix', 'socks5h+unix'] as const)
  test.serial(`unix: ${scheme}: a file both ways, and all is let go`, async t => {
    const path = join(world.folder, `${scheme}.sock`)
    await world.far.call('startUnixFront', path, SOCKS)
    t.teardown(() => world.far.call('stop', 'unix-front'))
    gateway = await world.gateway({ proxy: `${scheme}://${path}`, args: ['--upstream-pool', '0'] })
    await bothWays(t, DEST4, 2_000_000)
    await untilAtRest(gateway)
  })
