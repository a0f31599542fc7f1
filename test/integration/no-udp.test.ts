/** Behind a proxy without UDP, with its URL as all of the configuration: names, TLS, and programs that would have UDP. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeCertificate } from '../helpers/certificates.ts'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { startHttpsOrigin } from '../helpers/servers/https-origin.ts'
import { isInstalled } from '../helpers/servers.ts'
import { NO_UDP_PROXIES } from './no-udp-proxies.ts'
import { createWorld, endsWithFile, type GatewayProcess, skip, type World } from './world.ts'

const ORIGIN = '203.0.113.80'
/** The client's resolver, which nobody but the proxy can reach, and no proxy by UDP. */
const RESOLVER = '203.0.113.53'
const PROGRAMS = ['nginx', 'dnsmasq', 'dig', 'curl']

let world: World
let gateway: GatewayProcess
let caFile: string

test.before(async () => {
  world = await createWorld()
  const issuer = makeCertificate({ name: 'Test authority' })
  caFile = join(world.folder, 'ca.pem')
  await writeFile(caFile, issuer.cert)
  if (!PROGRAMS.every(isInstalled)) return
  const certificate = makeCertificate({ name: 'origin', hosts: ['origin.test'], issuer })
  await startHttpsOrigin(world.server, { hosts: [ORIGIN], certificate, pages: { '/page.txt': 'the page\n' } })
  await startDnsmasq(world.server, { hosts: [RESOLVER], names: { 'origin.test': [ORIGIN] } })
  await world.client.useResolver([RESOLVER])
})
endsWithFile(() => ({ world, gateway }))

function lacks(t: ExecutionContext, proxy: string): boolean {
  const missing = [...PROGRAMS, proxy].filter(program => !isInstalled(program))
  if (missing.length > 0) skip(t, `${missing.join(', ')} not installed`)
  return missing.length > 0
}

for (const [name, proxy] of Object.entries(NO_UDP_PROXIES)) {
  test.serial(`no-udp: dig behind ${name}, over UDP and TCP`, async t => {
    if (lacks(t, name)) return
    await gateway?.stop()
    const server = await proxy.start(world)
    t.teardown(() => (t.passed ? undefined : t.log(server.log())))
    gateway = await world.gateway({ proxy: proxy.url })
    const dig = (...args: string[]) => world.client.run('dig', ['+time=3', '+tries=1', ...args])
    t.is((await dig('+short', 'origin.test')).stdout, `${ORIGIN}\n`)
    t.is((await dig('+short', '+tcp', 'origin.test')).stdout, `${ORIGIN}\n`)
    t.is((await dig('+short', 'origin.test', 'AAAA')).stdout, '')
    t.regex((await dig('missing.test')).stdout, /status: NXDOMAIN/)
  })

  test.serial(`no-udp: curl https://name behind ${name}`, async t => {
    if (lacks(t, name)) return
    const url = 'https://origin.test/page.txt'
    const { stdout, stderr } = await world.client.run('curl', ['-sS', '-m', '5', '--cacert', caFile, url])
    t.is(stdout, 'the page\n', stderr)
  })
}
