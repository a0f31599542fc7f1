import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { completeOptions } from '../../src/config/complete-options.ts'
import { parseFlags } from '../../src/config/flags.ts'
import { parseResolver, parseSuffix, resolverText } from '../../src/config/resolver-address.ts'
import { gatewayOptions, type Loaded, loadConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import type { GatewayInput, ResolverAddress } from '../../src/options.ts'
import { parseRules } from '../../src/rules/parse.ts'
import { refusal, temporaryFolder } from '../commands/tungate.ts'

function load(args: string[], environment: Record<string, string> = {}): Loaded {
  const { flags, file } = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
  const proxy = { TUNGATE_PROXY: 'direct' }
  const environmentAll = { ...proxy, ...environment }
  return loadConfig({
    environment: environmentAll,
    flags,
    uid: 1000,
    requireProxy: true,
    ...(file === undefined ? {} : { file }),
  })
}

function fileWith(t: ExecutionContext, content: string): string {
  const file = join(temporaryFolder(t), 'gateway.yaml')
  writeFileSync(file, content)
  return file
}

const at = (protocol: ResolverAddress['protocol'], host: string, port: number, path?: string) => ({
  protocol,
  host,
  port,
  ...(path === undefined ? {} : { path }),
})

const RESOLVERS: [text: string, resolver: ResolverAddress, told: string][] = [
  ['192.0.2.53', at('udp', '192.0.2.53', 53), 'udp://192.0.2.53'],
  ['2001:db8::53', at('udp', '2001:db8::53', 53), 'udp://[2001:db8::53]'],
  ['[2001:db8::53]', at('udp', '2001:db8::53', 53), 'udp://[2001:db8::53]'],
  ['udp://192.0.2.53:5353/', at('udp', '192.0.2.53', 5353), 'udp://192.0.2.53:5353'],
  ['tcp://dns.example', at('tcp', 'dns.example', 53), 'tcp://dns.example'],
  ['tls://dns.example', at('tls', 'dns.example', 853), 'tls://dns.example'],
  ['https://[::1]', at('https', '::1', 443, '/dns-query'), 'https://[::1]/dns-query'],
  ['https://h:8443/a/b?c=d#', at('https', 'h', 8443, '/a/b?c=d#'), 'https://h:8443/a/b?c=d#'],
]

test('config: a resolver is an address or a URL, and is told so that it reads the same', t => {
  for (const [text, resolver, told] of RESOLVERS) {
    t.deepEqual(parseResolver(text), resolver, text)
    t.is(resolverText(resolver), told)
    t.deepEqual(parseResolver(told), resolver)
  }
})

test('config: a suffix has dots around it or not', t => {
  for (const [text, suffix] of [
    ['.Cluster.Local.', 'cluster.local'],
    ['local', 'local'],
    ['.', ''],
    ['_tcp.10.in-addr.arpa', '_tcp.10.in-addr.arpa'],
  ] as const)
    t.is(parseSuffix(text), suffix)
})

const NAMES = `proxy: direct
dns:
  mode: map
  resolver:
    - tls://dns.example
    - 192.0.2.53
  split:
    .cluster.local: 10.96.0.10
    corp: tcp://[fd00::53]
`

test('config: resolvers and suffixes of a file, shown as they can be given again', t => {
  const { config, shown } = load(['--config', fileWith(t, NAMES)])
  const { dns } = gatewayOptions(config)
  t.like(dns, {
    mode: 'map',
    resolver: [at('tls', 'dns.example', 853), at('udp', '192.0.2.53', 53)],
    split: { 'cluster.local': at('udp', '10.96.0.10', 53), corp: at('tcp', 'fd00::53', 53) },
  })
  t.is(shown.get('dns.resolver'), "['tls://dns.example', 'udp://192.0.2.53']")
  t.is(shown.get('dns.split'), "{ cluster.local: 'udp://10.96.0.10', corp: 'tcp://[fd00::53]' }")
  const again = load([`--dns-resolver=${shown.get('dns.resolver')}`, `--dns-split=${shown.get('dns.split')}`])
  t.deepEqual([again.config.dns.resolver, again.config.dns.split], [dns.resolver, dns.split])
})

test('config: resolvers of a variable are a text, also one that a container platform might have made', t => {
  const { config } = load([], { TUNGATE_DNS_RESOLVER: 'tcp://192.0.2.1 https://192.0.2.2' })
  t.deepEqual(config.dns.resolver, [at('tcp', '192.0.2.1', 53), at('https', '192.0.2.2', 443, '/dns-query')])
  t.deepEqual(load(['--dns-resolver=']).config.dns.resolver, [])
})

const RULES = `proxy: direct
rules:
  - to: office
    port: [443, 8000-8999]
  - { to: drop, domain: example.org, sniff: true }
upstreams: {office: socks5://h}
`

test('config: rules of a file keep their lines for those who read them', t => {
  const file = fileWith(t, RULES)
  const { config, shown } = load(['--config', file])
  const { written, place, folder } = gatewayOptions(config).rules
  t.is(place, file)
  t.is(join(folder, 'gateway.yaml'), file)
  const options = { file: place, folder, upstreams: Object.keys(config.upstreams) }
  const rules = parseRules(written, options)
  t.like(rules, [
    { target: { name: 'office' }, port: [{ first: 443 }, { last: 8999 }] },
    { target: { kind: 'drop' }, sniff: true },
  ] as never)
  t.throws(() => parseRules(written, { ...options, upstreams: [] }), {
    message: `${file}:3: rule 1: to: found "office", allowed direct, reject, drop`,
  })
  t.is(
    shown.get('rules'),
    "[ { to: office, port: ['443', '8000-8999'] }, { to: drop, domain: example.org, sniff: 'true' } ]",
  )
  const again = load(['--rules', shown.get('rules')!]).config.rules
  t.is(again.place, '--rules')
  t.is(again.folder, process.cwd())
  t.deepEqual(parseRules(again.written, options), rules)
})

test('config: rules may stand in a file of their own', t => {
  const { config } = load(['--rules-file', 'x/rules.yaml'])
  t.deepEqual(config.rules, {
    written: [],
    place: '',
    folder: process.cwd(),
    file: join(process.cwd(), 'x/rules.yaml'),
  })
})

const FILES: [title: string, content: string, expected: RegExp][] = [
  [
    'a resolver that is none',
    'dns:\n  resolver:\n    - 192.0.2.53\n    - dns.example\n',
    /:5: dns\.resolver 2: found what is no resolver, allowed an address, udp:\/\//,
  ],
  [
    'an unknown protocol of a resolver',
    'dns: {resolver: ["htps://h"]}\n',
    /:2: dns\.resolver 1: found htps:\/\/ \(did you mean https\?\)/,
  ],
  ['a name for datagrams', 'dns: {resolver: ["udp://dns.example"]}\n', /found a name behind udp:\/\//],
  ['a path behind tls', 'dns: {resolver: ["tls://h/x"]}\n', /found a path, allowed tls:\/\/host/],
  ['a user of a resolver', 'dns: {resolver: ["https://u:p@h/"]}\n', /found what is no resolver/],
  ['port 0 of a resolver', 'dns: {resolver: ["tcp://h:0"]}\n', /found port 0/],
  ['17 resolvers', `dns: {resolver: [${'192.0.2.1, '.repeat(17)}]}\n`, /found 17 of them, allowed at most 16/],
  ['a mapping of resolvers', 'dns: {resolver: {a: b}}\n', /dns\.resolver: found a mapping/],
  ['a list in resolvers', 'dns: {resolver: [[a]]}\n', /dns\.resolver 1: found a list, allowed a text/],
  [
    'a resolver that is asked by name beside the tun',
    'dns: {split: {a: tcp://dns.example}}\n',
    /:2: dns\.split\.a: found tcp:\/\/ and a name, allowed an address/,
  ],
  ['TLS beside the tun', 'dns: {split: {a: tls://192.0.2.1}}\n', /dns\.split\.a: found tls:\/\/, allowed/],
  [
    'a suffix that is none',
    'dns:\n  split:\n    "a b": 192.0.2.1\n',
    /:4: dns\.split\."a b": found no suffix of names/,
  ],
  [
    'a suffix twice',
    'dns:\n  split:\n    a: 192.0.2.1\n    .A: 192.0.2.2\n',
    /:5: dns\.split\.\.A: found the suffix twice, allowed each once$/,
  ],
  ['split as a list', 'dns: {split: [a]}\n', /dns\.split: found a list, allowed a mapping of suffixes/],
  ['rules as a mapping', 'rules: {to: direct}\n', /:2: rules: found a mapping, allowed a list of rules/],
  ['a rule that is a text', 'rules:\n  - to: direct\n  - direct\n', /:4: rules 2: found "direct", allowed a mapping/],
  [
    'a mapping in a rule',
    'rules:\n  - to: direct\n    port: {a: b}\n',
    /:4: rules 1 port: found a mapping, allowed a text$/,
  ],
  ['nothing in a rule', 'rules:\n  - to:\n', /:3: rules 1 to: found null, allowed a text$/],
  ['a key of a rule twice', 'rules:\n  - to: direct\n    to: reject\n', /:4: found to twice \(first on line 3\)/],
  [
    'rules twice',
    'rules: [{to: direct}]\nrulesFile: /x\n',
    /:3: rulesFile: found a file beside rules, allowed one of the two$/,
  ],
]

for (const [title, content, expected] of FILES)
  test(`config: a file with ${title} is refused with its line`, t => {
    const message = refusal(t, ['--config', fileWith(t, `proxy: direct\n${content}`)])
    t.regex(message, expected)
    t.notRegex(message, /[\n\r]/)
  })

test('options: names and rules of a library user', t => {
  const options = completeOptions({
    proxy: 'direct',
    dns: {
      mode: 'forward',
      resolver: ['https://192.0.2.1', at('tls', 'h', 853)],
      split: { 'Corp.': '192.0.2.2', '': '192.0.2.3' },
    },
    rules: [
      { to: 'reject', port: 25, sniff: false, name: undefined },
      { to: 'direct', domain: ['a', 'b'] },
    ],
  })
  t.like(options.dns, {
    mode: 'forward',
    cacheEntries: 10_000,
    resolver: [at('https', '192.0.2.1', 443, '/dns-query'), at('tls', 'h', 853)],
    split: { corp: at('udp', '192.0.2.2', 53), '': at('udp', '192.0.2.3', 53) },
  })
  const rules = options.rules.written.map(({ keys }) =>
    keys.map(({ key, values }) => `${key} ${values.map(({ text }) => text)}`),
  )
  t.deepEqual(rules, [
    ['to reject', 'port 25', 'sniff false'],
    ['to direct', 'domain a,b'],
  ])
  t.deepEqual(completeOptions(options), options, 'what is complete stays as it is')
  t.is(completeOptions({ proxy: 'direct', rules: '/x/rules.ts' }).rules.file, '/x/rules.ts')
})

const INPUTS: [title: string, input: object, expected: RegExp][] = [
  ['a resolver that is none', { dns: { resolver: ['x y'] } }, /^dns\.resolver: found what is no resolver/],
  ['resolvers as a text', { dns: { resolver: '192.0.2.1' } }, /^dns\.resolver: found no list/],
  ['a resolver that is a number', { dns: { resolver: [5] } }, /^dns\.resolver: found what is no resolver/],
  ['a wrong suffix', { dns: { split: { 'a b': '192.0.2.1' } } }, /^dns\.split: found no suffix of names/],
  ['a wrong resolver of a suffix', { dns: { split: { a: 'https://192.0.2.1' } } }, /^dns\.split\.a: found https:\/\//],
  ['another mode of names', { dns: { mode: 'fake' } }, /^dns\.mode: found fake, allowed: auto, map, forward$/],
  ['an unknown field of dns', { dns: { cache: 5 } }, /^dns\.cache: found 5/],
  ['another way of datagrams', { udp: { mode: 'x' } }, /^udp\.mode: found x/],
  ['rules as a number', { rules: 5 }, /^rules: found no list/],
  ['a rule that is a text', { rules: ['direct'] }, /^rules: rule 1: found no object/],
  ['an object in a rule', { rules: [{ to: {} }] }, /^rules: rule 1: to: found no text/],
]

for (const [title, input, expected] of INPUTS)
  test(`options: ${title} is a ConfigError that names the place`, t => {
    const error = t.throws(() => completeOptions({ proxy: 'direct', ...input } as GatewayInput), {
      instanceOf: ConfigError,
    })
    t.regex(error.message, expected)
  })
