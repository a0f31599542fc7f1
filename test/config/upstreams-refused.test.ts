import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { completeOptions } from '../../src/config/complete-options.ts'
import { ConfigError } from '../../src/errors.ts'
import type { GatewayInput } from '../../src/options.ts'
import { refusal, temporaryFolder } from '../commands/tungate.ts'

const SECRET = 'hunter2secret'

const FILES: [title: string, content: string, expected: RegExp][] = [
  [
    'an unknown name',
    'upstreams: {office: socks5://h}\nproxy: ofice\n',
    /:2: proxy: found a name that no upstream has \(did you mean office\?\), allowed direct, reject, office, or a URL$/,
  ],
  [
    'an unknown member',
    'proxy: socks5://h\nupstreams:\n  g:\n    group: failover\n    members:\n      - direct\n      - offce\n  office: socks5://h\n',
    /:7: upstreams\.g\.members: found a name that no upstream has \(did you mean office\?\)/,
  ],
  [
    'an unknown hop',
    'proxy:\n  - socks5://h\n  - offce\n',
    /:3: proxy hop 2: found a name that no upstream has, allowed/,
  ],
  [
    'a wrong hop',
    `proxy:\n  - socks5://h\n  - socks5://u:${SECRET}@h:0\n`,
    /:3: proxy hop 2: found port 0, allowed a port/,
  ],
  [
    'a wrong URL of an upstream',
    `proxy: socks5://h\nupstreams:\n  a: socks5://h\n  b: ftp://u:${SECRET}@h\n`,
    /:4: upstreams\.b: found the scheme ftp:/,
  ],
  [
    'a wrong name of an upstream',
    'proxy: socks5://h\nupstreams:\n  9a: socks5://h\n',
    /:3: upstreams\.9a: found another name, allowed a name of 1 to 40 letters/,
  ],
  [
    'an upstream named as the proxy',
    'proxy: socks5://h\nupstreams:\n  proxy: socks5://h\n',
    /:3: upstreams\.proxy: found the name of what the key proxy says, allowed another name$/,
  ],
  [
    'an upstream named drop',
    'proxy: socks5://h\nupstreams:\n  drop: socks5://h\n',
    /:3: upstreams\.drop: found the name of a target of rules/,
  ],
  [
    'another direct',
    'proxy: socks5://h\nupstreams:\n  direct: socks5://h\n',
    /:3: upstreams\.direct: found a name that is taken, allowed another name, or direct:\/\/ behind it$/,
  ],
  [
    'an upstream twice',
    'proxy: socks5://h\nupstreams:\n  a: socks5://h\n  a: socks5://h\n',
    /:4: found a twice \(first on line 3\), allowed each key once$/,
  ],
  [
    'upstreams as a text',
    `proxy: socks5://h\nupstreams: ${SECRET}\n`,
    /:2: upstreams: found a text, allowed a mapping of names/,
  ],
  ['upstreams as a list', 'proxy: socks5://h\nupstreams: [socks5://h]\n', /:2: upstreams: found a list/],
  [
    'an upstream that is nothing',
    'proxy: socks5://h\nupstreams:\n  a:\n',
    /:3: upstreams\.a: found null, allowed a URL, a list of URLs, or \{ group: failover/,
  ],
  ['an empty chain', 'proxy: []\n', /:1: proxy: found an empty list/],
  ['nine hops', `proxy: [${'socks5://h, '.repeat(9)}]\n`, /:1: proxy: found 9 hops, allowed at most 8$/],
  [
    'nine hops by names',
    `upstreams:\n  a: [${'socks5://h, '.repeat(5)}]\n  b: [a, a]\nproxy: b\n`,
    /:3: upstreams\.b: found 10 hops in all, allowed at most 8$/,
  ],
  ['a mapping as the proxy', 'proxy: {group: failover}\n', /:1: proxy: found a mapping/],
  [
    'a mapping as a hop',
    'proxy: [{a: b}]\n',
    /:1: proxy hop 1: found a mapping, allowed a URL, or the name of an upstream$/,
  ],
  [
    'an unknown key of a group',
    'proxy: socks5://h\nupstreams:\n  g:\n    group: failover\n    member: [direct]\n',
    /:5: upstreams\.g\.member: found an unknown key \(did you mean members\?\), allowed group, members, probe$/,
  ],
  [
    'an unknown policy',
    'proxy: socks5://h\nupstreams:\n  g:\n    group: fail-over\n    members: [direct]\n',
    /:4: upstreams\.g\.group: found "fail-over" \(did you mean failover\?\), allowed failover, round-robin or least-latency$/,
  ],
  [
    'a group without a policy',
    'proxy: socks5://h\nupstreams:\n  g: {members: [direct]}\n',
    /:3: upstreams\.g\.group: found nothing, allowed failover/,
  ],
  [
    'a group without members',
    'proxy: socks5://h\nupstreams:\n  g: {group: failover}\n',
    /:3: upstreams\.g\.members: found nothing, allowed a list of names$/,
  ],
  [
    'a group with no members',
    'proxy: socks5://h\nupstreams:\n  g: {group: failover, members: []}\n',
    /:3: upstreams\.g\.members: found 0 members, allowed 1 to 64$/,
  ],
  [
    'a member twice',
    'proxy: socks5://h\nupstreams:\n  g: {group: failover, members: [direct, direct]}\n',
    /:3: upstreams\.g\.members: found a member twice, allowed each once$/,
  ],
  [
    'a URL as a member',
    `proxy: socks5://h\nupstreams:\n  g:\n    group: failover\n    members: ["socks5://u:${SECRET}@h"]\n`,
    /:5: upstreams\.g\.members: found what is no name, allowed names of upstreams \(a URL has a name of its own first\)$/,
  ],
  [
    'a probe too often',
    'proxy: socks5://h\nupstreams:\n  g: {group: failover, members: [direct], probe: 100ms}\n',
    /:3: upstreams\.g\.probe: found "100ms", allowed a duration from 500ms to 1h/,
  ],
  [
    'a group in itself',
    'proxy: socks5://h\nupstreams:\n  a: {group: failover, members: [b]}\n  b: {group: failover, members: [direct, c]}\n  c: {group: failover, members: [b]}\n',
    /:5: upstreams\.c\.members: found a circle, b → c → b, allowed groups that do not hold themselves$/,
  ],
  [
    'groups too deep',
    `proxy: socks5://h\nupstreams:\n${['b', 'c', 'd', 'e', 'direct'].map((to, at) => `  ${'abcde'[at]}: {group: failover, members: [${to}]}\n`).join('')}`,
    /:6: upstreams\.d\.members: found groups in groups, a → b → c → d → e, allowed a depth of 4$/,
  ],
  [
    'a chain in itself',
    'proxy: socks5://h\nupstreams:\n  a: [b, socks5://h]\n  b: [socks5://h, a]\n',
    /:4: upstreams\.b hop 2: found a circle, a → b → a, allowed chains that do not hold themselves$/,
  ],
  [
    'a group in a chain',
    'upstreams:\n  g: {group: failover, members: [direct]}\nproxy: [g, socks5://h]\n',
    /:3: proxy hop 1: found a group in a chain, allowed a group of chains$/,
  ],
  ['reject in a chain', 'proxy: [socks5://h, reject]\n', /:1: proxy: found reject:\/\/ in a chain/],
  [
    'direct behind a hop',
    'proxy: [socks5://h, direct, socks5://h]\n',
    /:1: proxy: found direct:\/\/ behind a hop, allowed it as the first hop$/,
  ],
  ['direct alone in a chain', 'proxy: [direct, direct]\n', /:1: proxy: found direct:\/\/ behind a hop/],
  ['a socket behind a hop', 'proxy: [socks5://h, socks5+unix:///p]\n', /:1: proxy: found a Unix socket behind a hop/],
  [
    'a user without a password',
    'proxy: socks5://h\nupstreams:\n  a: socks5://u@h\n',
    /:3: upstreams\.a: found a user name without a password, allowed socks5:\/\/user:password@host, or passwordFile=FILE as an option$/,
  ],
  [
    'a password file that is not there',
    'proxy: socks5://u@h?passwordFile=/nowhere\n',
    /:1: proxy: \/nowhere: cannot be read: there is no such file$/,
  ],
  [
    'a password file for several URLs',
    'proxyPasswordFile: /nowhere\nproxy: [socks5://h, socks5://h]\n',
    /:1: proxyPasswordFile: found several URLs in proxy, allowed it with a single URL/,
  ],
  [
    'a password file for a name',
    'proxyPasswordFile: /nowhere\nproxy: direct\n',
    /:1: proxyPasswordFile: found a name in proxy/,
  ],
  [
    'two password files',
    'proxyPasswordFile: /nowhere\nproxy: socks5://u@h?passwordFile=/nowhere\n',
    /:1: proxyPasswordFile: found passwordFile= in proxy too, allowed one of the two$/,
  ],
  [
    'a password for direct',
    'proxyPasswordFile: /nowhere\nproxy: direct://\n',
    /:1: proxyPasswordFile: found direct:\/\/ in proxy, allowed a proxy that has passwords$/,
  ],
  ['an anchor in a list', 'proxy: [&a socks5://h]\n', /:1: found an anchor \(&\)/],
  ['a list as a name', 'proxy: socks5://h\nupstreams:\n  ? [a]\n  : b\n', /:3: found a list as a key/],
]

for (const [title, content, expected] of FILES)
  test(`config: a file with ${title} is refused with its line`, t => {
    const file = join(temporaryFolder(t), 'gateway.yaml')
    writeFileSync(file, content)
    const message = refusal(t, ['--config', file])
    t.true(message.startsWith(`${file}:`), message)
    t.regex(message, expected)
    t.notRegex(message, /[\n\r]/)
    t.false(message.includes(SECRET))
  })

const TEXTS: [raw: string, expected: RegExp][] = [
  ['{a: b', /^--upstreams: upstreams: found brackets or braces that are not YAML, allowed a mapping/],
  ['{a: *b}', /^--upstreams: upstreams: found an alias \(\*\), allowed plain values$/],
  ['{a: socks5://h, a: socks5://h}', /^--upstreams: upstreams: found a twice, allowed each key once$/],
  [`{a: {group: ${'['.repeat(20)}}}`, /^--upstreams: upstreams: found nesting that is too deep/],
  [`{a: "${'x'.repeat(32_768)}"}`, /^--upstreams: upstreams: found more than 32768 bytes/],
  [SECRET, /^--upstreams: upstreams: found a text, allowed a mapping/],
  [`{a: socks5://u:${SECRET}@h:0}`, /^--upstreams: upstreams\.a: found port 0/],
]

for (const [raw, expected] of TEXTS)
  test(`config: --upstreams ${raw.slice(0, 40)} is refused`, t => {
    const message = refusal(t, ['--proxy', 'socks5://h', '--upstreams', raw])
    t.regex(message, expected)
    t.false(message.includes(SECRET))
  })

const INPUTS: [title: string, input: unknown, expected: RegExp][] = [
  ['a wrong URL', { proxy: `socks5://u:${SECRET}@h:0` }, /^proxy: found port 0, allowed: a port from 1/],
  ['a number', { proxy: 5 }, /^proxy\.host: found undefined/],
  ['a list of numbers', { proxy: [5] }, /^proxy: found a list that is not of texts/],
  [
    'an unknown name',
    { proxy: 'office' },
    /^proxy: found a name that no upstream has, allowed direct, reject, or a URL$/,
  ],
  ['an upstream that is nothing', { proxy: 'direct', upstreams: { a: null } }, /^upstreams\.a\.host: found undefined/],
  ['a wrong name', { proxy: 'direct', upstreams: { 'a b': 'direct://' } }, /^upstreams\.a b: found another name/],
  [
    'hops that are none',
    { proxy: 'direct', upstreams: { a: { kind: 'chain', hops: [{ kind: 'x' }] } } },
    /^upstreams\.a: found hops that are no upstreams/,
  ],
  [
    'another policy',
    { proxy: 'direct', upstreams: { a: { group: 'x', members: ['direct'] } } },
    /^upstreams\.a\.group: found x, allowed: failover, round/,
  ],
  [
    'no members',
    { proxy: 'direct', upstreams: { a: { group: 'failover', members: [] } } },
    /^upstreams\.a\.members: found 0 of them/,
  ],
  [
    'a text for members',
    { proxy: 'direct', upstreams: { a: { group: 'failover', members: 'direct' } } },
    /^upstreams\.a\.members: found no list of names/,
  ],
  [
    'a probe in fractions',
    { proxy: 'direct', upstreams: { a: { group: 'failover', members: ['direct'], probeMs: 0.5 } } },
    /^upstreams\.a\.probeMs: found 0\.5/,
  ],
  [
    'a circle',
    { proxy: 'a', upstreams: { a: { group: 'failover', members: ['a'] } } },
    /^upstreams\.a\.members: found a circle, a → a, allowed/,
  ],
]

for (const [title, input, expected] of INPUTS)
  test(`options: ${title} among the upstreams is a ConfigError that names the place`, t => {
    const error = t.throws(() => completeOptions(input as GatewayInput), { instanceOf: ConfigError })
    t.regex(error.message, expected)
    t.false(error.message.includes(SECRET))
  })
