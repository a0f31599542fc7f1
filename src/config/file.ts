/**
 * A configuration file, YAML 1.2 or (named .json) JSON, as a list of keys with the lines they stand on. What a key holds is
 * as it is written: a scalar, or the tree of a key whose format takes one.
 *
 * The errors are our own sentences: those of the parsers repeat pieces of the file, where a password may stand.
 */
import { isUtf8 } from 'node:buffer'
import { isMap, isScalar, type Node } from 'yaml'
import type { ConfigError } from '../errors.ts'
import { findJsonError } from './json.ts'
import { KEYS, type Key, SECTIONS } from './keys.ts'
import { fileError, readRegularFile } from './regular-file.ts'
import { suggestion } from './suggest.ts'
import { keyText } from './tree.ts'
import {
  checkNesting,
  lineCounter,
  nodeKind,
  parseYaml,
  type Refuse,
  refuseAnchors,
  scalar,
  treeOf,
} from './yaml-tree.ts'

export interface FileEntry {
  readonly path: string
  /** A text, null or a boolean; a Tree where the format is structured; an empty list or object for what no scalar is. */
  readonly raw: unknown
  /** 1 for the first. */
  readonly line: number
}

/** The YAML parser needs many milliseconds a kilobyte in the worst case, and a wrong file is to be told within a second. */
const MAX_FILE_BYTES = 32_768

/** Throws ConfigError. */
export function readConfigFile(file: string): FileEntry[] {
  const bytes = readRegularFile(file, MAX_FILE_BYTES)
  checkBytes(file, bytes)
  const text = bytes.toString('utf8')
  if (text.trim() === '') throw fileError(file, 0, 'found nothing in it, allowed keys (or a comment, for all defaults)')
  checkNesting(text, (line, message) => fileError(file, line, message))
  if (file.endsWith('.json')) checkJson(file, text)
  return entries(file, text)
}

function checkBytes(file: string, bytes: Buffer): void {
  const hex = bytes.subarray(0, 3).toString('hex')
  if (hex.startsWith('fffe') || hex.startsWith('feff')) throw fileError(file, 1, 'found UTF-16, allowed UTF-8')
  if (hex === 'efbbbf') throw fileError(file, 1, 'found a byte order mark (BOM), allowed UTF-8 without one')
  let line = 1
  let start = 0
  while (start < bytes.length) {
    const next = bytes.indexOf(0x0a, start)
    const end = next < 0 ? bytes.length : next
    const row = bytes.subarray(start, end)
    if (!isUtf8(row)) throw fileError(file, line, 'found bytes that are not UTF-8, allowed UTF-8 text')
    const control = row.findIndex(
      (byte, at) => (byte < 32 && byte !== 9 && !(byte === 13 && at === row.length - 1)) || byte === 127,
    )
    if (control >= 0) {
      const byte = row[control]!
      const name = byte === 0 ? 'a NUL byte' : `the control character 0x${byte.toString(16).padStart(2, '0')}`
      throw fileError(file, line, `found ${name}, allowed text`)
    }
    start = end + 1
    line++
  }
}

function checkJson(file: string, text: string): void {
  const at = findJsonError(text)
  if (at === undefined) return
  throw fileError(
    file,
    lineCounter(text)(at),
    'found what is not JSON, allowed JSON (no comments, no comma before } or ])',
  )
}

function entries(file: string, text: string): FileEntry[] {
  const refuse: Refuse = (line, message) => fileError(file, line, message)
  const lineAt = lineCounter(text)
  const lineOf = (node: Node | null) => lineAt(node?.range?.[0] ?? 0)
  const document = parseYaml(text)
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) throw fileError(file, lineAt(problem.pos[0]), yamlReason(problem.code))
  if (document.directives.yaml.explicit) throw fileError(file, 1, 'found a %YAML directive, allowed plain YAML 1.2')
  const rawValue = (key: Key, line: number, node: Node | null) => {
    if (key.format.isStructured) return treeOf(node, line, lineOf, refuse)
    refuseAnchors(line, node, refuse)
    if (!isScalar(node)) return isMap(node) ? {} : []
    return scalar(node)
  }
  const found: FileEntry[] = []
  const seen = new Map<string, number>()
  const walk = (node: Node | null, prefix: string, names: readonly string[]) => {
    const line = lineOf(node)
    refuseAnchors(line, node, refuse)
    if (!isMap(node)) {
      const where = prefix === '' ? 'the file' : prefix
      throw fileError(
        file,
        line,
        `${where}: found ${nodeKind(node)}, allowed a mapping with the keys ${names.join(', ')}`,
      )
    }
    for (const pair of node.items) {
      const at = lineOf(pair.key as Node | null)
      const path = keyPath(at, pair.key as Node | null, prefix, refuse)
      const earlier = seen.get(path)
      if (earlier !== undefined)
        throw fileError(file, at, `${path}: found twice (first on line ${earlier}), allowed once`)
      seen.set(path, at)
      const value = pair.value as Node | null
      if (prefix === '' && SECTIONS.includes(path)) walk(value, path, keysOf(path))
      else found.push({ path, raw: rawValue(keyOf(file, at, path), at, value), line: at })
    }
  }
  if (document.contents !== null && !isEmptyDocument(document.contents)) walk(document.contents, '', keysOf(''))
  return found
}

/** A file of comments only. */
function isEmptyDocument(node: Node): boolean {
  return isScalar(node) && node.type === 'PLAIN' && node.source === ''
}

function keysOf(section: string): string[] {
  if (section === '') return [...KEYS.filter(key => !key.path.includes('.')).map(key => key.path), ...SECTIONS]
  return KEYS.filter(key => key.path.startsWith(`${section}.`)).map(key => key.path.slice(section.length + 1))
}

function keyOf(file: string, line: number, path: string): Key {
  const key = KEYS.find(candidate => candidate.path === path)
  if (key === undefined) throw unknownKey(file, line, path)
  return key
}

function unknownKey(file: string, line: number, path: string): ConfigError {
  const known = [...KEYS.map(key => key.path), ...SECTIONS]
  const near = suggestion(path, known)
  const section = path.includes('.') ? path.slice(0, path.indexOf('.')) : ''
  const allowed = SECTIONS.includes(section) ? keysOf(section).map(name => `${section}.${name}`) : keysOf('')
  return fileError(file, line, `${path}: unknown key${near === '' ? `, allowed ${allowed.join(', ')}` : near}`)
}

function keyPath(line: number, key: Node | null, prefix: string, refuse: Refuse): string {
  refuseAnchors(line, key, refuse)
  if (!isScalar(key) || typeof key.value !== 'string' || key.value === '') {
    throw refuse(line, `found ${nodeKind(key)} as a key, allowed the name of a key`)
  }
  const name = keyText(key.value)
  return prefix === '' ? name : `${prefix}.${name}`
}

function yamlReason(code: string): string {
  const reasons: Record<string, string> = {
    TAB_AS_INDENT: 'found a tab as indentation, allowed spaces',
    BAD_INDENT: 'found wrong indentation, allowed the same for all keys of a section',
    BLOCK_AS_IMPLICIT_KEY: 'found a second "key: value" on the line, allowed one (quote a text that holds a colon)',
    MISSING_CHAR: 'found no end of a quote, bracket or key (a colon or closing sign is missing)',
    MULTIPLE_DOCS: 'found a second document (---), allowed one',
    MULTILINE_IMPLICIT_KEY: 'found a line without a colon, allowed "key: value"',
    RESOURCE_EXHAUSTION: 'found nesting that is too deep, allowed sections of keys',
    TAG_RESOLVE_FAILED: 'found a tag (!), allowed plain values',
    BAD_DIRECTIVE: 'found a % directive, allowed plain YAML 1.2',
    BAD_SCALAR_START: 'found a value that begins with a reserved character, allowed it in quotes',
    BAD_DQ_ESCAPE: 'found an unknown \\ escape in double quotes, allowed single quotes for plain text',
  }
  return reasons[code] ?? `found what is not YAML (${code}), allowed "key: value" lines`
}
