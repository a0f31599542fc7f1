/** Where the flows of a data plane go: by rules, and through which dialer. Rules may be replaced at any time. */
import type { IpEndpoint } from '../endpoint.ts'
import type { Decision, NameLookup, RoutedFlow, Router } from '../flow/router.ts'
import type { CompiledRules } from '../rules/compile.ts'
import { match, NEEDS_LOOK, NO_RULE } from '../rules/matcher.ts'
import { type RuleFlow, ruleText, type Target, targetText } from '../rules/rule.ts'
import type { Dialer } from '../upstream/dialer.ts'
import type { Dialers } from '../upstream/upstreams.ts'

/** Rules in TypeScript or JavaScript; `name` for people. */
export interface ScriptedRules {
  readonly name: string
  verdict(flow: RuleFlow): Promise<Target | undefined>
}

/** Of a data plane, by the names of upstreams and groups; `direct` is always there. */
export type RoutedDialers = Pick<Dialers, 'get' | 'isUpstream' | 'counters' | 'close'>

/** None: everything goes to the default. */
export type ActiveRules =
  | { readonly kind: 'none' }
  | { readonly kind: 'tables'; readonly rules: CompiledRules }
  | { readonly kind: 'script'; readonly script: ScriptedRules }

const LOOK: Decision = { kind: 'look', why: 'its first bytes are waited for' }
const ASK: Decision = { kind: 'ask', why: 'its verdict is waited for' }

export class RulesRouter implements Router {
  single: Dialer | undefined
  readonly names: NameLookup | undefined
  revision = 0
  readonly #dialers: RoutedDialers
  readonly #defaultUpstream: string
  #active: ActiveRules = { kind: 'none' }
  /** For each rule, and last for the default. */
  #decisions: readonly Decision[] = []
  /** Of a script, by the target. */
  readonly #verdicts = new Map<string, Decision>()

  constructor(dialers: RoutedDialers, defaultUpstream: string, names?: NameLookup) {
    this.#dialers = dialers
    this.#defaultUpstream = defaultUpstream
    this.names = names
    this.replace({ kind: 'none' })
  }

  /** For flows that begin from now on. Where it throws, nothing has changed. */
  replace(active: ActiveRules): void {
    const byDefault: Target = { kind: 'upstream', name: this.#defaultUpstream }
    const decisions = [this.#decision(byDefault, 'no rule')]
    if (active.kind === 'tables') {
      const { summaries, targets, targetOf } = active.rules
      decisions.unshift(...summaries.map((rule, at) => this.#decision(targets[targetOf[at]!]!, ruleText(rule))))
    }
    this.#decisions = decisions
    this.#active = active
    this.#verdicts.clear()
    const isEmpty = active.kind === 'none' || (active.kind === 'tables' && active.rules.summaries.length === 0)
    this.single = isEmpty && this.names === undefined ? this.#dialers.get(this.#defaultUpstream) : undefined
    this.revision++
  }

  decide(flow: RoutedFlow): Decision {
    const active = this.#active
    if (active.kind === 'script') return ASK
    if (active.kind === 'none') return this.#decisions[0]!
    const rule = match(active.rules, flow)
    if (rule === NEEDS_LOOK) return LOOK
    return this.#decisions[rule === NO_RULE ? this.#decisions.length - 1 : rule]!
  }

  async ask(flow: RoutedFlow): Promise<Decision> {
    const active = this.#active
    if (active.kind !== 'script') return this.decide(flow)
    const { script } = active
    const target = (await script.verdict(flow)) ?? { kind: 'upstream', name: this.#defaultUpstream }
    const text = targetText(target)
    const known = this.#verdicts.get(text)
    if (known !== undefined) return known
    const made = this.#decision(target, script.name)
    if (this.#active === active) this.#verdicts.set(text, made)
    return made
  }

  #decision(target: Target, reason: string): Decision {
    const text = targetText(target)
    const why = `${reason}: ${text}`
    if (target.kind === 'reject' || target.kind === 'drop') return { kind: target.kind, why }
    return { kind: 'dial', dialer: this.#dialers.get(text), why }
  }

  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.#dialers.isUpstream(destination, client)
  }

  counters(): Record<string, number> {
    return this.#dialers.counters()
  }

  close(): void {
    this.#dialers.close()
  }
}
