/** Which rule a flow meets first. Nothing here allocates. */
import { lowestBit } from './bit-rows.ts'
import { findAddress } from './cidr-table.ts'
import type { CompiledRules } from './compile.ts'
import { findDomain } from './domain-table.ts'
import { findInterval } from './interval-table.ts'
import type { RuleFlow, Target } from './rule.ts'

/** No rule takes the flow: the default upstream. */
export const NO_RULE = -1
/** The target hangs on a domain that is not known, and that a rule asks for in the first bytes. */
export const NEEDS_LOOK = -2

/**
 * The place of the first rule that takes the flow (0 for the first), NO_RULE or NEEDS_LOOK. The last is said only when the
 * look can change the target, so every other flow may be dialed before its client is answered. After the look, ask again with
 * `domain` as found, or ''.
 *
 * A condition on the domain does not hold for a flow whose domain is not known, if no look is asked for or can be had (UDP).
 */
export function match(rules: CompiledRules, flow: RuleFlow): number {
  const { rows, words } = rules
  const destination = flow.destination
  const name = 'name' in destination ? destination.name : undefined
  const domain = flow.domain ?? name
  const protocolAt = rules.protocolRows[flow.protocol] * words
  const sourceAt = findAddress(rules.source, flow.source.address) * words
  const destinationAt =
    findAddress(rules.destination, 'address' in destination ? destination.address : undefined) * words
  const portAt = findInterval(rules.port, destination.port) * words
  const domainAt = findDomain(rules.domain, domain) * words
  const sniffAt = rules.sniffRow * words
  const mayLook = domain === undefined && flow.protocol === 'tcp'
  let looked = false
  for (let word = 0; word < words; word++) {
    const others =
      rows[protocolAt + word]! & rows[sourceAt + word]! & rows[destinationAt + word]! & rows[portAt + word]!
    const hit = others & rows[domainAt + word]!
    const maybe = mayLook ? others & rows[sniffAt + word]! : 0
    if (maybe !== 0) looked = true
    if (hit === 0) continue
    const first = word * 32 + lowestBit(hit)
    return looked && canChange(rules, first, protocolAt, sourceAt, destinationAt, portAt) ? NEEDS_LOOK : first
  }
  if (looked && canChange(rules, NO_RULE, protocolAt, sourceAt, destinationAt, portAt)) return NEEDS_LOOK
  return NO_RULE
}

/** Whether a rule before `found`, which only lacks the domain, has another target. The arguments are places in `rows`. */
function canChange(rules: CompiledRules, found: number, a: number, b: number, c: number, d: number): boolean {
  const { rows, words, targetOf } = rules
  const count = targetOf.length - 1
  const end = found === NO_RULE ? count : found
  const target = targetOf[found === NO_RULE ? count : found]
  const sniffAt = rules.sniffRow * words
  for (let word = 0; word * 32 < end; word++) {
    let maybe = rows[a + word]! & rows[b + word]! & rows[c + word]! & rows[d + word]! & rows[sniffAt + word]!
    for (; maybe !== 0; maybe &= maybe - 1) {
      const rule = word * 32 + lowestBit(maybe)
      if (rule < end && targetOf[rule] !== target) return true
    }
  }
  return false
}

/** Of what `match` has given, but NEEDS_LOOK. */
export function targetOf(rules: CompiledRules, rule: number): Target {
  return rules.targets[rules.targetOf[rule === NO_RULE ? rules.targetOf.length - 1 : rule]!]!
}
