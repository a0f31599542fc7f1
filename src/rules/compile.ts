/**
 * Rules → tables. The result is plain data over shared memory: it may be made in one thread and sent to others, which all see
 * the same tables. Either all of it is made, or an error is thrown and nothing has changed.
 */

import { BitRows, setBit, sharedWords } from './bit-rows.ts'
import { buildCidrTable, type CidrTable } from './cidr-table.ts'
import { buildDomainTable, type DomainTable } from './domain-table.ts'
import { buildIntervals, type IntervalTable } from './interval-table.ts'
import { listFiles, type ParseOptions, parseRules } from './parse.ts'
import type { RawRule } from './raw-rule.ts'
import { readRules } from './raw-rule.ts'
import { CONDITIONS, type Condition, type Protocol, type Rule, type Target, targetText } from './rule.ts'

export interface CompiledRules {
  /** Words in a row, and the rows: a bit for each rule (bit-rows.ts). */
  readonly words: number
  readonly rows: Uint32Array
  readonly protocolRows: { readonly [protocol in Protocol]: number }
  readonly source: CidrTable
  readonly destination: CidrTable
  readonly port: IntervalTable
  readonly domain: DomainTable
  /** The row of the rules that a domain, where it is not known, would have to be looked for. */
  readonly sniffRow: number
  /** For each rule, and last for the default: the place of its target in `targets`. */
  readonly targetOf: Uint32Array
  readonly targets: readonly Target[]
  /** What people are told of the rules. */
  readonly summaries: readonly RuleSummary[]
  /** Absolute paths of the lists that are in it. */
  readonly files: readonly string[]
}

export interface RuleSummary extends Pick<Rule, 'number' | 'name' | 'sniff' | 'texts'> {
  readonly conditions: readonly Condition[]
}

export interface CompileOptions extends ParseOptions {
  /** Where a flow goes that no rule takes. One of `upstreams`. */
  readonly defaultUpstream: string
}

/** The rules of a file's text. Throws ConfigError for the first mistake. */
export function compileText(text: string, options: CompileOptions): CompiledRules {
  return compileRaws(readRules(text, options.file), options)
}

/** The same of rules that were read already. */
export function compileRaws(raws: readonly RawRule[], options: CompileOptions): CompiledRules {
  return compileRules(parseRules(raws, options), options.defaultUpstream, listFiles(raws, options.folder))
}

export function compileRules(
  rules: readonly Rule[],
  defaultUpstream: string,
  files: readonly string[] = [],
): CompiledRules {
  const rows = new BitRows(rules.length)
  const without = (condition: Condition) => bitsOf(rows, rules, rule => rule[condition] === undefined)
  const speaks = (protocol: Protocol) =>
    rows.intern(bitsOf(rows, rules, rule => rule.protocol?.includes(protocol) ?? true))
  const ports = rules.flatMap(({ port = [] }, rule) =>
    port.map(({ first, last }) => ({ first: BigInt(first), last: BigInt(last), rule })),
  )
  const tables = {
    protocolRows: { tcp: speaks('tcp'), udp: speaks('udp') },
    source: cidrs(rules, 'source', without('source'), rows),
    destination: cidrs(rules, 'destination', without('destination'), rows),
    port: buildIntervals(ports, 1, without('port'), rows),
    domain: buildDomainTable(
      rules.map(rule => rule.domain),
      without('domain'),
      rows,
    ),
    sniffRow: rows.intern(bitsOf(rows, rules, rule => rule.sniff)),
  }
  return {
    ...tables,
    ...targetsOf(rules, defaultUpstream),
    files,
    words: rows.words,
    rows: rows.finish(),
    summaries: rules.map(({ number, name, sniff, texts }) => ({
      number,
      name,
      sniff,
      texts,
      conditions: CONDITIONS.filter(condition => texts[condition] !== undefined),
    })),
  }
}

function cidrs(rules: readonly Rule[], condition: 'source' | 'destination', always: Uint32Array, rows: BitRows) {
  return buildCidrTable(
    rules.map(rule => rule[condition]),
    always,
    rows,
  )
}

function bitsOf(rows: BitRows, rules: readonly Rule[], suits: (rule: Rule) => boolean): Uint32Array {
  const bits = new Uint32Array(rows.words)
  rules.forEach((rule, at) => {
    if (suits(rule)) setBit(bits, at)
  })
  return bits
}

function targetsOf(rules: readonly Rule[], defaultUpstream: string) {
  const all: Target[] = [...rules.map(rule => rule.target), { kind: 'upstream', name: defaultUpstream }]
  const texts = [...new Set(all.map(targetText))]
  const targets = texts.map(text => all.find(target => targetText(target) === text)!)
  return { targets, targetOf: sharedWords(all.map(target => texts.indexOf(targetText(target)))) }
}
