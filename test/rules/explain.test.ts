import test from 'ava'
import { askedText, explain, outcomeText, stepLines } from '../../src/rules/explain.ts'
import { match, NEEDS_LOOK, targetOf } from '../../src/rules/matcher.ts'
import { targetText } from '../../src/rules/rule.ts'
import { compiled, flow } from './rig.ts'

const RULES = compiled(`
- {to: reject, name: no mail, protocol: tcp, port: [25, 465-587]}
- {to: drop, protocol: udp, port: 443}
- {to: lab, source: 10.0.9.0/24, destination: [198.51.100.0/24, '2001:db8:9::/48']}
- {to: reject, name: ads, domainSuffix: [ads.example, track.example], sniff: true, port: [80, 443]}
- {to: office, domain: git.example.org, domainSuffix: corp.example}
- {to: direct, destination: [10.0.0.0/8, 192.168.0.0/16, 172.16.0.0/12, 'fd00::/8']}
- {to: direct, domainSuffix: example.net, sniff: true, protocol: tcp, port: 443, source: 10.0.0.0/16}
`)

/** Protocol, destination, port, what else is known → the last line, and what is said of the rules 1, 2, … before. */
const CASES: [asked: Parameters<typeof flow>, last: string, steps: RegExp[]][] = [
  [
    ['tcp', '192.0.2.1', 25],
    'goes to reject: rule 1 (no mail)',
    [/takes it: protocol tcp: tcp; port 25: 25, 465-587$/],
  ],
  [
    ['tcp', '192.0.2.1', 466],
    'goes to reject: rule 1 (no mail)',
    [/^rule 1 \(no mail\) takes it: protocol tcp: tcp; port 466/],
  ],
  [
    ['tcp', '192.0.2.1', 588],
    'goes to proxy: no rule takes it: the default',
    [
      /^rule 1 \(no mail\) does not match: port 588: not 25, 465-587$/,
      /^rule 2 does not match: protocol tcp: not udp$/,
      /source 10\.0\.0\.2: not 10\.0\.9\.0\/24$/,
      /port 588: not 80, 443$/,
      /domain not known: not git\.example\.org, corp\.example \(no sniff: true\)$/,
      /destination 192\.0\.2\.1: not 10\.0\.0\.0\/8, 192\.168\.0\.0\/16, 172\.16\.0\.0\/12, … \(4 in all\)$/,
      /port 588: not 443$/,
    ],
  ],
  [
    ['udp', '192.0.2.1', 25],
    'goes to proxy: no rule takes it: the default',
    [/protocol udp: not tcp$/, /port 25: not 443/],
  ],
  [
    ['udp', '192.0.2.1', 443],
    'goes to drop: rule 2',
    [/protocol udp: not tcp/, /takes it: protocol udp: udp; port 443: 443$/],
  ],
  [
    ['tcp', '198.51.100.7', 22, { source: '10.0.9.7' }],
    'goes to lab: rule 3',
    [/port 22/, /protocol/, /takes it: source 10\.0\.9\.7: 10\.0\.9\.0\/24; destination 198\.51\.100\.7: 198\.51/],
  ],
  [
    ['tcp', '198.51.101.7', 22, { source: '10.0.9.7' }],
    'goes to proxy: no rule takes it: the default',
    [/port/, /protocol/, /destination 198\.51\.101\.7: not 198\.51\.100\.0\/24, 2001:db8:9::\/48$/],
  ],
  [
    ['tcp', '2001:db8:9::5', 22, { source: '10.0.9.7' }],
    'goes to lab: rule 3',
    [/port/, /protocol/, /destination 2001:db8:9::5: 198\.51/],
  ],
  [
    ['tcp', '192.0.2.1', 443, { domain: 'x.Ads.example' }],
    'goes to reject: rule 4 (ads)',
    [
      /port/,
      /protocol/,
      /source/,
      /takes it: port 443: 80, 443; domain x\.Ads\.example: ads\.example of ads\.example, track/,
    ],
  ],
  [
    ['tcp', '192.0.2.1', 22, { domain: 'x.ads.example' }],
    'goes to proxy: no rule takes it: the default',
    [/port/, /protocol/, /source/, /port 22: not 80, 443/, /domain x\.ads\.example: not git/],
  ],
  [
    ['tcp', '192.0.2.1', 443],
    'goes to proxy: no rule takes it: the default, unless the first bytes name another domain',
    [
      /port/,
      /protocol/,
      /source/,
      /^rule 4 \(ads\) may match: domain not known, to be looked for in the first bytes: ads\.ex/,
    ],
  ],
  [
    ['tcp', '10.1.2.3', 80],
    'goes to direct: rule 6, unless the first bytes name another domain',
    [
      /port/,
      /protocol/,
      /source/,
      /may match/,
      /no sniff/,
      /^rule 6 takes it: destination 10\.1\.2\.3: 10\.0\.0\.0\/8/,
    ],
  ],
  [
    ['tcp', '10.1.2.3', 443, { domain: '' }],
    'goes to direct: rule 6',
    [/port/, /protocol/, /source/, /does not match: no domain: not ads\.example/, /no domain: not git/, /takes it/],
  ],
  [
    ['tcp', '192.0.2.1', 22, { domain: 'git.example.org' }],
    'goes to office: rule 5',
    [/./, /./, /./, /./, /takes it: domain git\.example\.org: git\.example\.org of git/],
  ],
  [
    ['tcp', '192.0.2.1', 22, { domain: 'x.git.example.org' }],
    'goes to proxy: no rule takes it: the default',
    [/./, /./, /./, /./, /domain x\.git\.example\.org: not git\.example\.org, corp\.example$/],
  ],
  [
    ['tcp', 'www.corp.example', 22],
    'goes to office: rule 5',
    [/./, /./, /./, /./, /takes it: domain www\.corp\.example: corp\.example of git/],
  ],
  [
    ['udp', 'name.example', 53],
    'goes to proxy: no rule takes it: the default',
    [/./, /./, /./, /./, /./, /destination known by name only: not 10\.0/, /protocol udp: not tcp/],
  ],
  [['udp', 'fd12::1', 53], 'goes to direct: rule 6', [/./, /./, /./, /./, /./, /takes it: destination fd12::1: 10\.0/]],
  [
    ['tcp', '192.0.2.1', 443, { domain: 'www.example.net' }],
    'goes to direct: rule 7',
    [
      /./,
      /./,
      /./,
      /./,
      /./,
      /./,
      /takes it: protocol tcp: tcp; source 10\.0\.0\.2: 10\.0\.0\.0\/16; port 443: 443; domain www\.example\.net: example\.net of example\.net$/,
    ],
  ],
  [
    ['tcp', '192.0.2.1', 443, { domain: 'www.example.net', source: '10.1.0.2' }],
    'goes to proxy: no rule takes it: the default',
    [/./, /./, /./, /./, /./, /./, /source 10\.1\.0\.2: not 10\.0\.0\.0\/16$/],
  ],
  [
    ['tcp', '192.0.2.1', 443, { source: 'fd00::2', domain: 'a\u202e\n.example' }],
    'goes to proxy: no rule takes it: the default',
    [/./, /./, /source fd00::2: not/, /domain a\\u\{202e\}\\u\{a\}\.example: not/],
  ],
]

for (const [asked, last, steps] of CASES) {
  test(`explain: ${JSON.stringify(asked)}`, t => {
    const found = flow(...asked)
    const explained = explain(RULES, found)
    const lines = [askedText(found), ...stepLines(explained), outcomeText(explained)]
    t.is(lines.at(-1), last)
    steps.forEach((step, at) => {
      t.regex(lines[at + 1]!, step)
    })
    for (const line of lines) t.notRegex(line, /[\n\u202e]/)
    const { rule, target, needsLook, steps: all } = explained
    t.is(all.at(-1)?.result === 'match' ? all.at(-1)!.number : 0, rule, 'the last step is the rule that takes it')
    t.is(all.filter(step => step.result === 'match').length, rule === 0 ? 0 : 1)
    const verdict = match(RULES, found)
    t.is(needsLook, verdict === NEEDS_LOOK)
    if (!needsLook) t.is(target, targetText(targetOf(RULES, verdict)))
  })
}

test('explain: what is asked stands on the first line', t => {
  const head = (...asked: Parameters<typeof flow>) => askedText(flow(...asked))
  t.is(head('tcp', '192.0.2.1', 25), 'tcp 10.0.0.2:40000 to 192.0.2.1:25')
  t.is(head('udp', '2001:db8::1', 53, { domain: 'a.example' }), 'udp 10.0.0.2:40000 to [2001:db8::1]:53 (a.example)')
  t.is(head('tcp', 'a.example', 443, { source: 'fd00::2' }), 'tcp [fd00::2]:40000 to a.example:443')
})

test('explain: a rule without conditions takes all, and is the plain object that it says', t => {
  t.deepEqual(explain(compiled('- {to: drop, port: 1}\n- to: direct\n  name: rest'), flow('udp', '192.0.2.1', 9)), {
    rule: 2,
    name: 'rest',
    target: 'direct',
    needsLook: false,
    steps: [
      { number: 1, name: '', result: 'differs', condition: 'port', reason: 'port 9: not 1' },
      { number: 2, name: 'rest', result: 'match', reason: 'it has no condition' },
    ],
  })
})
