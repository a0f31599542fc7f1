/** Rules and flows for tests, and a matcher that does it the simple way. */
import { type Destination, parseAddress } from '../../src/endpoint.ts'
import { type CompiledRules, compileText } from '../../src/rules/compile.ts'
import { NEEDS_LOOK, NO_RULE } from '../../src/rules/matcher.ts'
import { type Cidr, type Protocol, type Rule, type RuleFlow, targetText } from '../../src/rules/rule.ts'

export const UPSTREAMS = ['proxy', 'office', 'lab']

export function options(folder = '/') {
  return { file: 'rules.yaml', folder, upstreams: UPSTREAMS, defaultUpstream: 'proxy' }
}

export function compiled(text: string, folder?: string): CompiledRules {
  return compileText(text, options(folder))
}

export function address(text: string): Uint8Array {
  const bytes = parseAddress(text)
  if (bytes === undefined) throw new Error(`${text} is no address`)
  return bytes
}

/** `flow('tcp', '192.0.2.1', 443, { domain, source })`; a destination that is no address is a name. */
export function flow(
  protocol: Protocol,
  destination: string,
  port: number,
  { domain, source = '10.0.0.2' }: { domain?: string | undefined; source?: string } = {},
): RuleFlow {
  const bytes = parseAddress(destination)
  const to: Destination = bytes === undefined ? { name: destination, port } : { address: bytes, port }
  return { protocol, source: { address: address(source), port: 40_000 }, destination: to, domain }
}

function holds({ address: base, prefix }: Cidr, found: Uint8Array): boolean {
  if (base.length !== found.length) return false
  for (let bit = 0; bit < prefix; bit++) {
    const mask = 128 >> (bit & 7)
    if ((base[bit >> 3]! & mask) !== (found[bit >> 3]! & mask)) return false
  }
  return true
}

/** Whether a rule takes a flow; 'maybe' where only the domain is missing, and would be looked for. */
function takes(rule: Rule, { protocol, source, destination, domain }: RuleFlow): boolean | 'maybe' {
  if (rule.protocol !== undefined && !rule.protocol.includes(protocol)) return false
  if (rule.source !== undefined && !rule.source.some(cidr => holds(cidr, source.address))) return false
  const to = 'address' in destination ? destination.address : undefined
  if (rule.destination !== undefined && !rule.destination.some(cidr => to !== undefined && holds(cidr, to)))
    return false
  if (rule.port !== undefined && !rule.port.some(r => r.first <= destination.port && destination.port <= r.last))
    return false
  if (rule.domain === undefined) return true
  const known = domain ?? ('name' in destination ? destination.name : undefined)
  if (known === undefined) return rule.sniff && protocol === 'tcp' ? 'maybe' : false
  const name = known.toLowerCase().replace(/\.$/, '')
  return rule.domain.some(each => name === each.name || (each.below && name.endsWith(`.${each.name}`)))
}

/** What `match` must say. */
export function naiveMatch(rules: readonly Rule[], asked: RuleFlow): number {
  const results = rules.map(rule => takes(rule, asked))
  const first = results.indexOf(true)
  const target = first < 0 ? 'proxy' : targetText(rules[first]!.target)
  const before = first < 0 ? results : results.slice(0, first)
  const changes = before.some((result, at) => result === 'maybe' && targetText(rules[at]!.target) !== target)
  return changes ? NEEDS_LOOK : first < 0 ? NO_RULE : first
}
