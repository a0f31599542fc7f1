/** Command-line flags: one for each key, made from its path, and the short forms. `--flag VALUE` and `--flag=VALUE`. */
import type { FlagEntry } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { quote } from '../redact.ts'
import { flagOf, KEYS } from './keys.ts'
import { suggestion } from './suggest.ts'

export interface Flags {
  readonly flags: readonly FlagEntry[]
  readonly file?: string
  readonly help: boolean
  readonly switches: ReadonlySet<string>
  /** Of the command's own flags. */
  readonly values: ReadonlyMap<string, string>
  /** What is no flag. */
  readonly words: readonly string[]
}

/** The flags that a command takes: all keys, or those in `paths`; `switches` take no value, its own `values` do. */
export interface FlagSet {
  readonly command: string
  readonly paths: readonly string[] | 'all'
  readonly switches: readonly string[]
  readonly values?: readonly string[]
}

export function usageError(message: string): ConfigError {
  return new ConfigError('USAGE', message)
}

/** Throws ConfigError. A flag given twice: the last counts. */
export function parseFlags(args: readonly string[], set: FlagSet): Flags {
  const known = flagPaths(set.paths)
  const flags: FlagEntry[] = []
  const words: string[] = []
  const switches = new Set<string>()
  const values = new Map<string, string>()
  let file: string | undefined
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!
    if (!/^-./.test(word)) {
      words.push(word)
      continue
    }
    const equals = word.indexOf('=')
    const flag = equals < 0 ? word : word.slice(0, equals)
    if (flag === '--help' || flag === '-h' || set.switches.includes(flag)) {
      if (equals >= 0) throw usageError(`${flag}: takes no value`)
      switches.add(flag)
      continue
    }
    const path = known.get(flag)
    const isOwn = set.values?.includes(flag)
    if (path === undefined && flag !== '--config' && !isOwn) throw unknownFlag(flag, set, [...known.keys()])
    const raw = equals < 0 ? args[++at] : word.slice(equals + 1)
    if (raw === undefined || (equals < 0 && raw.startsWith('--'))) {
      const name = path ?? (isOwn ? set.command : 'the configuration file')
      throw usageError(`${flag}: found no value for ${name} (write ${flag} VALUE or ${flag}=VALUE)`)
    }
    if (isOwn) values.set(flag, raw)
    else if (path === undefined) file = raw
    else flags.push({ flag, path, raw })
  }
  const help = switches.has('--help') || switches.has('-h')
  return { flags, ...(file === undefined ? {} : { file }), help, switches, values, words }
}

function flagPaths(paths: FlagSet['paths']): Map<string, string> {
  const found = new Map<string, string>()
  for (const key of KEYS) {
    if (paths !== 'all' && !paths.includes(key.path)) continue
    found.set(flagOf(key), key.path)
    if (key.short !== undefined) found.set(key.short, key.path)
  }
  return found
}

function unknownFlag(flag: string, set: FlagSet, known: readonly string[]): ConfigError {
  const name = /^[\w-]{1,60}$/.test(flag) ? flag : quote(flag)
  const near = suggestion(flag, [...known, '--config', '--help', ...set.switches, ...(set.values ?? [])])
  return usageError(
    `${name}: unknown flag of ${set.command}${near === '' ? `, see tungate ${set.command} --help` : near}`,
  )
}
