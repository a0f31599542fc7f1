/**
 * The messages of HTTP CONNECT (RFC 9110 §9.3.6, RFC 9112), as pure functions in the manner of socks5-codec.ts: the
 * request is written at `at`, the head of the answer is found as offsets, and nothing is copied.
 */
import { type Destination, formatEndpoint } from '../../endpoint.ts'
import { MALFORMED, NEED_MORE } from '../socks5/socks5-codec.ts'

/** Of status lines, fields and blank lines, interim answers (1xx) included; a longer one is malformed. */
export const MAX_HEAD_BYTES = 16_384

const TAB = 0x09
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const COLON = 0x3a
const DELETE = 0x7f
const UNKNOWN = -1

export interface ResponseFields {
  /** Of the final answer; -1 until its status line has come. */
  status: number
  reasonAt: number
  /** 0 when there is none. */
  reasonLength: number
  /** The lines of fields, without the blank one. */
  fieldsAt: number
  fieldsLength: number
  /** Not a 2xx: the connection ends behind the answer. */
  closes: boolean
  /** Not a 2xx: bytes of content behind the head; -1 when only the end, or chunks, will tell. */
  contentLength: number
}

export interface FieldValue {
  valueAt: number
  /** Without space around it; folds (obs-fold) stand in it. */
  valueLength: number
}

export function responseFields(): ResponseFields {
  return {
    status: UNKNOWN,
    reasonAt: 0,
    reasonLength: 0,
    fieldsAt: 0,
    fieldsLength: 0,
    closes: false,
    contentLength: UNKNOWN,
  }
}

/** `host:port` with IPv6 in brackets (RFC 9112 §3.2.3). A name may have ASCII letters, digits, `-`, `.` and `_`. */
export function connectAuthority(destination: Destination): string {
  if ('name' in destination && !/^[a-z0-9._-]{1,255}$/i.test(destination.name))
    throw new RangeError('HTTP: a host name has 1 to 255 ASCII letters, digits, hyphens, dots and underscores')
  return formatEndpoint(destination)
}

const BEGINNING = 'CONNECT '
const HOST = ' HTTP/1.1\r\nHost: '
const AUTHORIZATION = '\r\nProxy-Authorization: '
const END = '\r\n\r\n'

/** @param authorization the field's value, a character for a byte; '' for none */
export function encodeConnect(bytes: Uint8Array, at: number, authority: string, authorization: string): number {
  const field = authorization === '' ? 0 : AUTHORIZATION.length + authorization.length
  const length = BEGINNING.length + HOST.length + 2 * authority.length + field + END.length
  if (at + length > bytes.length) throw new RangeError(`HTTP: no room for ${length} bytes`)
  let next = put(bytes, at, BEGINNING)
  next = putChecked(bytes, next, authority, SPACE + 1, 'destination')
  next = put(bytes, next, HOST)
  next = put(bytes, next, authority)
  if (authorization !== '') {
    next = put(bytes, next, AUTHORIZATION)
    next = putChecked(bytes, next, authorization, SPACE, 'authorization')
  }
  return put(bytes, next, END) - at
}

function put(bytes: Uint8Array, at: number, text: string): number {
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index)
  return at + text.length
}

/** Nothing that ends a line, or a request, may come in by a value. */
function putChecked(bytes: Uint8Array, at: number, text: string, least: number, what: string): number {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code < least || code === DELETE || code > 255)
      throw new RangeError(`HTTP: a character that no ${what} may have`)
  }
  return put(bytes, at, text)
}

/**
 * The head of the final answer, interim ones before it included: what stands behind it is the tunnel's when it is a 2xx,
 * whose Content-Length and Transfer-Encoding mean nothing (RFC 9110 §9.3.6). A line may end with a bare LF (RFC 9112
 * §2.2). Malformed is told at the first wrong byte.
 */
export function parseResponse(bytes: Uint8Array, at: number, length: number, out: ResponseFields): number {
  const end = at + Math.min(length, MAX_HEAD_BYTES)
  let next = at
  do {
    const used = parseHead(bytes, next, end, out)
    if (used === NEED_MORE) return length >= MAX_HEAD_BYTES ? MALFORMED : NEED_MORE
    if (used === MALFORMED) return MALFORMED
    next += used
  } while (isInterim(out.status))
  if (out.status < 200 || out.status > 299) lookAtContent(bytes, out)
  return next - at
}

/** 101 is final: nobody asked for another protocol (RFC 9110 §15.2.2). */
function isInterim(status: number): boolean {
  return status < 200 && status !== 101
}

function parseHead(bytes: Uint8Array, at: number, end: number, out: ResponseFields): number {
  out.status = UNKNOWN
  let used = parseStatusLine(bytes, at, end, out)
  if (used <= 0) return used
  let next = at + used
  out.fieldsAt = next
  for (;;) {
    used = blankLine(bytes, next, end)
    if (used === MALFORMED) return MALFORMED
    if (used > 0) {
      out.fieldsLength = next - out.fieldsAt
      return next + used - at
    }
    used = next === end ? NEED_MORE : fieldLine(bytes, next, end, next === out.fieldsAt)
    if (used <= 0) return used
    next += used
  }
}

const VERSION = Uint8Array.from('HTTP/1.', character => character.charCodeAt(0))
const STATUS_AT = 9
const REASON_AT = 13

/** RFC 9112 §4. The space before a reason that is empty may be missing. */
function parseStatusLine(bytes: Uint8Array, at: number, end: number, out: ResponseFields): number {
  for (let index = 0; index < REASON_AT; index++) {
    if (at + index === end) return NEED_MORE
    if (!fitsStatusLine(index, bytes[at + index]!)) return MALFORMED
  }
  const isShort = bytes[at + REASON_AT - 1] !== SPACE
  const used = restOfLine(bytes, at + REASON_AT - (isShort ? 1 : 0), end)
  if (used <= 0) return used
  const lineLength = REASON_AT - (isShort ? 1 : 0) + used
  out.status = 0
  for (let index = 0; index < 3; index++) out.status = out.status * 10 + bytes[at + STATUS_AT + index]! - 0x30
  out.reasonAt = at + REASON_AT
  out.reasonLength = isShort ? 0 : textEnd(bytes, out.reasonAt, at + lineLength) - out.reasonAt
  return lineLength
}

function fitsStatusLine(index: number, byte: number): boolean {
  if (index < VERSION.length) return byte === VERSION[index]
  if (index === 8) return byte === SPACE
  if (index === REASON_AT - 1) return byte === SPACE || byte === CR || byte === LF
  return byte >= (index === STATUS_AT ? 0x31 : 0x30) && byte <= 0x39
}

/** `\r\n` or `\n`; NEED_MORE when this is another line, or when that is not known. */
function blankLine(bytes: Uint8Array, at: number, end: number): number {
  if (at === end) return NEED_MORE
  if (bytes[at] === LF) return 1
  if (bytes[at] !== CR || at + 1 === end) return NEED_MORE
  return bytes[at + 1] === LF ? 2 : MALFORMED
}

/** `name: value`, or the continuation of one (obs-fold, RFC 9112 §5.2), which the first line cannot be. */
function fieldLine(bytes: Uint8Array, at: number, end: number, isFirst: boolean): number {
  const first = bytes[at]!
  if (first === CR) return NEED_MORE
  if (isSpace(first)) return isFirst ? MALFORMED : restOfLine(bytes, at, end)
  let next = at
  while (next < end && isToken(bytes[next]!)) next++
  if (next === end) return NEED_MORE
  if (bytes[next] !== COLON || next === at) return MALFORMED
  const used = restOfLine(bytes, next, end)
  return used <= 0 ? used : next + used - at
}

/** Up to behind the end of the line. A control character, or a CR that ends no line, is malformed (RFC 9110 §5.5). */
function restOfLine(bytes: Uint8Array, at: number, end: number): number {
  for (let next = at; next < end; next++) {
    const byte = bytes[next]!
    if (byte >= SPACE && byte !== DELETE) continue
    if (byte === LF) return next + 1 - at
    if (byte === CR) {
      if (next + 1 === end) return NEED_MORE
      return bytes[next + 1] === LF ? next + 2 - at : MALFORMED
    }
    if (byte !== TAB) return MALFORMED
  }
  return NEED_MORE
}

const isSpace = (byte: number) => byte === SPACE || byte === TAB
const isBlank = (byte: number) => isSpace(byte) || byte === CR || byte === LF

const TOKEN = Uint8Array.from({ length: 256 }, (_, code) =>
  /[!#$%&'*+.^_`|~0-9A-Za-z-]/.test(String.fromCharCode(code)) ? 1 : 0,
)
/** RFC 9110 §5.6.2. */
const isToken = (byte: number) => TOKEN[byte] === 1

function textEnd(bytes: Uint8Array, at: number, end: number): number {
  let last = end
  while (last > at && isBlank(bytes[last - 1]!)) last--
  return last
}

/**
 * The next field of that name (lower case) among the lines from `at` to `end`: where to look on, or 0 when there is none.
 * The lines must have been parsed.
 */
export function nextField(bytes: Uint8Array, at: number, end: number, name: string, out: FieldValue): number {
  for (let line = at; line < end; ) {
    let next = line
    do {
      const newline = bytes.indexOf(LF, next)
      if (newline < 0 || newline >= end) return 0
      next = newline + 1
    } while (next < end && isSpace(bytes[next]!))
    if (hasName(bytes, line, name)) {
      let first = line + name.length + 1
      while (first < next && isBlank(bytes[first]!)) first++
      out.valueAt = first
      out.valueLength = textEnd(bytes, first, next) - first
      return next
    }
    line = next
  }
  return 0
}

function hasName(bytes: Uint8Array, at: number, name: string): boolean {
  for (let index = 0; index < name.length; index++) {
    const byte = bytes[at + index]!
    if ((byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte) !== name.charCodeAt(index)) return false
  }
  return bytes[at + name.length] === COLON
}

/** The values of all fields of that name, a character for a byte, without folds: for answers that are no 2xx. */
export function fieldTexts(bytes: Uint8Array, { fieldsAt, fieldsLength }: ResponseFields, name: string): string[] {
  const texts: string[] = []
  const value = { valueAt: 0, valueLength: 0 }
  const end = fieldsAt + fieldsLength
  for (let at = nextField(bytes, fieldsAt, end, name, value); at !== 0; at = nextField(bytes, at, end, name, value)) {
    texts.push(byteText(bytes, value.valueAt, value.valueLength).replace(/\r?\n[ \t]+/g, ' '))
  }
  return texts
}

/** A character for a byte. */
export function byteText(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('latin1')
}

/** RFC 9112 §6.3 and §9.3; `Proxy-Connection` is what some older proxies say. */
function lookAtContent(bytes: Uint8Array, out: ResponseFields): void {
  const options = ['connection', 'proxy-connection'].flatMap(name => fieldTexts(bytes, out, name)).join()
  const isHttp10 = bytes[out.reasonAt - 6] === 0x30
  out.closes = /(^|[\s,])close([\s,]|$)/i.test(options) || (isHttp10 && !/(^|[\s,])keep-alive([\s,]|$)/i.test(options))
  const lengths = new Set(
    fieldTexts(bytes, out, 'content-length')
      .join()
      .split(/[\s,]+/),
  )
  const [text = ''] = lengths
  const isKnown = lengths.size === 1 && /^[0-9]{1,15}$/.test(text)
  if (out.status === 304) out.contentLength = 0
  else out.contentLength = isKnown && fieldTexts(bytes, out, 'transfer-encoding').length === 0 ? Number(text) : UNKNOWN
}
