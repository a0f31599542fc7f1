/** The types of a rules file in TypeScript or JavaScript, and the function that gives them to an editor. */

/** What a rules file is told of a flow. Only what is read counts for the cache of verdicts, so read only what you need. */
export interface ScriptFlow {
  readonly protocol: 'tcp' | 'udp'
  /** `10.0.0.2`, `fd00::2` (RFC 5952). */
  readonly source: string
  /** '' where the flow is known by its name only. */
  readonly destination: string
  readonly port: number
  /** In lower case; '' where it is not known. */
  readonly domain: string
}

/**
 * The name of an upstream or group, `direct`, `reject`, `drop`, or undefined: the default. What is read alone must decide, for
 * the verdict is cached by it. A promise is waited for as long as the time limit goes.
 */
export type ScriptVerdict = string | undefined
export type ScriptRules = (flow: ScriptFlow) => ScriptVerdict | Promise<ScriptVerdict>

/** `export default defineRules(flow => (flow.port === 25 ? 'reject' : undefined))` */
export function defineRules(rules: ScriptRules): ScriptRules {
  return rules
}
