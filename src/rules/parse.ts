/**
 * Rules as they are written → rules. Each is a mapping:
 *
 *     - to: office                      # an upstream, a group, direct, reject or drop; the one key that must be there
 *       name: the office                # for logs and explain
 *       protocol: tcp                   # tcp, udp
 *       source: 10.0.0.0/24             # addresses and prefixes
 *       destination: [192.0.2.0/24, 2001:db8::/32]
 *       destinationFile: lists/nets.txt
 *       port: [443, 8000-8999]
 *       domain: git.example.org         # this name alone
 *       domainSuffix: example.org       # this name and all below it
 *       domainFile: lists/names.txt     # as its lines say
 *       domainSuffixFile: lists/ads.txt # all its names and those below
 *       sniff: true                     # where the name is not known, look for it in the first bytes (TCP)
 *
 * Keys with another beginning are ANDed, values ORed, and so are the two keys of `destination` and the four of `domain`. A rule
 * without conditions takes all; behind it there can be none.
 */

import { isUtf8 } from 'node:buffer'
import { resolve } from 'node:path'
import { FormatError } from '../config/format-error.ts'
import { fileError, readRegularFile } from '../config/regular-file.ts'
import { suggestion } from '../config/suggest.ts'
import { ConfigError } from '../errors.ts'
import { escapeControls, quote } from '../redact.ts'
import { ListError, parseCidrList, parseDomainList } from './list-file.ts'
import type { RawKey, RawRule, RawValue } from './raw-rule.ts'
import { CONDITIONS, type Condition, type Rule, ruleText } from './rule.ts'
import { ruleError } from './rule-error.ts'
import { parseCidr, parseDomain, parsePortRange, parseProtocol, parseTarget } from './values.ts'

export interface ParseOptions {
  /** For errors: the file of the rules, or another word for where they stand. */
  readonly file: string
  /** Paths of lists begin here. */
  readonly folder: string
  /** The names that a rule may send to: upstreams and groups. */
  readonly upstreams: readonly string[]
}

/** A matcher's rows have a bit for each rule. */
export const MAX_RULES = 4096
/** A million names of usual length. */
const MAX_LIST_BYTES = 32 * 1024 * 1024
const MAX_NAME_CHARS = 60

type ParseValue = (text: string, options: ParseOptions) => readonly unknown[]

/** Each key of a condition, and its values. A file stands for the entries in it. */
const KEYS: { readonly [key: string]: readonly [Condition, ParseValue] } = {
  protocol: ['protocol', text => [parseProtocol(text)]],
  source: ['source', text => [parseCidr(text)]],
  destination: ['destination', text => [parseCidr(text)]],
  destinationFile: ['destination', (text, options) => fromFile(text, options, parseCidrList)],
  port: ['port', text => [parsePortRange(text)]],
  domain: ['domain', text => [{ name: parseDomain(text), below: false }]],
  domainSuffix: ['domain', text => [{ name: parseDomain(text), below: true }]],
  domainFile: ['domain', (text, options) => fromFile(text, options, list => parseDomainList(list, false))],
  domainSuffixFile: ['domain', (text, options) => fromFile(text, options, list => parseDomainList(list, true))],
}

/** The keys that have one value, and what they give. */
const SINGLE: { readonly [key: string]: (text: string, options: ParseOptions) => unknown } = {
  to: (text, { upstreams }) => parseTarget(text, upstreams),
  name: parseName,
  sniff: parseSniff,
}

/** Throws ConfigError for the first mistake. */
export function parseRules(raws: readonly RawRule[], options: ParseOptions): Rule[] {
  if (raws.length > MAX_RULES) {
    const allowed = `allowed at most ${MAX_RULES} (a rule may hold lists)`
    throw ruleError(options.file, raws[MAX_RULES]!.line, 0, `found ${raws.length} rules, ${allowed}`)
  }
  const rules: Rule[] = []
  let all: Rule | undefined
  for (const [at, raw] of raws.entries()) {
    const rule = new RuleReader(raw, at + 1, options).read()
    if (all !== undefined) {
      const reason = `cannot be reached: ${ruleText(all)} has no condition and takes every flow`
      throw ruleError(options.file, raw.line, rule.number, reason)
    }
    if (CONDITIONS.every(condition => rule[condition] === undefined)) all = rule
    rules.push(rule)
  }
  return rules
}

/** Absolute paths of the lists that rules name, each once. */
export function listFiles(raws: readonly RawRule[], folder: string): string[] {
  const keys = raws.flatMap(raw => raw.keys).filter(({ key }) => key.endsWith('File'))
  return [...new Set(keys.flatMap(({ values }) => values.map(({ text }) => resolve(folder, text))))]
}

/** One rule while it is read. */
class RuleReader {
  readonly #raw: RawRule
  readonly #number: number
  readonly #options: ParseOptions
  readonly #single: { [key: string]: unknown } = {}
  readonly #values: { [condition in Condition]?: unknown[] } = {}
  readonly #texts: { [condition in Condition]?: string[] } = {}

  constructor(raw: RawRule, number: number, options: ParseOptions) {
    this.#raw = raw
    this.#number = number
    this.#options = options
  }

  read(): Rule {
    const seen = new Set<string>()
    for (const key of this.#raw.keys) {
      if (seen.has(key.key)) throw this.#refuse(key, key.line, 'found twice, allowed once')
      seen.add(key.key)
      if (Object.hasOwn(SINGLE, key.key)) this.#readSingle(key)
      else if (Object.hasOwn(KEYS, key.key)) this.#readCondition(key)
      else throw this.#refuse(key, key.line, unknownKey(key.key))
    }
    const { to, name = '', sniff = false } = this.#single
    const fault = (message: string) => ruleError(this.#options.file, this.#raw.line, this.#number, message)
    if (to === undefined) throw fault('to: found nothing, allowed a target')
    if (sniff === true && (this.#values.domain === undefined || this.#values.protocol?.join() === 'udp')) {
      throw fault('sniff: found true, allowed with a condition on the domain, and for TCP')
    }
    const texts = Object.fromEntries(Object.entries(this.#texts).map(([condition, all]) => [condition, firstOf(all)]))
    return { ...this.#values, number: this.#number, name, sniff, target: to, texts } as unknown as Rule
  }

  #readSingle(key: RawKey): void {
    const [value, more] = key.values
    if (value === undefined || more !== undefined) throw this.#refuse(key, key.line, 'found a list, allowed one value')
    this.#single[key.key] = this.#guarded(key, value, () => SINGLE[key.key]!(value.text, this.#options))
  }

  #readCondition(key: RawKey): void {
    if (key.values.length === 0) throw this.#refuse(key, key.line, 'found an empty list, allowed values')
    const [condition, parse] = KEYS[key.key]!
    this.#values[condition] ??= []
    this.#texts[condition] ??= []
    for (const value of key.values) {
      const entries = this.#guarded(key, value, () => parse(value.text, this.#options))
      for (const entry of entries) this.#values[condition].push(entry)
      this.#texts[condition].push(key.key.endsWith('File') ? listText(value.text, entries.length) : value.text)
    }
  }

  #guarded<T>(key: RawKey, value: RawValue, parse: () => T): T {
    try {
      return parse()
    } catch (error) {
      if (error instanceof FormatError) throw this.#refuse(key, value.line, error.message)
      throw error instanceof ConfigError ? this.#refuse(key, value.line, error.message) : error
    }
  }

  #refuse(key: RawKey, line: number, message: string): ConfigError {
    const name = /^[\w-]{1,40}$/.test(key.key) ? key.key : quote(key.key)
    return ruleError(this.#options.file, line, this.#number, `${name}: ${message}`)
  }
}

/** Throws ConfigError that begins with the list's path and line. */
function fromFile<T>(path: string, { folder }: ParseOptions, parse: (text: string) => T[]): T[] {
  if (path === '' || path.includes('\0')) throw new FormatError(quote(path), 'the path of a file')
  const bytes = readRegularFile(resolve(folder, path), MAX_LIST_BYTES)
  if (!isUtf8(bytes)) throw fileError(path, 0, 'found bytes that are not UTF-8, allowed UTF-8 text')
  try {
    return parse(bytes.toString('utf8').replace(/^\ufeff/, ''))
  } catch (error) {
    throw error instanceof ListError ? fileError(path, error.line, error.message) : error
  }
}

function parseName(text: string): string {
  if (text !== '' && text.length <= MAX_NAME_CHARS && !/[\p{C}\p{Zl}\p{Zp}]/u.test(text)) return text
  throw new FormatError(quote(text), `1 to ${MAX_NAME_CHARS} printable characters`)
}

function parseSniff(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  throw new FormatError(quote(text), 'true or false')
}

function unknownKey(key: string): string {
  const words = [...Object.keys(SINGLE), ...Object.keys(KEYS)]
  const near = suggestion(key, words)
  return `unknown key${near === '' ? `, allowed ${words.join(', ')}` : near}`
}

/** How many values of a condition its text holds. */
const MAX_SHOWN = 3

function firstOf(texts: readonly string[]): string {
  const shown = texts.slice(0, MAX_SHOWN).join(', ')
  return texts.length > MAX_SHOWN ? `${shown}, … (${texts.length} in all)` : shown
}

function listText(path: string, entries: number): string {
  return `${escapeControls(path)} (${entries} ${entries === 1 ? 'entry' : 'entries'})`
}
