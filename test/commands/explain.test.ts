/** What `tungate explain` says, in twenty cases. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { explainFlow } from '../../src/commands/explain.ts'
import { type Config, loadConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import { temporaryFolder, tungate } from './tungate.ts'

const CONFIG = `
proxy: socks5://me:hunter2@10.9.0.1:1080
upstreams:
  office: http://proxy.office.example:3128
  lab: socks5://10.9.0.2:1080
  spare: { group: failover, members: [lab, office] }
rules:
  - { to: direct, name: at home, destination: [10.0.0.0/8, fd00::/8] }
  - { to: reject, name: ads, domainSuffixFile: ads.txt, sniff: true }
  - { to: drop, source: 10.0.0.66 }
  - { to: office, name: the office, domainSuffix: office.example, source: 10.0.0.0/24 }
  - { to: spare, protocol: tcp, port: [22, 8000-8999] }
  - { to: reject, name: no QUIC, protocol: udp, port: 443 }
  - { to: lab, destination: 2001:db8::/32 }
`
const ADS = 'ads.example\ntracker.example\n'

function configOf(t: ExecutionContext, more = ''): Config {
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'ads.txt'), ADS)
  const file = join(folder, 'gateway.yaml')
  writeFileSync(file, `${CONFIG}${more}`)
  return loadConfig({ environment: {}, flags: [], uid: 0, requireProxy: true, file }).config
}

test('explain: a name that would change nothing is not looked for, though a rule asks for it', async t => {
  const config = configOf(t, '  - { to: reject }\n')
  const text = await explainFlow(config, {
    words: ['tcp', '192.0.2.1:443'],
    values: new Map([['--domain', 'tracker.example']]),
    json: false,
  })
  t.regex(text, /^the name tracker\.example is not looked for in the first bytes: the flow goes to the same place/m)
  t.notRegex(text, /no rule asks/)
})

const MAP = 'dns:\n  mode: map\n'

/** The words, then flags; the last line but those of upstreams, and what else must be said. */
const CASES: [words: string, mode: 'map' | 'auto', outcome: string, also?: RegExp][] = [
  [
    'tcp 10.1.2.3:80',
    'auto',
    'goes to direct: rule 1 (at home)',
    /^rule 1 \(at home\) takes it: destination 10\.1\.2\.3/m,
  ],
  ['udp [fd00::1]:5000', 'auto', 'goes to direct: rule 1 (at home)'],
  [
    'tcp x.ads.example:443',
    'map',
    'goes to reject: rule 2 (ads)',
    /domain x\.ads\.example: \*?\.?ads\.example of ads\.txt \(2 entries\)/,
  ],
  [
    'tcp x.ads.example:443',
    'auto',
    'goes to reject: rule 2 (ads)',
    /^the client is answered before the dial, and its first/m,
  ],
  ['tcp 192.0.2.1:443 --domain tracker.example', 'auto', 'goes to reject: rule 2 (ads)'],
  [
    'tcp 192.0.2.1:443',
    'auto',
    'goes to proxy: no rule takes it: the default, unless the first bytes name another domain',
  ],
  ['udp x.ads.example:443', 'map', 'goes to reject: rule 2 (ads)'],
  [
    'udp x.ads.example:443',
    'auto',
    'goes to reject: rule 6 (no QUIC)',
    /^the name x\.ads\.example is not known to the gateway/m,
  ],
  ['tcp 192.0.2.1:443 --source 10.0.0.66', 'auto', 'goes to drop: rule 3, unless the first bytes name another domain'],
  [
    'tcp www.office.example:443 --source 10.0.0.2',
    'map',
    'goes to office: rule 4 (the office)',
    /^office: http:\/\/proxy\.office\.example:3128$/m,
  ],
  ['tcp www.office.example:443 --source 10.0.0.2', 'auto', 'goes to office: rule 4 (the office)'],
  [
    'tcp www.office.example:443 --source 10.0.1.2',
    'map',
    'goes to proxy: no rule takes it: the default',
    /^proxy: socks5:\/\/\S*10\.9\.0\.1:1080$/m,
  ],
  [
    'tcp git.example:22',
    'map',
    'goes to spare: rule 5',
    /^spare: failover of lab, office\nlab: socks5:\/\/10\.9\.0\.2:1080\noffice: /m,
  ],
  ['tcp 192.0.2.1:8999', 'auto', 'goes to spare: rule 5, unless the first bytes name another domain'],
  ['udp 192.0.2.1:8999', 'auto', 'goes to proxy: no rule takes it: the default'],
  ['udp 192.0.2.1:443', 'auto', 'goes to reject: rule 6 (no QUIC)'],
  ['udp [2001:db8::9]:54', 'auto', 'goes to lab: rule 7', /^rule 7 takes it: destination 2001:db8::9/m],
  [
    'tcp example.org:443 --source 10.0.0.2',
    'auto',
    'goes to proxy: no rule takes it: the default',
    /^which address example\.org has is not known here/m,
  ],
  [
    'tcp example.org:443 --source 10.0.0.2',
    'map',
    'goes to proxy: no rule takes it: the default',
    /^rule 1 \(at home\) does not match: destination known by name only/m,
  ],
  [
    'tcp Bücher.example:80',
    'map',
    'goes to proxy: no rule takes it: the default',
    /^tcp 198\.18\.0\.1 to xn--bcher-kva\.example:80$/m,
  ],
]

function request(line: string, json = false) {
  const [words = '', ...flags] = line.split(/ (?=--)/)
  const values = new Map(flags.map(flag => flag.split(' ') as [string, string]))
  return { words: words.split(' '), values, json }
}

for (const [line, mode, outcome, also] of CASES)
  test(`explain ${line}, dns.mode ${mode}: ${outcome}`, async t => {
    const text = await explainFlow(configOf(t, mode === 'map' ? MAP : ''), request(line))
    t.true(text.split('\n').includes(outcome), text)
    if (also !== undefined) t.regex(text, also)
    t.notRegex(text, /hunter2/)
  })

const ITSELF = 'goes to no upstream: the gateway itself answers questions for names'
const QUIC = 'udp: { quic: reject }\n'
for (const [line, more, outcome] of [
  ['udp [2001:db8::9]:53', '', `${ITSELF} (dns.mode auto)`],
  ['tcp 10.1.2.3:53', MAP, `${ITSELF} (dns.mode map)`],
  ['tcp 10.1.2.3:53', 'dns: { mode: forward }\n', 'goes to direct: rule 1 (at home)'],
  ['udp 10.1.2.3:443', QUIC, 'goes to reject: udp.quic says so'],
  ['tcp 10.1.2.3:443', QUIC, 'goes to direct: rule 1 (at home)'],
] as const)
  test(`explain ${line}, ${more || 'by default'}: what the gateway does before any rule`, async t => {
    const text = await explainFlow(configOf(t, more), request(line))
    t.true(text.split('\n').includes(outcome), text)
  })

test('explain --json: the same as a document', async t => {
  const found = JSON.parse(
    await explainFlow(configOf(t, MAP), request('tcp www.office.example:443 --source 10.0.0.2', true)),
  )
  t.like(found, {
    protocol: 'tcp',
    source: '10.0.0.2',
    destination: '',
    port: 443,
    domain: 'www.office.example',
    rule: 4,
    name: 'the office',
    target: 'office',
    upstream: 'http://proxy.office.example:3128',
    needsLook: false,
    notes: [],
  })
  t.deepEqual(
    found.steps.map(({ number, result }: { number: number; result: string }) => [number, result]),
    [
      [1, 'differs'],
      [2, 'differs'],
      [3, 'differs'],
      [4, 'match'],
    ],
  )
})

const WRONG: [line: string, message: RegExp][] = [
  ['', /^explain: found "", allowed tcp or udp/],
  ['icmp example.org:1', /^explain: found "icmp", allowed tcp or udp/],
  ['tcp', /^explain: found no destination/],
  ['tcp example.org', /^explain: found "example\.org", allowed HOST:PORT/],
  ['tcp example.org:0', /allowed HOST:PORT/],
  ['tcp example.org:65536', /allowed HOST:PORT/],
  ['tcp 2001:db8::1:443', /of IPv6 \[ADDRESS\]:PORT/],
  ['tcp 10.0.0.300:443', /^explain: found "10\.0\.0\.300", allowed an address or a domain name/],
  ['tcp example.org:443 more', /^explain: found "more" too many/],
  ['tcp example.org:443 --source nobody', /^--source: found "nobody", allowed an address/],
  ['tcp 192.0.2.1:443 --domain 192.0.2.1', /^--domain: found "192\.0\.2\.1", allowed a domain name/],
]

for (const [line, message] of WRONG)
  test(`explain: "${line}" is refused in one line`, async t => {
    await t.throwsAsync(explainFlow(configOf(t), request(line)), { instanceOf: ConfigError, message })
  })

test('explain: a rules file, and one that is wrong by file and line', async t => {
  const file = join(temporaryFolder(t), 'rules.yaml')
  writeFileSync(file, '- to: direct\n  port: 25\n')
  const args = ['explain', 'tcp', 'mail.example:25', '--proxy=socks5://10.9.0.1', '--rules-file', file]
  const right = await tungate(args)
  t.is(right.stderr, '')
  t.regex(right.stdout, /\ngoes to direct: rule 1\n$/)
  writeFileSync(file, '- to: direct\n  prt: 25\n')
  const wrong = await tungate(args)
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /^tungate: .*rules\.yaml:2: rule 1: prt: unknown key \(did you mean port\?\)\n$/)
})

test('config check: rules that are wrong are told, and rules that never hold warned of', async t => {
  const file = join(temporaryFolder(t), 'rules.yaml')
  const check = () => tungate(['config', 'check', '--proxy=socks5://10.9.0.1', '--rules-file', file])
  writeFileSync(file, '- { to: direct, domain: a.example }\n')
  const deaf = await check()
  t.is(deaf.code, 0)
  t.is(deaf.stderr, 'tungate: rule 1: no flow has a name to match, for that takes sniff: true, or dns.mode map\n')
  writeFileSync(file, '- { to: driect }\n')
  const wrong = await check()
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /rules\.yaml:1: rule 1: to: found "driect" \(did you mean direct\?\)/)
})

test('explain: a script that gives no verdict is not what says where', async t => {
  const file = join(temporaryFolder(t), 'rules.mjs')
  writeFileSync(file, "export default defineRules(() => 'nowhere')\n")
  const ended = await tungate(['explain', 'tcp', '192.0.2.1:80', '--proxy', 'socks5://192.0.2.9', '--rules-file', file])
  t.regex(
    ended.stdout,
    /wrong verdict: found "nowhere".*\ngoes to proxy: the default, for the script gave no verdict\n/,
  )
})

test('explain: a script says where, and is told no name that the gateway does not know', async t => {
  const file = join(temporaryFolder(t), 'rules.mjs')
  writeFileSync(file, "export default defineRules(flow => (flow.domain === 'a.example' ? 'direct' : 'reject'))\n")
  const args = ['explain', 'tcp', 'a.example:25', '--proxy=socks5://10.9.0.1', '--rules-file', file]
  const known = await tungate([...args, '--dns-mode=map'])
  t.regex(known.stdout, /\ngoes to direct: the script \S+rules\.mjs says so\n$/)
  const unknown = await tungate(args)
  t.regex(unknown.stdout, /^the name a\.example is not known to a script, .*\ngoes to reject: the script/m)
})
