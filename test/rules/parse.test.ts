import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { rulesFromInput } from '../../src/config/list-input.ts'
import { ConfigError } from '../../src/errors.ts'
import type { RuleInput } from '../../src/options.ts'
import { compileRules } from '../../src/rules/compile.ts'
import { parseDomainList } from '../../src/rules/list-file.ts'
import { match, NO_RULE } from '../../src/rules/matcher.ts'
import { parseRules } from '../../src/rules/parse.ts'
import { readRules } from '../../src/rules/raw-rule.ts'
import { compiled, flow, options } from './rig.ts'

/** A folder with these files, gone after the test. */
function folderWith(t: ExecutionContext, files: Record<string, string | Buffer>): string {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-rules-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

function refusal(t: ExecutionContext, text: string, folder = '/'): string {
  const error = t.throws(() => compiled(text, folder), { instanceOf: ConfigError })!
  t.is(error.code, 'CONFIG_FILE')
  t.notRegex(error.message, /[\n\r]/)
  return error.message
}

test('rules: every key, as a value and as a list', t => {
  const folder = folderWith(t, { nets: '192.0.2.0/24\n', names: 'a.example\n.b.example\n', ads: 'c.example\n' })
  const text = `
- to: office
  name: the office
  protocol: [tcp, udp]
  source: [10.0.0.0/24, fd00::1]
  destination: 198.51.100.7
  destinationFile: nets
  port: [443, 8000-8999]
  domain: [Example.ORG., bücher.example]
  domainSuffix: d.example
  domainFile: [names]
  domainSuffixFile: ads
  sniff: true
`
  const [rule] = parseRules(readRules(text, 'rules.yaml'), options(folder))
  t.like(rule, { number: 1, name: 'the office', sniff: true, target: { kind: 'upstream', name: 'office' } })
  t.deepEqual(rule!.port, [
    { first: 443, last: 443 },
    { first: 8000, last: 8999 },
  ])
  t.deepEqual(
    rule!.source!.map(cidr => `${cidr.address.join('.')}/${cidr.prefix}`),
    ['10.0.0.0/24', '253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1/128'],
  )
  t.is(rule!.destination!.length, 2)
  t.deepEqual(rule!.domain, [
    { name: 'example.org', below: false },
    { name: 'xn--bcher-kva.example', below: false },
    { name: 'd.example', below: true },
    { name: 'a.example', below: false },
    { name: 'b.example', below: true },
    { name: 'c.example', below: true },
  ])
  t.deepEqual(rule!.texts, {
    protocol: 'tcp, udp',
    source: '10.0.0.0/24, fd00::1',
    destination: '198.51.100.7, nets (1 entry)',
    port: '443, 8000-8999',
    domain: 'Example.ORG., bücher.example, d.example, … (5 in all)',
  })
})

test('rules: a list alone, below the key rules, none, and from objects are the same', t => {
  const list = '- {to: direct, port: [22, 25]}\n- {to: drop, domain: a.example, sniff: true}\n'
  const alone = parseRules(readRules(list, 'f'), options())
  t.is(alone.length, 2)
  t.deepEqual(parseRules(readRules(`rules:\n${list}`, 'f'), options()), alone)
  const objects = [
    { to: 'direct', port: [22, '25'], domain: undefined },
    { to: 'drop', domain: 'a.example', sniff: true },
  ]
  t.deepEqual(parseRules(rulesFromInput(objects).written, options()), alone)
  for (const none of ['', '# nothing\n', 'rules:\n', 'rules: []\n', '[]']) {
    t.deepEqual(parseRules(readRules(none, 'f'), options()), [], none)
  }
})

const WRONG: [title: string, text: string, message: RegExp][] = [
  ['no target', '- port: 80\n', /^rules\.yaml:1: rule 1: to: found nothing, allowed a target$/],
  [
    'an unknown target',
    '- to: direkt\n',
    /:1: rule 1: to: found "direkt" \(did you mean direct\?\), allowed proxy, offi/,
  ],
  ['two targets', '- to: [direct, drop]\n', /:1: rule 1: to: found a list, allowed one value/],
  ['an unknown key', '- to: direct\n  prot: 80\n', /:2: rule 1: prot: unknown key \(did you mean port\?\)/],
  ['a key like nothing', '- to: direct\n  zzzzzzz: 80\n', /:2: rule 1: zzzzzzz: unknown key, allowed to, name, sniff/],
  ['__proto__', '- to: direct\n  __proto__: 80\n', /:2: rule 1: __proto__: unknown key/],
  ['a key twice', '- to: direct\n  port: 80\n  port: 81\n', /:3: rule 1: port: found twice, allowed once/],
  ['an empty list', '- to: direct\n  port: []\n', /:2: rule 1: port: found an empty list/],
  ['a port of 0', '- {to: direct, port: 0}\n', /:1: rule 1: port: found "0", allowed a port from 1 to 65535/],
  ['port 65536', '- {to: direct, port: 65536}\n', /rule 1: port: found "65536"/],
  [
    'a range upside down',
    '- {to: direct, port: 9-8}\n',
    /port: found "9-8", allowed a range with the smaller port first/,
  ],
  ['the second of its ports', '- to: direct\n  port:\n    - 80\n    - x\n', /:4: rule 1: port: found "x"/],
  ['the second rule', '- {to: direct, port: 80}\n- {to: direct, port: http}\n', /:2: rule 2: port: found "http"/],
  [
    'a protocol',
    '- {to: direct, protocol: tpc}\n',
    /protocol: found "tpc"( \(did you mean tcp\?\))?, allowed tcp or udp/,
  ],
  [
    'host bits',
    '- {to: direct, source: 10.0.0.1/8}\n',
    /source: found "10\.0\.0\.1\/8", allowed 10\.0\.0\.0\/8, or the a/,
  ],
  ['host bits of IPv6', "- {to: direct, source: 'fd00::1/64'}\n", /source: found .*allowed fd00::\/64/],
  [
    'a prefix of 33',
    '- {to: direct, destination: 10.0.0.0/33}\n',
    /destination: found .*allowed a prefix length from 0 to 32/,
  ],
  [
    'an address of three parts',
    '- {to: direct, destination: 10.0.0/8}\n',
    /destination: found "10\.0\.0\/8", allowed an add/,
  ],
  [
    'a name as address',
    '- {to: direct, destination: a.example}\n',
    /destination: found "a\.example", allowed an address/,
  ],
  ['an address as name', '- {to: direct, domain: 192.0.2.1}\n', /domain: found "192\.0\.2\.1", allowed .*destination/],
  [
    'a sign for below',
    "- {to: direct, domainSuffix: '*.a.example'}\n",
    /domainSuffix: found .*allowed a\.example \(as domainS/,
  ],
  ['a name with a space', '- {to: direct, domain: a b}\n', /domain: found "a b", allowed a domain name/],
  [
    'sniff without domain',
    '- {to: direct, sniff: true}\n',
    /:1: rule 1: sniff: found true, allowed with a condition on/,
  ],
  ['sniff of UDP', '- {to: direct, sniff: true, protocol: udp, domain: a.example}\n', /sniff: found true, .*for TCP/],
  ['sniff: yes', '- {to: direct, sniff: yes, domain: a.example}\n', /sniff: found "yes", allowed true or false/],
  [
    'a rule behind all',
    '- to: direct\n  name: rest\n- {to: drop, port: 1}\n',
    /:3: rule 2: cannot be reached: rule 1 \(rest\)/,
  ],
  ['a text', 'direct\n', /^rules\.yaml:1: found no list/],
  ['a rule that is a text', '- direct\n', /:1: rule 1: found no mapping, allowed "to: TARGET"/],
  ['a value that is a mapping', '- {to: direct, port: {a: 1}}\n', /:1: rule 1: "port": found no text/],
  ['no value', '- to: direct\n  port:\n', /:2: rule 1: "?port"?: found /],
  ['an alias', '- &a {to: direct, port: 1}\n- *a\n', /:1: rule 1: found an anchor/],
  ['no YAML', '- {to: direct\n', /^rules\.yaml:\d: found what is not YAML/],
  ['nesting', `- ${'['.repeat(5000)}`, /:1: found nesting that is too deep/],
  [
    'a list that is not there',
    '- to: drop\n  domainFile: none.txt\n',
    /:2: rule 1: domainFile: \/none\.txt: cannot be read: the/,
  ],
  ['a control character in a name', '- {to: drop, name: "a\\nb"}\n', /name: found "a\\nb", allowed 1 to 60 printable/],
  [
    '300 KB',
    `- to: direct\n  port: [${'80,'.repeat(100_000)}80]\n`,
    /^rules\.yaml: found 300\d+ bytes, allowed at most 262144 \(l/,
  ],
]

for (const [title, text, message] of WRONG) {
  test(`rules: ${title} is refused with its place`, t => {
    t.regex(refusal(t, text), message)
  })
}

test('rules: too many rules are refused', t => {
  t.regex(refusal(t, '- {to: drop, port: 1}\n'.repeat(4097)), /:4097: found 4097 rules, allowed at most 4096/)
  t.notThrows(() => compiled('- {to: drop, port: 1}\n'.repeat(4096)))
})

test('rules: objects that are none are refused', t => {
  for (const wrong of [{}, [1], [null], [[]], [{ to: {} }], [{ to: 'direct', port: [null] }]]) {
    t.throws(() => rulesFromInput(wrong as unknown as RuleInput[]), { instanceOf: ConfigError }, JSON.stringify(wrong))
  }
})

test('rules: a wrong line of a list is told with the file and the line of the list, the rule and the key', t => {
  const folder = folderWith(t, { list: '# head\n10.0.0.0/8\n10.0.0.0/99\n', names: 'a.example\n\nb..example\n' })
  t.regex(
    refusal(t, '- to: direct\n  destinationFile: list\n', folder),
    /^rules\.yaml:2: rule 1: destinationFile: list:3: found "10\.0\.0\.0\/99", allowed a prefix length from 0 to 32$/,
  )
  t.regex(refusal(t, '- {to: drop, domainFile: names}\n', folder), /rule 1: domainFile: names:3: found "b\.\.example"/)
  const latin1 = folderWith(t, { list: Buffer.from('b\xfccher.example\n', 'latin1') })
  t.regex(refusal(t, '- {to: drop, domainFile: list}\n', latin1), /domainFile: list: found bytes that are not UTF-8/)
})

test('rules: a list of names may be plain, a hosts file or have signs, with comments', t => {
  const list = [
    '\ufeff# a comment',
    '! another',
    '; a third',
    'plain.example   # at the end\r',
    '0.0.0.0 one.example two.example',
    '::1\tthree.example',
    'fe80::1%lo0 localhost',
    '0.0.0.0 0.0.0.0',
    '127.0.0.1 localhost ip6-allnodes broadcasthost',
    '*.star.example',
    '+.plus.example',
    '.dot.example',
    '||bar.example^',
    'Bücher.example.',
  ].join('\n')
  const folder = folderWith(t, { list })
  const names = (key: string) =>
    parseRules(readRules(`- {to: drop, ${key}: list}`, 'f'), options(folder))[0]!.domain!.map(
      ({ name, below }) => `${below ? '.' : ''}${name.replace('.example', '')}`,
    )
  const below = ['.star', '.plus', '.dot', '.bar']
  t.deepEqual(names('domainFile'), ['plain', 'one', 'two', 'three', ...below, 'xn--bcher-kva'])
  t.deepEqual(names('domainSuffixFile'), ['.plain', '.one', '.two', '.three', ...below, '.xn--bcher-kva'])
})

test('rules: a list with nothing in it suits no flow, and is no missing condition', t => {
  const folder = folderWith(t, { empty: '# none yet\n' })
  const rules = compiled('- {to: drop, destinationFile: empty}\n- {to: direct, domainFile: empty}\n', folder)
  t.is(match(rules, flow('tcp', '192.0.2.1', 80, { domain: 'a.example' })), NO_RULE)
})

test('rules: the time for a list grows with its lines, not with their square', t => {
  const parse = (lines: number) => {
    const list = Array.from({ length: lines }, (_, at) => `name${at}.example`).join('\n')
    const times = [1, 2, 3].map(() => {
      const before = process.cpuUsage()
      t.is(parseDomainList(list, true).length, lines)
      const { user, system } = process.cpuUsage(before)
      return user + system
    })
    return Math.min(...times)
  }
  const few = parse(8_000)
  const many = parse(64_000)
  t.true(many < 24 * few, `${few} and ${many} µs`)
})

test('rules: a wrong text throws and leaves the rules before as they were', t => {
  const rules = compiled('- {to: direct, port: 80}\n')
  const before = structuredClone(rules.rows)
  t.throws(() => compiled('- {to: drop, port: 80}\n- {to: drop, port: 99999}\n'), { instanceOf: ConfigError })
  t.deepEqual(rules.rows, before)
  t.is(match(rules, flow('tcp', '192.0.2.1', 80)), 0)
})

test('rules: what was compiled can be sent to another thread, which sees the same tables', t => {
  const rules = compiled('- {to: direct, destination: 10.0.0.0/8}\n- {to: drop, domainSuffix: a.example}\n')
  const copy = structuredClone(rules)
  t.is(copy.rows.buffer.byteLength, rules.rows.buffer.byteLength)
  t.true(copy.rows.buffer instanceof SharedArrayBuffer)
  t.is(match(copy, flow('tcp', '10.0.0.1', 80)), 0)
  t.is(match(copy, flow('udp', '192.0.2.1', 80, { domain: 'x.a.example' })), 1)
  t.deepEqual(compileRules([], 'proxy').targets, [{ kind: 'upstream', name: 'proxy' }])
})
