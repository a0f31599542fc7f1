/**
 * Names behind a proxy without UDP (microsocks), whose resolver (dnsmasq) nobody can reach but through it: the clients' queries are
 * answered by what the proxy can, or by virtual addresses.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { isInstalled, type RealServer, startDante, startMicrosocks } from '../helpers/servers.ts'
import {
  createWorld,
  endsWithFile,
  type GatewayOptions,
  type GatewayProcess,
  PROXY4,
  skip,
  until,
  type World,
} from './world.ts'

const RESOLVER = '203.0.113.53'
const WEB = '203.0.113.80'
const PROXY_PORT = 1_090
const NAMES = {
  hosts: [RESOLVER],
  names: { 'www.example.org': [WEB], 'short.example.org': ['203.0.113.81'] },
  aliases: { 'alias.example.org': 'www.example.org', 'second.example.org': 'alias.example.org' },
  texts: { 'big.example.org': Array.from({ length: 20 }, (_, at) => `${at}${'x'.repeat(200)}`) },
}
const needed = ['dnsmasq', 'microsocks', 'dig', 'danted']
const lacks = needed.filter(name => !isInstalled(name))

let world: World
let gateway: GatewayProcess
let resolver: RealServer | undefined

test.before(async () => {
  if (lacks.length > 0) return
  world = await createWorld()
  await world.server.bindFile('/etc/resolv.conf', `nameserver ${RESOLVER}\n`)
  resolver = await startDnsmasq(world.server, NAMES)
  await startMicrosocks(world.server, { host: PROXY4, port: PROXY_PORT })
  await world.far.call('startHttp', [WEB], 80)
})
endsWithFile(() => ({ world, gateway }))

/** A gateway in the place of the one before. */
async function start(args: readonly string[] = [], more: GatewayOptions = {}): Promise<GatewayProcess> {
  await gateway?.stop()
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${PROXY_PORT}`, ...more, args })
  return gateway
}

async function dig(...args: string[]): Promise<string[]> {
  const at = args.some(arg => arg.startsWith('@')) ? [] : [`@${RESOLVER}`]
  const { stdout } = await world.client.run('dig', [...at, '+tries=1', '+time=6', ...args])
  return stdout.split('\n').filter(line => line !== '')
}

const short = (...args: string[]) => dig('+short', ...args)
const statusOf = async (...args: string[]) => /status: (\w+)/.exec((await dig(...args)).join('\n'))?.[1]

function names(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  test.serial(`names: ${title}`, async t => {
    if (lacks.length > 0) return skip(t, `there is no ${lacks.join(', ')}`)
    await body(t)
  })
}

names('behind a proxy without UDP, dig is answered over UDP and TCP', async t => {
  await start()
  t.deepEqual(await short('www.example.org'), [WEB])
  t.deepEqual(await short('+tcp', 'short.example.org'), ['203.0.113.81'])
  const [line] = gateway.logged('names are resolved')
  t.deepEqual([line!.resolver, line!.by], [`${RESOLVER}:53`, 'tcp'])
  t.is(gateway.logged('names are resolved').length, 1)
  t.is(await gateway.counter('udp_associations'), 0)
})

names('chains of aliases, NXDOMAIN and no data', async t => {
  t.deepEqual(await short('second.example.org'), ['alias.example.org.', 'www.example.org.', WEB])
  t.is(await statusOf('nothing.example.org'), 'NXDOMAIN')
  t.is(await statusOf('www.example.org', 'AAAA'), 'NOERROR')
  t.deepEqual(await short('www.example.org', 'AAAA'), [])
})

names('what is too long for a datagram comes by TCP', async t => {
  t.is((await short('big.example.org', 'TXT')).length, 20)
  t.true((await dig('+ignore', 'big.example.org', 'TXT')).some(line => /flags:[^;]* tc/.test(line)))
})

names('malformed queries are FORMERR, and the next one is answered', async t => {
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  const before = await gateway.counter('dns_malformed')
  for (const bytes of [12, 13, 40, 500]) await world.near.call('sendUdp', id, bytes, 53, RESOLVER)
  await until(async () => (await gateway.counter('dns_malformed')) === before + 4, 'four of them')
  await world.near.call('closeUdp', id)
  t.deepEqual(await short('www.example.org'), [WEB])
})

names('answers come from the cache, and grow old in it', async t => {
  const ttlOf = async () => Number((await dig('+noall', '+answer', 'short.example.org'))[0]!.split(/\s+/)[1])
  const asked = await gateway.counter('dns_upstream_queries')
  const first = await ttlOf()
  await until(async () => (await ttlOf()) < first, 'a smaller TTL')
  t.is(await gateway.counter('dns_upstream_queries'), asked)
})

names('while the resolver is away stale answers are given', async t => {
  await resolver!.close()
  resolver = await startDnsmasq(world.server, { ...NAMES, ttl: 1 })
  await start()
  t.deepEqual(await short('www.example.org'), [WEB])
  await resolver.close()
  const stale = async () => (await gateway.counter('dns_stale')) > 0
  await until(
    async () => {
      t.deepEqual(await short('www.example.org'), [WEB])
      return stale()
    },
    'a stale answer',
    20_000,
  )
  t.is(await statusOf('alias.example.org'), 'SERVFAIL', 'what was never known')
  resolver = await startDnsmasq(world.server, NAMES)
})

names('a proxy with UDP is asked by datagrams, one association for all', async t => {
  await startDante(world.server, { port: 1_091, internal: [PROXY4], external: ['lo'] })
  await start([], { proxy: `socks5://${PROXY4}:1091` })
  t.deepEqual(await short('www.example.org'), [WEB])
  t.deepEqual(await short('short.example.org'), ['203.0.113.81'])
  t.is(gateway.logged('names are resolved')[0]!.by, 'udp')
})

names('in map mode a name has a virtual address, and the proxy is given the name', async t => {
  await start(['--dns-mode', 'map'])
  const [address] = await short('www.example.org')
  t.regex(address!, /^198\.18\./)
  t.deepEqual(await short('www.example.org', 'AAAA'), [
    `fd74:756e::c612:${Number(address!.split('.')[3]).toString(16)}`,
  ])
  t.deepEqual(await short('-x', address!), ['www.example.org.'])
  const asked = ['--silent', '--max-time', '8', '--resolve', `www.example.org:80:${address}`]
  const { stdout, code } = await world.client.run('curl', [
    ...asked,
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    'http://www.example.org/',
  ])
  t.deepEqual([code, stdout], [0, '200'])
  const refused = await world.client.run('curl', ['--silent', '--max-time', '8', `http://198.18.77.77/`])
  t.not(refused.code, 0, 'an address that stands for nothing')
})

names('in map mode datagrams go to the name, and what answers there comes from the virtual address', async t => {
  await world.far.call('startUdpEchoes', [WEB], 7)
  await startDante(world.server, { port: 1_092, internal: [PROXY4], external: ['lo'] })
  await start(['--dns-mode', 'map'], { proxy: `socks5://${PROXY4}:1092` })
  const queries = await gateway.counter('dns_upstream_queries')
  for (const [type, any] of [
    ['A', '0.0.0.0'],
    ['AAAA', '::'],
  ] as const) {
    const [address] = await short('www.example.org', type)
    const { id } = await world.near.call('openUdp', any)
    const digests = [
      await world.near.call('sendUdp', id, 100, 7, address!),
      await world.near.call('sendUdp', id, 1_200, 7, address!),
    ]
    await until(async () => (await world.near.call('viewUdp', id)).got.length === 2, 'both echoes')
    const { got } = await world.near.call('viewUdp', id)
    t.deepEqual(
      got.map(({ from, port, sha256 }) => [from, port, sha256]),
      digests.map(sha256 => [address, 7, sha256]),
    )
    t.is(await gateway.counter('dns_names_live'), 1)
    await world.near.call('closeUdp', id)
  }
  t.is(await gateway.counter('dns_upstream_queries'), queries, 'it is the proxy who looks the name up')
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  await world.near.call('connectUdp', id, '198.18.77.77', 7)
  await world.near.call('sendUdp', id, 10)
  await until(async () => (await world.near.call('viewUdp', id)).error === 'ECONNREFUSED', 'port unreachable')
  await world.near.call('closeUdp', id)
})

names('in map mode other types are forwarded, and service records have no hints', async t => {
  t.is((await short('big.example.org', 'TXT')).length, 20)
  t.is(await statusOf('www.example.org', 'HTTPS'), 'NOERROR')
  t.is(await statusOf('printer.local'), 'NXDOMAIN')
})

names('virtual addresses mean the same after a restart, by the file', async t => {
  const file = join(world.folder, 'names')
  await start(['--dns-mode', 'map', '--dns-map-file', file])
  await short('one.example.org')
  const [address] = await short('www.example.org')
  await start(['--dns-mode', 'map', '--dns-map-file', file])
  t.deepEqual(await short('-x', address!), ['www.example.org.'])
  t.deepEqual(await short('www.example.org'), [address!])
  const { code } = await world.client.run('curl', [
    '--silent',
    '--max-time',
    '8',
    '-o',
    '/dev/null',
    `http://${address}/`,
  ])
  t.is(code, 0)
})

names('several workers have one map', async t => {
  await start(['--dns-mode', 'map'], { workers: 3 })
  const many = await Promise.all(Array.from({ length: 12 }, () => short('www.example.org')))
  t.is(new Set(many.map(([address]) => address)).size, 1)
  const [address] = many[0]!
  const codes = await Promise.all(
    Array.from({ length: 12 }, () =>
      world.client.run('curl', ['--silent', '--max-time', '8', '-o', '/dev/null', `http://${address}/`]),
    ),
  )
  t.true(codes.every(({ code }) => code === 0))
  t.is(await gateway.counter('dns_names'), 1)
})

names('a suffix goes to its own resolver beside the tun, and forward leaves queries alone', async t => {
  await world.server.ip(['address add 10.8.0.3/24 dev veth0'])
  const inner = await startDnsmasq(world.server, { hosts: ['10.8.0.3'], names: { 'db.cluster.local': ['10.9.9.9'] } })
  t.teardown(() => inner.close())
  const file = join(world.folder, 'split.yaml')
  await writeFile(file, `dns:\n  split: { cluster.local: 10.8.0.3 }\n`)
  await start(['--config', file])
  t.deepEqual(await short('db.cluster.local'), ['10.9.9.9'])
  t.deepEqual(await short('www.example.org'), [WEB])
  await start(['--dns-mode', 'forward'])
  t.deepEqual(await short('+tcp', 'www.example.org'), [WEB], 'a TCP flow as any other')
  t.is((await gateway.status()).counters.dns_queries, undefined)
})
