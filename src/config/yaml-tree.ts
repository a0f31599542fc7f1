/**
 * YAML as a plain tree with lines, for the keys whose values are lists and mappings. Scalars are kept as they are written, so
 * that the formats can refuse `1e3` or `0x10`, which a parser would have made numbers of. What is refused in all of a file
 * (anchors, tags, deep nesting, a key twice) is refused here.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, Lexer, type Node, parseDocument, type Scalar } from 'yaml'
import { FormatError } from './format-error.ts'
import { keyText, type Tree } from './tree.ts'

/** Makes the error that is thrown for a line. */
export type Refuse = (line: number, message: string) => Error

/** The parser's time grows with the square of the nesting, and its stack with it; no key needs more. */
const MAX_NESTING = 8

/** Throws what `refuse` makes. */
export function checkNesting(text: string, refuse: Refuse): void {
  let line = 1
  let brackets = 0
  let dashes = 0
  for (const token of new Lexer().lex(text)) {
    if (token === '[' || token === '{') brackets++
    else if (token === ']' || token === '}') brackets--
    else if (token === '-' || token === '?') dashes++
    else if (token.endsWith('\n')) dashes = 0
    if (brackets > MAX_NESTING || dashes > MAX_NESTING) {
      throw refuse(line, 'found nesting that is too deep, allowed sections of keys')
    }
    line += token.split('\n').length - 1
  }
}

/** Lines of offsets, by a search: counting from the start each time would be quadratic. */
export function lineCounter(text: string): (offset: number) => number {
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

/** Schema `failsafe` leaves every scalar the text that it is in the file; keys are compared by us, with their lines. */
export function parseYaml(text: string): Document.Parsed {
  const depth = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return parseDocument(text, { schema: 'failsafe', uniqueKeys: false, prettyErrors: false, logLevel: 'error' })
  } finally {
    Error.stackTraceLimit = depth
  }
}

/**
 * @param lineOf the line on which a node begins
 * @param line of the key whose value it is
 */
export function treeOf(node: Node | null, line: number, lineOf: (node: Node) => number, refuse: Refuse): Tree {
  const at = node === null ? line : lineOf(node)
  refuseAnchors(at, node, refuse)
  if (isScalar(node)) return scalar(node)
  if (isSeq(node)) {
    const items = node.items as (Node | null)[]
    return { items: items.map(item => ({ line: itemLine(item, at, lineOf), value: treeOf(item, at, lineOf, refuse) })) }
  }
  if (!isMap(node)) return null
  const seen = new Map<string, number>()
  const entries = node.items.map(pair => {
    const keyNode = pair.key as Node | null
    const keyLine = itemLine(keyNode, at, lineOf)
    refuseAnchors(keyLine, keyNode, refuse)
    if (!isScalar(keyNode) || typeof keyNode.value !== 'string' || keyNode.value === '')
      throw refuse(keyLine, `found ${nodeKind(keyNode)} as a key, allowed the name of a key`)
    const key = keyNode.value
    const earlier = seen.get(key)
    if (earlier !== undefined) {
      const first = earlier === 0 ? '' : ` (first on line ${earlier})`
      throw refuse(keyLine, `found ${keyText(key)} twice${first}, allowed each key once`)
    }
    seen.set(key, keyLine)
    return { key, line: keyLine, value: treeOf(pair.value as Node | null, keyLine, lineOf, refuse) }
  })
  return { entries }
}

const itemLine = (node: Node | null, line: number, lineOf: (node: Node) => number) =>
  node === null ? line : lineOf(node)

/** What a file has is a tree already; a variable and a flag may have one in flow style. */
export function treeFrom(raw: unknown, allowed: string): Tree {
  return typeof raw === 'string' && /^[[{]/.test(raw) ? flowTree(raw, allowed) : (raw as Tree)
}

/** A list or a mapping of a variable or a flag, in YAML's flow style, which JSON is too. Throws FormatError. */
function flowTree(text: string, allowed: string): Tree {
  const refuse = (_line: number, message: string) => {
    const [found, more] = message.split(/, allowed (.*)/s) as [string, string?]
    return new FormatError(found.replace(/^found /, ''), more ?? allowed)
  }
  if (Buffer.byteLength(text) > MAX_FLOW_BYTES)
    throw new FormatError(`more than ${MAX_FLOW_BYTES} bytes`, 'a configuration file for that much')
  checkNesting(text, refuse)
  const document = parseYaml(text)
  if (document.errors.length + document.warnings.length > 0)
    throw new FormatError('brackets or braces that are not YAML', allowed)
  return treeOf(document.contents, 0, () => 0, refuse)
}

/** As a file: the parser needs many milliseconds a kilobyte in the worst case. */
const MAX_FLOW_BYTES = 32_768

/** Unquoted null and true of the YAML 1.2 core schema (section 10.3.2); the rest as it is written. */
export function scalar(node: Scalar): string | boolean | null {
  const source = String(node.value)
  if (node.type !== 'PLAIN') return source
  if (/^(~|null|Null|NULL|)$/.test(source)) return null
  if (/^(true|True|TRUE)$/.test(source)) return true
  return /^(false|False|FALSE)$/.test(source) ? false : source
}

/** Throws what `refuse` makes. */
export function refuseAnchors(line: number, node: Node | null, refuse: Refuse): void {
  if (isAlias(node)) throw refuse(line, 'found an alias (*), allowed plain values')
  if (node === null) return
  if ('anchor' in node && node.anchor !== undefined) throw refuse(line, 'found an anchor (&), allowed plain values')
  if (node.tag !== undefined) throw refuse(line, 'found a tag (!), allowed plain values')
}

export function nodeKind(node: Node | null): string {
  if (isMap(node)) return 'a mapping'
  if (!isScalar(node)) return node === null ? 'null' : 'a list'
  const value = scalar(node)
  return typeof value === 'string' ? 'a text' : String(value)
}
