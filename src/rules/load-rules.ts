/** Where the rules of a gateway stand, and how they are read: apart from the data path, all of them or none. */
import { isUtf8 } from 'node:buffer'
import { dirname, extname } from 'node:path'
import { fileError, readRegularFile } from '../config/regular-file.ts'
import type { RulesOptions } from '../options.ts'
import { escapeControls } from '../redact.ts'
import type { CompiledRules } from './compile.ts'
import { compileApart } from './compile-thread.ts'
import { MAX_RULES_BYTES } from './raw-rule.ts'
import { ruleText } from './rule.ts'
import { loadScript } from './script.ts'

export interface RulesTargets {
  /** The names that a rule may send to: upstreams and groups. */
  readonly upstreams: readonly string[]
  /** Of these the one for flows that no rule takes. */
  readonly defaultUpstream: string
}

/** Plain data, for any thread. */
export type LoadedRules =
  | { readonly kind: 'tables'; readonly rules: CompiledRules }
  /** Each thread loads it for itself; that it can be loaded is known. */
  | { readonly kind: 'script'; readonly file: string }

const SCRIPTS = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts']

export function isScript(file: string): boolean {
  return SCRIPTS.includes(extname(file))
}

/** Throws ConfigError with file and line, and the signal's reason when it is aborted. */
export async function loadRules(
  source: RulesOptions,
  { upstreams, defaultUpstream }: RulesTargets,
  signal?: AbortSignal,
): Promise<LoadedRules> {
  const { file, written, place, folder } = source
  if (file === '') {
    const options = { file: place, folder, upstreams, defaultUpstream }
    return { kind: 'tables', rules: await compileApart(written, options, signal) }
  }
  if (isScript(file)) {
    const script = await loadScript({ file, upstreams, onComplaint: () => {} })
    await script.close()
    return { kind: 'script', file }
  }
  const options = { file: escapeControls(file), folder: dirname(file), upstreams, defaultUpstream }
  return { kind: 'tables', rules: await compileApart(readRulesText(file), options, signal) }
}

/** Throws ConfigError. */
export function readRulesText(file: string): string {
  const bytes = readRegularFile(file, MAX_RULES_BYTES)
  if (!isUtf8(bytes)) throw fileError(file, 0, 'found bytes that are not UTF-8, allowed UTF-8 text')
  return bytes.toString('utf8').replace(/^\ufeff/, '')
}

/**
 * Rules on names that are never known: no address stands for a name (`dns.mode` is not map), and no rule has the first bytes looked
 * at. One line for all of them; undefined when there are none.
 */
export function deafRules({ summaries }: CompiledRules): string | undefined {
  if (summaries.some(({ sniff }) => sniff)) return undefined
  const deaf = summaries.filter(({ conditions }) => conditions.includes('domain'))
  if (deaf.length === 0) return undefined
  const [first] = deaf
  const more = deaf.length === 1 ? '' : ` and ${deaf.length - 1} more`
  return `${ruleText(first!)}${more}: no flow has a name to match, for that takes sniff: true, or dns.mode map`
}

/** What a change of may change the rules. */
export function filesOf({ file }: RulesOptions, loaded: LoadedRules): string[] {
  const lists = loaded.kind === 'tables' ? loaded.rules.files : []
  return file === '' ? [...lists] : [file, ...lists]
}
