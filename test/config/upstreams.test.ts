import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { completeOptions } from '../../src/config/complete-options.ts'
import { parseFlags } from '../../src/config/flags.ts'
import { upstreamText } from '../../src/config/upstreams.ts'
import { gatewayOptions, type Loaded, loadConfig } from '../../src/config.ts'
import type { GatewayOptions } from '../../src/options.ts'
import { temporaryFolder } from '../commands/tungate.ts'

const SECRET = 'hunter2secret'

function load(args: string[], environment: Record<string, string> = {}): Loaded {
  const { flags, file } = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
  return loadConfig({ environment, flags, uid: 1000, requireProxy: true, ...(file === undefined ? {} : { file }) })
}

function loadFile(t: ExecutionContext, content: string, args: string[] = []): GatewayOptions {
  const file = join(temporaryFolder(t), 'gateway.yaml')
  writeFileSync(file, content)
  return gatewayOptions(load(['--config', file, ...args]).config)
}

const texts = ({ upstreams }: Pick<GatewayOptions, 'upstreams'>) =>
  Object.fromEntries(
    Object.entries(upstreams).map(([name, each]) => [
      name,
      each.kind === 'chain' ? each.text : `${each.policy} ${each.members.join(' ')} ${each.probeMs}`,
    ]),
  )
const OWN = { direct: 'direct://', reject: 'reject://' }

const ALL = `
proxy: any
upstreams:
  office: socks5://me:${SECRET}@proxy.example
  far: [office, "https://far.example"]
  farther:
    - far
    - socks4a://last
  any:
    group: failover
    members: [office, far, direct]
  some: {group: least-latency, members: [any, reject], probe: 1m}
`

test('config: upstreams of a file are chains and groups by name, names of chains stand for their hops', t => {
  const options = loadFile(t, ALL)
  t.is(options.proxy, 'any')
  t.deepEqual(texts(options), {
    ...OWN,
    office: 'socks5://me:***@proxy.example:1080',
    far: 'socks5://me:***@proxy.example:1080 → https://far.example:443',
    farther: 'socks5://me:***@proxy.example:1080 → https://far.example:443 → socks4a://last:1080',
    any: 'failover office far direct 10000',
    some: 'least-latency any reject 60000',
  })
  t.like(options.upstreams.far, { hops: [{ kind: 'socks5', username: 'me', password: SECRET }, { kind: 'http' }] })
  t.is(upstreamText(options), 'any (failover: office, far, direct)')
  t.deepEqual(completeOptions(options), options, 'what is complete stays as it is')
})

const PROXIES: [text: string, hops: string][] = [
  ['socks5://h', 'socks5://h:1080'],
  ['socks5://a http://b:1  https://c', 'socks5://a:1080 → http://b:1 → https://c:443'],
  ['[socks5://a, "http://b:1"]', 'socks5://a:1080 → http://b:1'],
  ['[socks5://a]', 'socks5://a:1080'],
  ['["socks5://a http://b:1", office]', 'socks5://a:1080 → http://b:1 → socks5://o:1080'],
  ['office socks5://z', 'socks5://o:1080 → socks5://z:1080'],
  ['direct://?mark=1 socks5+tls://z', 'direct://?mark=0x1 → socks5+tls://z:1080'],
  ['socks5+unix:///p socks5://b', 'socks5+unix:///p → socks5://b:1080'],
  ['socks5://u:a b,c@h', 'socks5://u:***@h:1080'],
]

for (const [text, hops] of PROXIES)
  test(`config: a proxy that is ${text} is read the same from a flag, a variable and a file`, t => {
    const upstreams = '{office: socks5://o}'
    const [flag, variable] = [
      load(['--proxy', text, '--upstreams', upstreams]),
      load([], { TUNGATE_PROXY: text, TUNGATE_UPSTREAMS: upstreams }),
    ].map(loaded => gatewayOptions(loaded.config))
    const file = loadFile(t, `proxy: ${text}\nupstreams: ${upstreams}\n`)
    for (const options of [flag!, variable!, file]) {
      t.is(options.proxy, 'proxy')
      t.deepEqual(texts(options), { proxy: hops, ...OWN, office: 'socks5://o:1080' })
    }
  })

test('config: a proxy that is a name is that upstream, and there is no other', t => {
  const { config } = load(['--proxy', 'direct'])
  t.is(config.proxy, 'direct')
  t.deepEqual(texts(config), OWN)
})

test('config: direct may leave another way', t => {
  const options = loadFile(t, 'proxy: direct\nupstreams: {direct: "direct://?interface=eth1"}\n')
  t.like(options.upstreams.direct, { hops: [{ kind: 'direct', interface: 'eth1' }] })
})

test('config: what is shown of upstreams and chains holds no password, and reads the same', t => {
  const upstreams = `{a: "socks5://u:${SECRET}@h", b: [a, "http://u:${SECRET}@i:1"], c: {group: round-robin, members: [a, b]}}`
  const { shown } = load(['--proxy', `a socks5://v:${SECRET}@k`, '--upstreams', upstreams])
  t.deepEqual(
    [shown.get('proxy'), shown.get('upstreams')],
    [
      "[a, 'socks5://v:***@k:1080']",
      "{ a: 'socks5://u:***@h:1080', b: [a, 'http://u:***@i:1'], c: { group: round-robin, members: [a, b], probe: 10s } }",
    ],
  )
  const again = load(['--proxy', shown.get('proxy')!, '--upstreams', shown.get('upstreams')!])
  t.deepEqual(again.shown, shown)
})

test('config: passwords come from files that the URLs name', t => {
  const folder = temporaryFolder(t)
  const [one, two] = ['one', 'two'].map(name => join(folder, name))
  writeFileSync(one!, 'p1\n')
  writeFileSync(two!, 'p2')
  const options = loadFile(
    t,
    `proxy: [socks5://a@h?passwordFile=${one}, "http://b@h:1?passwordFile=${two}"]\nupstreams: {x: "http://nobody@h:1"}\n`,
  )
  t.like(options.upstreams.proxy, { hops: [{ password: 'p1' }, { password: 'p2' }] })
  t.like(options.upstreams.x, { hops: [{ username: 'nobody', password: '' }] }, 'HTTP has empty ones')
  t.false(JSON.stringify(options).includes('passwordFile'))
})

/** Content of a file → what its one line must say. */

test('options: upstreams of a library user are read as those of a file', t => {
  const options = completeOptions({
    proxy: ['socks5://a', 'office'],
    upstreams: {
      office: { host: 'o', port: 1, username: 'u', password: SECRET },
      far: ['office', 'http://u:p@f:1'],
      any: { group: 'failover', members: ['office', 'far'] },
      often: { group: 'least-latency', members: ['any'], probeMs: 500 },
    },
  })
  t.is(options.proxy, 'proxy')
  t.deepEqual(texts(options), {
    ...OWN,
    proxy: 'socks5://a:1080 → socks5://u:***@o:1',
    office: 'socks5://u:***@o:1',
    far: 'socks5://u:***@o:1 → http://u:***@f:1',
    any: 'failover office far 10000',
    often: 'least-latency any 500',
  })
  t.true(Object.isFrozen(options.upstreams.office))
})
