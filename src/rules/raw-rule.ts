/** Rules as they are written in YAML, each value with its line. */
import { isMap, isScalar, isSeq, type Node } from 'yaml'
import { checkNesting, lineCounter, parseYaml, refuseAnchors } from '../config/yaml-tree.ts'
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

/** `text` is a list of rules, or a mapping whose one key `rules` is. Throws ConfigError. */
export function readRules(text: string, file: string): RawRule[] {
  if (Buffer.byteLength(text) > MAX_RULES_BYTES) {
    const allowed = `allowed at most ${MAX_RULES_BYTES} (long lists: destinationFile, domainFile)`
    throw ruleError(file, 0, 0, `found ${Buffer.byteLength(text)} bytes, ${allowed}`)
  }
  const deep = 'found nesting that is too deep, allowed a list of rules'
  checkNesting(text, line => ruleError(file, line, 0, deep))
  const document = parseYaml(text)
  const lineOf = lineCounter(text)
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined)
    throw ruleError(file, lineOf(problem.pos[0]), 0, `found what is not YAML (${problem.code})`)
  return rulesOf(document.contents as Node | null, file, node => lineOf(node?.range?.[0] ?? 0))
}

/** `node`: the list, or the mapping with it. Throws ConfigError. */
function rulesOf(node: Node | null, file: string, lineOf: (node: Node | null) => number): RawRule[] {
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
    refuseAnchors(lineOf(found) || line, found, (place, message) => ruleError(file, place, number, message))
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
