/** Why a flow goes where it goes: the same tables that `match` reads, one rule after the other. */
import { formatAddress, formatEndpoint } from '../endpoint.ts'
import { escapeControls } from '../redact.ts'
import { hasBit } from './bit-rows.ts'
import { findAddress } from './cidr-table.ts'
import type { CompiledRules, RuleSummary } from './compile.ts'
import { findDomain, shortestSuffix } from './domain-table.ts'
import { findInterval } from './interval-table.ts'
import { match, NEEDS_LOOK, NO_RULE, targetOf } from './matcher.ts'
import { CONDITIONS, type Condition, type RuleFlow, ruleText, targetText } from './rule.ts'

export interface RuleStep {
  /** 1 for the first rule. */
  readonly number: number
  readonly name: string
  /** 'unknown': it only lacks the domain, which the first bytes may tell. */
  readonly result: 'match' | 'differs' | 'unknown'
  /** The first condition that does not hold. */
  readonly condition?: Condition
  /** `port 80: not 443, 8000-8999`; of a match all its conditions. */
  readonly reason: string
}

export interface Explanation {
  /** The number of the rule; 0: none, so that the default holds. */
  readonly rule: number
  readonly name: string
  /** A target, or what a look at the first bytes may still change. */
  readonly target: string
  readonly needsLook: boolean
  /** The rules up to the one that takes the flow. */
  readonly steps: readonly RuleStep[]
}

export function explain(rules: CompiledRules, flow: RuleFlow): Explanation {
  const verdict = match(rules, flow)
  // what holds if the look finds nothing
  const settled = verdict === NEEDS_LOOK ? match(rules, { ...flow, domain: '' }) : verdict
  const last = settled === NO_RULE ? rules.summaries.length : settled + 1
  const steps = rules.summaries.slice(0, last).map((rule, at) => explainRule(rules, flow, rule, at))
  const summary = rules.summaries[settled]
  return {
    rule: summary?.number ?? 0,
    name: summary?.name ?? '',
    target: targetText(targetOf(rules, settled)),
    needsLook: verdict === NEEDS_LOOK,
    steps,
  }
}

function explainRule(rules: CompiledRules, flow: RuleFlow, rule: RuleSummary, at: number): RuleStep {
  const { number, name } = rule
  const holds = (condition: Condition) => hasBit(rules.rows, rowOf(rules, flow, condition) * rules.words, at)
  const condition = CONDITIONS.find(each => !holds(each))
  if (condition === undefined) {
    const reasons = rule.conditions.map(each => held(rules, flow, rule, at, each))
    return { number, name, result: 'match', reason: reasons.join('; ') || 'it has no condition' }
  }
  const looks = condition === 'domain' && rule.sniff && flow.protocol === 'tcp' && knownDomain(flow) === undefined
  const reason = missed(flow, rule, condition, looks)
  return { number, name, result: looks ? 'unknown' : 'differs', condition, reason }
}

function rowOf(rules: CompiledRules, flow: RuleFlow, condition: Condition): number {
  if (condition === 'protocol') return rules.protocolRows[flow.protocol]
  if (condition === 'source') return findAddress(rules.source, flow.source.address)
  if (condition === 'destination') return findAddress(rules.destination, addressOf(flow))
  if (condition === 'port') return findInterval(rules.port, flow.destination.port)
  return findDomain(rules.domain, knownDomain(flow))
}

function addressOf({ destination }: RuleFlow): Uint8Array | undefined {
  return 'address' in destination ? destination.address : undefined
}

function knownDomain({ domain, destination }: RuleFlow): string | undefined {
  return domain ?? ('name' in destination ? destination.name : undefined)
}

/** `port 443`; the flow's side of a condition. */
function flowText(flow: RuleFlow, condition: Condition): string {
  if (condition === 'protocol') return `protocol ${flow.protocol}`
  if (condition === 'source') return `source ${formatAddress(flow.source.address)}`
  if (condition === 'port') return `port ${flow.destination.port}`
  const address = addressOf(flow)
  if (condition === 'destination')
    return `destination ${address === undefined ? 'known by name only' : formatAddress(address)}`
  const domain = knownDomain(flow)
  if (domain === undefined) return 'domain not known'
  return domain === '' ? 'no domain' : `domain ${escapeControls(domain)}`
}

function missed(flow: RuleFlow, rule: RuleSummary, condition: Condition, looks: boolean): string {
  const wanted = `${flowText(flow, condition)}: not ${rule.texts[condition]}`
  if (looks) return `${flowText(flow, condition)}, to be looked for in the first bytes: ${rule.texts[condition]}`
  if (condition === 'domain' && knownDomain(flow) === undefined && !rule.sniff) return `${wanted} (no sniff: true)`
  return wanted
}

function held(rules: CompiledRules, flow: RuleFlow, rule: RuleSummary, at: number, condition: Condition) {
  const value = flowText(flow, condition)
  const text = rule.texts[condition]
  const domain = condition === 'domain' ? knownDomain(flow) : undefined
  if (domain === undefined) return `${value}: ${text}`
  const entry = shortestSuffix(rules.domain, domain, row => hasBit(rules.rows, row * rules.words, at))
  return `${value}: ${entry} of ${text}`
}

/** For people: what is asked. */
export function askedText(flow: RuleFlow): string {
  const { destination } = flow
  const isKnown = 'name' in destination || 'address' in destination
  const domain = 'name' in destination ? '' : flow.domain ? ` (${escapeControls(flow.domain)})` : ''
  // a user who asks what would happen need not name a port
  const source = flow.source.port === 0 ? formatAddress(flow.source.address) : formatEndpoint(flow.source)
  const to = isKnown ? escapeControls(formatEndpoint(destination)) : `port ${destination.port}`
  return `${flow.protocol} ${source} to ${to}${domain}`
}

export function stepLines({ steps }: Explanation): string[] {
  const verbs = { match: 'takes it', differs: 'does not match', unknown: 'may match' }
  return steps.map(step => `${ruleText(step)} ${verbs[step.result]}: ${step.reason}`)
}

export function outcomeText({ rule, name, target, needsLook }: Explanation): string {
  const reason = rule === 0 ? 'no rule takes it: the default' : ruleText({ number: rule, name })
  const look = needsLook ? ', unless the first bytes name another domain' : ''
  return `goes to ${target}: ${reason}${look}`
}
