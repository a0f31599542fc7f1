/** Rules as they are written in YAML, each value with its line. */
import { isAlias, isMap, isScalar, isSeq, Lexer, type Node, parseDocument } from 'yaml'
import { quote } from '../redact.ts'
import { ruleError } from './rule-error.ts'

export interface RawValue {
  readonly text: string
  /** 1 for the first; 0 where there are no lines. */
  readonly line: number
}

export interface RawKey {
  readonly key: string
  readonly line: number
  /** One for a scalar; a list that is empty is none. */
  readonly values: readonly RawValue[]
}

export interface RawRule {
  readonly line: number
  readonly keys: readonly RawKey[]
}

/** The time that the YAML parser needs grows with this; long lists stand in files of their own. */
export const MAX_RULES_BYTES = 262_144

/** The parser's time grows with the square of the nesting; rules need a depth of three. */
const MAX_NESTING = 8

/** `text` is a list of rules, or a mapping whose one key `rules` is. Throws ConfigError. */
export function readRules(text: string, file: string): RawRule[] {
  if (Buffer.byteLength(text) > MAX_RULES_BYTES) {
    const allowed = `allowed at most ${MAX_RULES_BYTES} (long lists: destinationFile, domainFile)`
    throw ruleError(file, 0, 0, `found ${Buffer.byteLength(text)} bytes, ${allowed}`)
  }
  checkNesting(text, file)
  const document = parseDocument(text, {
    schema: 'failsafe',
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'error',
  })
  const lineOf = lineCounter(text)
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined)
    throw ruleError(file, lineOf(problem.pos[0]), 0, `found what is not YAML (${problem.code})`)
  return rulesOf(document.contents as Node | null, file, node => lineOf(node?.range?.[0] ?? 0))
}

/** `node`: the list, or the mapping with it, of a document that was parsed with the schema `failsafe`. Throws ConfigError. */
export function rulesOf(node: Node | null, file: string, lineOf: (node: Node | null) => number): RawRule[] {
  let list = node
  if (isMap(node) && node.items.length === 1 && keyText(node.items[0]!.key) === 'rules') {
    list = node.items[0]!.value as Node | null
  }
  if (list === null || (isScalar(list) && list.value === '')) return []
  if (!isSeq(list)) throw ruleError(file, lineOf(list), 0, 'found no list, allowed a list of rules (- to: …)')
  return list.items.map((item, at) => rawRule(item as Node | null, file, at + 1, lineOf))
}

function rawRule(node: Node | null, file: string, number: number, lineOf: (node: Node | null) => number): RawRule {
  const line = lineOf(node)
  const fault = (at: Node | null, message: string) => ruleError(file, lineOf(at) || line, number, message)
  const plain = (at: unknown): Node | null => {
    const found = at as Node | null
    if (isAlias(found)) throw fault(found, 'found an alias (*), allowed plain values')
    if (found !== null && (('anchor' in found && found.anchor !== undefined) || found.tag !== undefined)) {
      throw fault(found, 'found an anchor (&) or a tag (!), allowed plain values')
    }
    return found
  }
  const map = plain(node)
  if (!isMap(map)) throw fault(node, 'found no mapping, allowed "to: TARGET" and conditions')
  const keys = map.items.map(pair => {
    const keyNode = plain(pair.key)
    const key = keyText(keyNode)
    if (key === undefined) throw fault(keyNode, 'found a key that is no text')
    const value = plain(pair.value)
    const values = (isSeq(value) ? value.items : [value]).map(each => {
      const scalar = plain(each)
      if (isScalar(scalar)) return { text: String(scalar.value), line: lineOf(scalar) }
      throw fault(scalar ?? keyNode, `${quote(key)}: found no text, allowed a value or a list of values`)
    })
    return { key, line: lineOf(keyNode), values }
  })
  return { line, keys }
}

function keyText(node: unknown): string | undefined {
  return isScalar(node) && typeof node.value === 'string' ? node.value : undefined
}

function checkNesting(text: string, file: string): void {
  let line = 1
  let brackets = 0
  let dashes = 0
  for (const token of new Lexer().lex(text)) {
    if (token === '[' || token === '{') brackets++
    else if (token === ']' || token === '}') brackets--
    else if (token === '-' || token === '?') dashes++
    else if (token.endsWith('\n')) dashes = 0
    if (brackets > MAX_NESTING || dashes > MAX_NESTING) {
      throw ruleError(file, line, 0, 'found nesting that is too deep, allowed a list of rules')
    }
    line += token.split('\n').length - 1
  }
}

/** Lines of ascending or descending offsets, by a search: counting from the start each time would be quadratic. */
function lineCounter(text: string): (offset: number) => number {
  const starts = [0]
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1)
  return offset => {
    let low = 0
    let high = starts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (starts[middle]! <= offset) low = middle
      else high = middle - 1
    }
    return low + 1
  }
}
