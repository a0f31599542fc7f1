/** What the tables of upstreams stand on: these servers do their work, and refuse a wrong password, with curl and dig as clients. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeCertificate } from '../certificates.ts'
import { connectNamespaces, createNamespace } from '../namespaces.ts'
import { isInstalled, type RealServer, startNginx } from '../servers.ts'
import { startDnsmasq } from './dnsmasq.ts'
import { startSquid } from './squid.ts'
import { startSsh } from './ssh.ts'
import { startStunnel } from './stunnel.ts'
import { startTinyproxy } from './tinyproxy.ts'

const HOST = '10.8.0.2'
const user = { username: 'me', password: 's3cret' }

/** A client and a server namespace with nginx in it, and a way for the first to ask it through a proxy. */
async function pair(t: ExecutionContext, programs: readonly string[]) {
  const missing = ['nginx', ...programs].filter(program => !isInstalled(program))
  if (missing.length > 0) {
    t.log(`skipped: ${missing.join(', ')} not installed`)
    t.pass()
    return undefined
  }
  const client = await createNamespace()
  t.teardown(() => client.close())
  const server = await createNamespace({ within: client })
  t.teardown(() => server.close())
  await connectNamespaces(client, server, { addresses: { a: ['10.8.0.1/24'], b: [`${HOST}/24`] } })
  const folder = await mkdtemp(join(tmpdir(), 'served-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'hello'), 'hello from nginx\n')
  const web = await startNginx(server, { hosts: [HOST], port: 8080, root: folder })
  t.teardown(() => web.close())
  const keep = (one: RealServer) => {
    t.teardown(() => one.close())
    return one
  }
  const get = (proxy: string, ...args: string[]) =>
    client.run('curl', ['-sS', '-m', '5', '-p', '-x', proxy, '--noproxy', '', ...args, `http://${HOST}:8080/hello`])
  return { client, server, folder, keep, get }
}

for (const scheme of ['basic', 'digest'] as const)
  test(`servers: squid with ${scheme}`, async t => {
    const ends = await pair(t, ['squid'])
    if (ends === undefined) return
    const squid = ends.keep(
      await startSquid(ends.server, { host: HOST, port: 3128, authentication: { scheme, ...user } }),
    )
    const ask = (password: string) => ends.get(`http://me:${password}@${HOST}:3128`, `--proxy-${scheme}`)
    t.is((await ask('s3cret')).stdout, 'hello from nginx\n', squid.log())
    t.regex((await ask('wrong')).stderr, /407/)
  })

test('servers: tinyproxy, and stunnel in front of it, which wants a certificate of its own authority', async t => {
  const ends = await pair(t, ['tinyproxy', 'stunnel'])
  if (ends === undefined) return
  const { server, folder, keep, get } = ends
  const issuer = makeCertificate({ name: 'Test authority' })
  const leaf = makeCertificate({ name: 'proxy', hosts: [HOST], issuer })
  const own = makeCertificate({ name: 'client', issuer })
  const [ca, mine] = [join(folder, 'ca.pem'), join(folder, 'client.pem')]
  await writeFile(ca, issuer.cert)
  await writeFile(mine, own.cert + own.key)
  keep(await startTinyproxy(server, { host: HOST, port: 8888, credentials: user }))
  const tls = { host: HOST, to: 8888, cert: leaf.cert, key: leaf.key }
  keep(await startStunnel(server, { ...tls, port: 8443 }))
  const strict = keep(await startStunnel(server, { ...tls, port: 8444, clientCa: issuer.cert }))
  t.is((await get(`http://me:s3cret@${HOST}:8888`)).stdout, 'hello from nginx\n')
  t.regex((await get(`http://me:wrong@${HOST}:8888`)).stderr, /40[17]/)
  t.is((await get(`https://me:s3cret@${HOST}:8443`, '--proxy-cacert', ca)).stdout, 'hello from nginx\n')
  t.is((await get(`https://me:s3cret@${HOST}:8443`)).code, 60, 'an authority that nobody knows')
  const shown = ['--proxy-cacert', ca, '--proxy-cert', mine]
  t.is((await get(`https://me:s3cret@${HOST}:8444`, ...shown)).stdout, 'hello from nginx\n', strict.log())
  t.not((await get(`https://me:s3cret@${HOST}:8444`, '--proxy-cacert', ca)).code, 0)
})

test('servers: ssh -D', async t => {
  const ends = await pair(t, ['ssh', 'dropbear'])
  if (ends === undefined) return
  const ssh = ends.keep(await startSsh(ends.server, { host: HOST, port: 1080, serverPort: 2222 }))
  t.is((await ends.get(`socks5://${HOST}:1080`)).stdout, 'hello from nginx\n', ssh.log())
})

test('servers: dnsmasq knows its names alone, over UDP and TCP', async t => {
  const ends = await pair(t, ['dnsmasq', 'dig'])
  if (ends === undefined) return
  ends.keep(await startDnsmasq(ends.server, { hosts: [HOST], names: { 'a.test': ['192.0.2.1', '2001:db8::1'] } }))
  const dig = (...args: string[]) => ends.client.run('dig', ['+noall', '+answer', '+comments', `@${HOST}`, ...args])
  t.regex((await dig('a.test', 'A')).stdout, /\s192\.0\.2\.1$/m)
  t.regex((await dig('+tcp', 'a.test', 'AAAA')).stdout, /\s2001:db8::1$/m)
  t.regex((await dig('b.test', 'A')).stdout, /NXDOMAIN/)
})
