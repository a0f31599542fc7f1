/**
 * Our own strict formats: those of convict read `12abc` as 12 and any text as true. A format takes what a file, a
 * variable or a flag holds (a text, a boolean, null) or its own result, and gives the value or throws FormatError.
 */
import { parseAddress } from '../endpoint.ts'
import { quote } from '../redact.ts'
import { FormatError } from './format-error.ts'
import { suggestion } from './suggest.ts'
import { isTreeList } from './tree.ts'

/** Of a structured key an array, whatever the file has. */
export type Value = string | number | readonly unknown[]

export interface Format<T extends Value = string | number> {
  /** What is allowed, for errors and docs. */
  readonly allowed: string
  /** It takes the Tree that stands in a file, and a text of variables and flags. */
  readonly isStructured?: true
  parse(raw: unknown): T
  /** The text that parses back to `value`, apart from what is secret. */
  print(value: T): string
}

const DECIMAL = /^(0|[1-9][0-9]*)$/
const UNITS = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const

export function describe(raw: unknown): string {
  if (raw === undefined) return 'nothing'
  if (raw === '') return 'an empty text'
  if (typeof raw === 'string') return quote(raw)
  if (raw === null || typeof raw === 'boolean' || typeof raw === 'number') return String(raw)
  return Array.isArray(raw) || isTreeList(raw) ? 'a list' : 'a mapping'
}

export function integer(minimum: number, maximum: number): Format {
  const allowed = `an integer from ${minimum} to ${maximum}`
  return {
    allowed,
    parse: raw =>
      inRange(typeof raw === 'string' && DECIMAL.test(raw) ? Number(raw) : raw, raw, minimum, maximum, allowed),
    print: String,
  }
}

/** Milliseconds as an integer, or a decimal number with a unit. `zero`: 0 is allowed as well, and what it means. */
export function duration(minimumMs: number, maximumMs: number, zero?: string): Format {
  const range = `${printDuration(minimumMs)} to ${printDuration(maximumMs)}`
  const allowed = `a duration from ${range} (500ms, 10s, 5m, 2h, or a number of milliseconds)${zero === undefined ? '' : `, or 0 (${zero})`}`
  return {
    allowed,
    parse: raw => {
      const match = typeof raw === 'string' ? /^(0|[1-9][0-9]*)(ms|s|m|h)?$/.exec(raw) : null
      const value = match === null ? raw : Number(match[1]) * UNITS[(match[2] ?? 'ms') as keyof typeof UNITS]
      return zero !== undefined && value === 0 ? 0 : inRange(value, raw, minimumMs, maximumMs, allowed)
    },
    print: value => printDuration(Number(value)),
  }
}

function inRange(value: unknown, raw: unknown, minimum: number, maximum: number, allowed: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum) {
    throw new FormatError(describe(raw), allowed)
  }
  return value
}

/** `2h`, `90s`, `1500ms`: the largest unit that divides; `0` for none. */
export function printDuration(ms: number): string {
  if (ms === 0) return '0'
  for (const [unit, size] of Object.entries(UNITS)) if (ms % size === 0) return `${ms / size}${unit}`
  return `${ms}ms`
}

export function oneOf(...words: readonly string[]): Format {
  const allowed = words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
  return text(allowed, value => {
    if (!words.includes(value)) throw new FormatError(describe(value) + suggestion(value, words), allowed)
  })
}

function text(allowed: string, check: (value: string) => void): Format {
  return {
    allowed,
    parse: raw => {
      if (typeof raw !== 'string') throw new FormatError(describe(raw), allowed)
      check(raw)
      return raw
    },
    print: String,
  }
}

function matching(allowed: string, test: (value: string) => boolean): Format {
  return text(allowed, value => {
    if (!test(value)) throw new FormatError(describe(value), allowed)
  })
}

/** What the kernel takes (dev_valid_name in net/core/dev.c), ASCII only; `%` would make it count up a number. */
const isInterfaceName = (value: string) =>
  /^[!-~]{1,15}$/.test(value) && !/[/:%]/.test(value) && value !== '.' && value !== '..'

const INTERFACE = 'an interface name of 1 to 15 characters without space, /, : and %'
export const interfaceName = matching(INTERFACE, isInterfaceName)
export const optionalInterface = matching(`${INTERFACE}, or '' (none)`, value => value === '' || isInterfaceName(value))

export function wordOrInteger(word: string, minimum: number, maximum: number): Format {
  const number = integer(minimum, maximum)
  const allowed = `${word}, or ${number.allowed}`
  return {
    allowed,
    parse(raw) {
      if (raw === word) return raw
      try {
        return number.parse(raw)
      } catch {
        throw new FormatError(describe(raw), allowed)
      }
    },
    print: String,
  }
}

/** An open file number above standard input, output and error. */
export const descriptor = wordOrInteger('none', 3, 1_048_575)

/** An own unicast address with its prefix length. */
export function addressWithPrefix(version: 4 | 6): Format {
  const bits = version === 4 ? 32 : 128
  const example = version === 4 ? '198.18.0.1/15' : 'fd74:756e::1/64'
  const notOurs = version === 4 ? /^(0|127|22[4-9]|2[345][0-9])\./ : /^(ff|::(1|0|ffff:.*)?$)/i
  return matching(
    `an IPv${version} address with a prefix length from 1 to ${bits}, as ${example}, or '' (none)`,
    value => {
      if (value === '') return true
      const [address = '', prefix = '', more] = value.split('/')
      const sound = parseAddress(address)?.length === bits / 8 && !notOurs.test(address)
      return sound && more === undefined && DECIMAL.test(prefix) && Number(prefix) >= 1 && Number(prefix) <= bits
    },
  )
}

export const filePath = matching(
  "the path of a file, or '' (none)",
  value => !value.includes('\0') && value.length < 4096,
)

/** sun_path has 108 bytes with its end (unix(7)); the socket is bound under a name that is 12 bytes longer first. */
const SOCKET_PATH_BYTES = 95

export const socketPath = matching(
  `auto, '' (off), or an absolute path of at most ${SOCKET_PATH_BYTES} bytes`,
  value =>
    value === '' ||
    value === 'auto' ||
    (value.startsWith('/') &&
      !value.endsWith('/') &&
      !value.includes('\0') &&
      Buffer.byteLength(value) <= SOCKET_PATH_BYTES),
)
