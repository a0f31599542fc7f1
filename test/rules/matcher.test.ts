import test from 'ava'
import { formatAddress } from '../../src/endpoint.ts'
import { compileRules } from '../../src/rules/compile.ts'
import { match, NEEDS_LOOK, NO_RULE, targetOf } from '../../src/rules/matcher.ts'
import { parseRules } from '../../src/rules/parse.ts'
import { readRules } from '../../src/rules/raw-rule.ts'
import type { RuleFlow } from '../../src/rules/rule.ts'
import { random } from '../helpers/random.ts'
import { address, compiled, flow, naiveMatch, options, UPSTREAMS } from './rig.ts'

test('rules: the first rule that takes a flow decides, not the narrowest', t => {
  const rules = compiled(`
- {to: direct, destination: 10.0.0.0/8}
- {to: reject, destination: 10.1.0.0/16}
- {to: drop, destination: 192.0.2.7}
- {to: lab, destination: 192.0.2.0/24}
`)
  t.is(match(rules, flow('tcp', '10.1.2.3', 80)), 0)
  t.is(match(rules, flow('tcp', '192.0.2.7', 80)), 2)
  t.is(match(rules, flow('tcp', '192.0.2.6', 80)), 3)
  t.is(match(rules, flow('tcp', '192.0.3.0', 80)), NO_RULE)
  t.deepEqual(targetOf(rules, 3), { kind: 'upstream', name: 'lab' })
  t.deepEqual(targetOf(rules, 2), { kind: 'drop' })
  t.deepEqual(targetOf(rules, NO_RULE), { kind: 'upstream', name: 'proxy' })
})

test('rules: no rules at all send everything to the default', t => {
  const rules = compiled('')
  t.is(match(rules, flow('udp', '2001:db8::1', 53)), NO_RULE)
  t.deepEqual(targetOf(rules, NO_RULE), { kind: 'upstream', name: 'proxy' })
})

test('rules: all conditions of a rule must hold', t => {
  const rules = compiled(
    '- {to: lab, protocol: udp, source: 10.0.0.0/24, destination: 192.0.2.0/24, port: 50-60, domainSuffix: example.org}',
  )
  const good = { domain: 'www.example.org', source: '10.0.0.9' }
  t.is(match(rules, flow('udp', '192.0.2.1', 53, good)), 0)
  t.is(match(rules, flow('tcp', '192.0.2.1', 53, good)), NO_RULE)
  t.is(match(rules, flow('udp', '192.0.2.1', 53, { ...good, source: '10.0.1.9' })), NO_RULE)
  t.is(match(rules, flow('udp', '192.0.3.1', 53, good)), NO_RULE)
  t.is(match(rules, flow('udp', '192.0.2.1', 61, good)), NO_RULE)
  t.is(match(rules, flow('udp', '192.0.2.1', 53, { ...good, domain: 'example.com' })), NO_RULE)
  t.is(match(rules, flow('udp', '192.0.2.1', 53, { source: '10.0.0.9' })), NO_RULE)
})

test('rules: a look is asked for where the domain can change the target, and nowhere else', t => {
  const rules = compiled(`
- {to: reject, domainSuffix: ads.example, sniff: true, port: [80, 443]}
- {to: direct, domain: quiet.example}
- {to: direct, destination: 10.0.0.0/8}
- {to: reject, port: 80}
`)
  t.is(match(rules, flow('tcp', '192.0.2.1', 443)), NEEDS_LOOK)
  t.is(match(rules, flow('tcp', '10.0.0.1', 443)), NEEDS_LOOK)
  t.is(match(rules, flow('tcp', '192.0.2.1', 22)), NO_RULE, 'port 22 is no matter of rule 1')
  t.is(match(rules, flow('tcp', '192.0.2.1', 80)), 3, 'rejected in any case')
  t.is(match(rules, flow('udp', '192.0.2.1', 443)), NO_RULE, 'UDP has no first bytes to look at')
  t.is(match(rules, flow('tcp', '192.0.2.1', 443, { domain: '' })), NO_RULE, 'looked, and none found')
  t.is(match(rules, flow('tcp', '192.0.2.1', 443, { domain: 'x.ads.example' })), 0)
  t.is(match(rules, flow('tcp', '10.0.0.1', 443, { domain: 'other.example' })), 2)
  t.is(match(rules, flow('tcp', 'x.ads.example', 443)), 0, 'a destination that is a name')
})

test('rules: IPv4 and IPv6 are apart, also as ::ffff:0:0/96', t => {
  const rules = compiled(`
- {to: direct, destination: 0.0.0.0/0}
- {to: lab, destination: '::/0'}
`)
  t.is(match(rules, flow('tcp', '255.255.255.255', 1)), 0)
  t.is(match(rules, flow('tcp', '::ffff:192.0.2.1', 1)), 1)
  t.is(match(rules, flow('tcp', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 1)), 1)
  t.is(match(rules, flow('tcp', 'name.example', 1)), NO_RULE)
})

const LABELS = ['a', 'b', 'c', 'www', 'xn--bcher-kva']
const TARGETS = [...UPSTREAMS, 'direct', 'reject', 'drop']

/** Draws from few values, so that much overlaps: prefixes within 10.0.0.0/22 and fd00::/118, ports up to 30, five labels. */
function drawer(seed: number) {
  const next = random(seed)
  const below = (end: number) => Math.floor(next() * end)
  const pick = <T>(list: readonly T[]) => list[below(list.length)]!
  const some = <T>(make: () => T) => Array.from({ length: 1 + below(4) }, make)
  const host = () => (next() < 0.5 ? `10.0.${below(4)}.${below(256)}` : `fd00::${below(1024).toString(16)}`)
  const cidr = () => {
    const bytes = address(host())
    const prefix = bytes.length * 8 - (next() < 0.05 ? bytes.length * 8 : below(11))
    const kept = bytes.map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - at * 8))))
    return `${formatAddress(kept)}/${prefix}`
  }
  const domain = () => some(() => pick(LABELS)).join('.')
  const port = () => {
    const first = 1 + below(30)
    return next() < 0.5 ? `${first}` : `${first}-${first + below(5)}`
  }
  const rule = () => {
    const keys: Record<string, unknown> = { to: pick(TARGETS) }
    if (next() < 0.3) keys.protocol = [pick(['tcp', 'udp'])]
    if (next() < 0.3) keys.source = some(cidr)
    if (next() < 0.5) keys.destination = some(cidr)
    if (next() < 0.4) keys.port = some(port)
    if (next() < 0.3) keys.domain = some(domain)
    if (next() < 0.4) keys.domainSuffix = some(domain)
    if ((keys.domain ?? keys.domainSuffix) && next() < 0.5 && `${keys.protocol}` !== 'udp') keys.sniff = true
    return Object.keys(keys).length === 1 ? { ...keys, port: port() } : keys
  }
  const asked = (): RuleFlow => {
    const known = pick([undefined, '', domain(), domain().toUpperCase(), `${domain()}.`])
    const to = next() < 0.1 ? domain() : host()
    return flow(pick(['tcp', 'udp']), to, 1 + below(36), { domain: known, source: host() })
  }
  return { rule, asked, below }
}

test('rules: what matches is what a simple matcher finds, over many rules and flows', t => {
  const seen = new Map<number, number>()
  for (let seed = 1; seed <= 150; seed++) {
    const draw = drawer(seed)
    const text = JSON.stringify(Array.from({ length: draw.below(100) }, draw.rule))
    const rules = parseRules(readRules(text, 'rules.yaml'), options())
    const tables = compileRules(rules, 'proxy')
    for (let count = 0; count < 200; count++) {
      const asked = draw.asked()
      const found = match(tables, asked)
      const expected = naiveMatch(rules, asked)
      if (found !== expected) t.fail(`seed ${seed}: ${JSON.stringify(asked)}: found ${found}, expected ${expected}`)
      seen.set(Math.sign(found + 1), (seen.get(Math.sign(found + 1)) ?? 0) + 1)
    }
  }
  for (const kind of [-1, 0, 1]) t.true((seen.get(kind) ?? 0) > 300, `${kind}: look, none and rule are all met`)
})
