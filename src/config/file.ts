/**
 * A configuration file, YAML 1.2 or (named .json) JSON, as a list of keys with the lines they stand on. Scalars are kept
 * as they are written, so that the formats can refuse `1e3` or `0x10`, which a parser would have made numbers of.
 *
 * The errors are our own sentences: those of the parsers repeat pieces of the file, where a password may stand.
 */
import { isUtf8 } from 'node:buffer'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { type Document, isAlias, isMap, isScalar, Lexer, type Node, parseDocument, type Scalar } from 'yaml'
import { ConfigError } from '../errors.ts'
import { escapeControls, quote } from '../redact.ts'
import { findJsonError } from './json.ts'
import { KEYS, SECTIONS } from './keys.ts'
import { suggestion } from './suggest.ts'

export interface FileEntry {
  readonly path: string
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
  checkNesting(file, text)
  if (file.endsWith('.json')) checkJson(file, text)
  return entries(file, text)
}

/** The whole of a regular file. Throws ConfigError; never waits, as on a FIFO. */
export function readRegularFile(file: string, maxBytes: number): Buffer {
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (cause) {
    throw fileError(file, 0, `cannot be read: ${systemReason(cause)}`)
  }
  try {
    const stat = fstatSync(fd)
    if (stat.isDirectory()) throw fileError(file, 0, 'found a folder, allowed a regular file')
    if (!stat.isFile()) throw fileError(file, 0, 'found a device, pipe or socket, allowed a regular file')
    const buffer = Buffer.alloc(maxBytes + 1)
    let length = 0
    for (let count = -1; count !== 0 && length < buffer.length; length += count) {
      count = readSync(fd, buffer, length, buffer.length - length, null)
    }
    if (length > maxBytes) throw fileError(file, 0, `found more than ${maxBytes} bytes, allowed at most ${maxBytes}`)
    return buffer.subarray(0, length)
  } catch (cause) {
    throw cause instanceof ConfigError ? cause : fileError(file, 0, `cannot be read: ${systemReason(cause)}`)
  } finally {
    closeSync(fd)
  }
}

/** `line` 0: the file as a whole. */
export function fileError(file: string, line: number, message: string): ConfigError {
  return new ConfigError('CONFIG_FILE', `${escapeControls(file)}:${line === 0 ? '' : `${line}:`} ${message}`)
}

function systemReason(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
  const words: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    ENOTDIR: 'a part of its path is no folder',
    ELOOP: 'too many symbolic links',
    ENXIO: 'it is a socket, allowed a regular file',
    ENAMETOOLONG: 'the path is too long',
    ERR_INVALID_ARG_VALUE: 'the path holds a NUL',
  }
  return words[code] ?? code
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
  throw fileError(file, lineAt(text, at), 'found what is not JSON, allowed JSON (no comments, no comma before } or ])')
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}

/** The parser's time grows with the square of the nesting, and its stack with it; the keys need a depth of two. */
const MAX_NESTING = 8

function checkNesting(file: string, text: string): void {
  let line = 1
  let brackets = 0
  let dashes = 0
  for (const token of new Lexer().lex(text)) {
    if (token === '[' || token === '{') brackets++
    else if (token === ']' || token === '}') brackets--
    else if (token === '-' || token === '?') dashes++
    else if (token.endsWith('\n')) dashes = 0
    if (brackets > MAX_NESTING || dashes > MAX_NESTING) {
      throw fileError(file, line, 'found nesting that is too deep, allowed sections of keys')
    }
    line += token.split('\n').length - 1
  }
}

/** Schema `failsafe` leaves every scalar the text that it is in the file; keys are compared by us, with their lines. */
function parse(text: string): Document.Parsed {
  const depth = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return parseDocument(text, { schema: 'failsafe', uniqueKeys: false, prettyErrors: false, logLevel: 'error' })
  } finally {
    Error.stackTraceLimit = depth
  }
}

function entries(file: string, text: string): FileEntry[] {
  const document = parse(text)
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) throw fileError(file, lineAt(text, problem.pos[0]), yamlReason(problem.code))
  if (document.directives.yaml.explicit) throw fileError(file, 1, 'found a %YAML directive, allowed plain YAML 1.2')
  const found: FileEntry[] = []
  const seen = new Map<string, number>()
  const walk = (node: Node | null, prefix: string, names: readonly string[]) => {
    const line = lineAt(text, node?.range?.[0] ?? 0)
    refuseAnchors(file, line, node)
    if (!isMap(node)) {
      const where = prefix === '' ? 'the file' : prefix
      throw fileError(
        file,
        line,
        `${where}: found ${nodeKind(node)}, allowed a mapping with the keys ${names.join(', ')}`,
      )
    }
    for (const pair of node.items) {
      const path = keyPath(file, text, pair.key as Node | null, prefix)
      const at = lineAt(text, (pair.key as Node).range?.[0] ?? 0)
      const earlier = seen.get(path)
      if (earlier !== undefined)
        throw fileError(file, at, `${path}: found twice (first on line ${earlier}), allowed once`)
      seen.set(path, at)
      const value = pair.value as Node | null
      if (prefix === '' && SECTIONS.includes(path)) walk(value, path, keysOf(path))
      else if (KEYS.some(key => key.path === path)) found.push({ path, raw: rawValue(file, at, value), line: at })
      else throw unknownKey(file, at, path)
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

function unknownKey(file: string, line: number, path: string): ConfigError {
  const known = [...KEYS.map(key => key.path), ...SECTIONS]
  const near = suggestion(path, known)
  const section = path.includes('.') ? path.slice(0, path.indexOf('.')) : ''
  const allowed = SECTIONS.includes(section) ? keysOf(section).map(name => `${section}.${name}`) : keysOf('')
  return fileError(file, line, `${path}: unknown key${near === '' ? `, allowed ${allowed.join(', ')}` : near}`)
}

function keyPath(file: string, text: string, key: Node | null, prefix: string): string {
  const line = lineAt(text, key?.range?.[0] ?? 0)
  refuseAnchors(file, line, key)
  if (!isScalar(key) || typeof key.value !== 'string' || key.value === '') {
    throw fileError(file, line, `found ${nodeKind(key)} as a key, allowed the name of a key`)
  }
  const name = /^[\w.-]{1,60}$/.test(key.value) ? key.value : quote(key.value)
  return prefix === '' ? name : `${prefix}.${name}`
}

function rawValue(file: string, line: number, node: Node | null): unknown {
  refuseAnchors(file, line, node)
  if (!isScalar(node)) return isMap(node) ? {} : []
  return scalar(node)
}

/** Unquoted null and true of the YAML 1.2 core schema (section 10.3.2); the rest as it is written. */
function scalar(node: Scalar): unknown {
  if (node.type !== 'PLAIN') return node.value
  const source = String(node.value)
  if (/^(~|null|Null|NULL|)$/.test(source)) return null
  if (/^(true|True|TRUE)$/.test(source)) return true
  return /^(false|False|FALSE)$/.test(source) ? false : source
}

function refuseAnchors(file: string, line: number, node: Node | null): void {
  if (isAlias(node)) throw fileError(file, line, 'found an alias (*), allowed plain values')
  if (node === null) return
  if ('anchor' in node && node.anchor !== undefined)
    throw fileError(file, line, 'found an anchor (&), allowed plain values')
  if (node.tag !== undefined) throw fileError(file, line, 'found a tag (!), allowed plain values')
}

function nodeKind(node: Node | null): string {
  if (isMap(node)) return 'a mapping'
  if (!isScalar(node)) return node === null ? 'null' : 'a list'
  const value = scalar(node)
  return typeof value === 'string' ? 'a text' : String(value)
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
