/** The resolvers of the configuration that are spoken to inside TLS, through the proxy, where whom the client asks does not answer. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeCertificate } from '../helpers/certificates.ts'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { isInstalled, startMicrosocks } from '../helpers/servers.ts'
import { createWorld, endsWithFile, type GatewayProcess, PROXY4, skip, until, type World } from './world.ts'

const RESOLVER = { host: '203.0.113.53', port: 53 }
const TLS = '203.0.113.54'
const HTTPS = '203.0.113.55'
/** Of nobody. */
const ASKED = '203.0.113.99'
const NAME = 'dns.example.org'
const WEB = '203.0.113.80'
const PROXY_PORT = 1_090
const needed = ['dnsmasq', 'microsocks', 'dig']
const lacks = needed.filter(name => !isInstalled(name))

const authority = makeCertificate({ name: 'test authority' })
const certificateFor = (...hosts: string[]) => makeCertificate({ name: 'resolver', hosts, issuer: authority })

let world: World
let gateway: GatewayProcess

test.before(async () => {
  if (lacks.length > 0) return
  world = await createWorld()
  await world.server.bindFile('/etc/resolv.conf', `nameserver ${RESOLVER.host}\n`)
  await startDnsmasq(world.server, { hosts: [RESOLVER.host], names: { 'www.example.org': [WEB], [NAME]: [TLS] } })
  await startMicrosocks(world.server, { host: PROXY4, port: PROXY_PORT })
  await writeFile(join(world.folder, 'ca.pem'), authority.cert)
})
endsWithFile(() => ({ world, gateway }))
test.afterEach.always(() => gateway?.stop())

async function start(resolver: string, ...more: string[]): Promise<void> {
  const proxy = `socks5://${PROXY4}:${PROXY_PORT}`
  const environment = { NODE_EXTRA_CA_CERTS: join(world.folder, 'ca.pem') }
  gateway = await world.gateway({ proxy, environment, args: ['--dns-resolver', resolver, ...more] })
}

async function dig(name: string, ...more: string[]): Promise<string> {
  const { stdout } = await world.client.run('dig', [`@${ASKED}`, '+tries=1', '+time=5', ...more, name])
  return stdout.trim()
}

async function front(t: ExecutionContext, { cert, key } = certificateFor(TLS)): Promise<void> {
  await world.far.call('startTlsFront', { host: TLS, port: 853, to: RESOLVER, cert, key })
  t.teardown(() => world.far.call('stop', 'tls-front'))
}

function names(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  test.serial(`encrypted-names: ${title}`, async t => {
    if (lacks.length > 0) return skip(t, `there is no ${lacks.join(', ')}`)
    await body(t)
  })
}

const resolvedBy = () => gateway.logged('names are resolved').map(({ by }) => by)

names('by TLS, all questions on one connection, and on another when that is cut', async t => {
  await front(t)
  await start(`tls://${TLS}`)
  t.is(await dig('www.example.org', '+short'), WEB)
  const all = Array.from({ length: 10 }, (_, at) => dig(`n${at}.example.org`))
  for (const text of await Promise.all(all)) t.regex(text, /status: NXDOMAIN/)
  t.deepEqual(resolvedBy(), [`tls://${TLS}:853`])
  t.is(await world.far.call('cutFronts'), 1)
  t.regex(await dig('again.example.org'), /status: NXDOMAIN/)
})

names('by HTTPS', async t => {
  const { cert, key } = certificateFor(HTTPS)
  await world.far.call('startHttpsResolver', { host: HTTPS, port: 443, to: RESOLVER, cert, key })
  t.teardown(() => world.far.call('stop', 'https-resolver'))
  await start(`https://${HTTPS}/dns-query`)
  t.is(await dig('www.example.org', '+short'), WEB)
  const all = Array.from({ length: 10 }, (_, at) => dig(`n${at}.example.org`))
  for (const text of await Promise.all(all)) t.regex(text, /status: NXDOMAIN/)
  t.deepEqual(resolvedBy(), [`https://${HTTPS}/dns-query`])
})

names('a resolver by name is looked up by the proxy, and must be who it is', async t => {
  await front(t, certificateFor(NAME))
  await start(`tls://${NAME}`)
  t.is(await dig('www.example.org', '+short'), WEB)
})

names('the certificate of another: SERVFAIL, and the log says why', async t => {
  await front(t, certificateFor(HTTPS))
  await start(`tls://${TLS}`, '--udp', 'off')
  t.regex(await dig('www.example.org'), /status: SERVFAIL/)
  await until(() => gateway.logged('names cannot be resolved').length > 0, 'a warning')
  t.regex(String(gateway.logged('names cannot be resolved')[0]!.reason), /the resolver's certificate is refused/)
})

for (const [state, fault] of [
  ['silent', ['silent']],
  ['silent after the request', ['silent after the request']],
  ['away', undefined],
] as const)
  names(`a proxy that is ${state}: SERVFAIL within the 5 s of programs, by UDP and TCP`, async t => {
    const port = await world.far.call('startFaulty', PROXY4)
    if (fault === undefined) await world.far.call('stop', 'faulty')
    else {
      t.teardown(() => world.far.call('stop', 'faulty'))
      await world.far.call('setFault', ...fault)
    }
    gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${port}` })
    const all = await Promise.all([dig('www.example.org'), dig('n.example.org', '+tcp')])
    for (const text of all) t.regex(text, /status: SERVFAIL/)
    t.is(await gateway.counter('dns_pending'), 0)
  })
