/** The parts of an upstream's URL: host and port, path of a socket, user and password. */
import { parseAddress } from '../endpoint.ts'
import { SOURCE } from '../options.ts'
import { FormatError } from './format-error.ts'

/**
 * `host[:port]`, and one `/` behind it.
 * @param initial the port where none is said; undefined: it must be said
 */
export function hostAndPort(text: string, scheme: string, initial: number | undefined): { host: string; port: number } {
  const authority = text.replace(/\/$/, '')
  const example = `${scheme}://[2001:db8::1]:${initial ?? 3128}`
  if (authority.includes('/')) throw new FormatError('a path, query or fragment', `${scheme}://host[:port]`)
  const bracketed = /^\[([^\]]*)\](.*)$/s.exec(authority)
  if (bracketed !== null) {
    const [, host, tail] = bracketed as unknown as [string, string, string]
    if (parseAddress(host)?.length !== 16) {
      throw new FormatError('brackets around what is no IPv6 address', example)
    }
    if (tail !== '' && !tail.startsWith(':')) throw new FormatError('a text behind the brackets', '[IPv6]:port')
    return { host, port: portNumber(tail === '' ? undefined : tail.slice(1), initial) }
  }
  const parts = authority.split(':')
  if (parts.length > 2) {
    throw new FormatError('an IPv6 address without brackets, or more than one colon', example)
  }
  const [host = '', port] = parts
  checkHost(host)
  return { host, port: portNumber(port, initial) }
}

function portNumber(text: string | undefined, initial: number | undefined): number {
  const allowed = 'a port from 1 to 65535'
  if (text === undefined) {
    // curl takes 1080, most others 80, and hardly a proxy listens at either.
    const usual = ':3128 (squid), :8080, :8888 (tinyproxy) or whatever yours listens on'
    if (initial === undefined) throw new FormatError('no port, and HTTP proxies have no common one', usual)
    return initial
  }
  if (text === '') throw new FormatError('a colon without a port', allowed)
  if (!/^[0-9]{1,6}$/.test(text)) throw new FormatError('a port that is no decimal number', allowed)
  const port = Number(text)
  if (port < 1 || port > 65535 || text.startsWith('0')) throw new FormatError(`port ${text}`, allowed)
  return port
}

/** An IPv4 address with four parts, or a host name (RFC 1123 section 2.1; `_` too, which container names use). */
function checkHost(host: string): void {
  const allowed = 'a host name, an IPv4 address or an IPv6 address in brackets'
  if (host === '') throw new FormatError('no host', allowed)
  const labels = host.replace(/\.$/, '').split('.')
  if (/^[0-9]+$/.test(labels.at(-1)!)) {
    if (parseAddress(host) === undefined) throw new FormatError('numbers that are no IPv4 address', allowed)
    return
  }
  const good = labels.every(label => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(label))
  if (!good || host.length > 253) throw new FormatError('a host that is no valid name', allowed)
}

/** sun_path has 108 bytes with its end (unix(7)). */
const MAX_PATH_BYTES = 107

export function socketPath(text: string): { path: string } {
  const allowed = `:// and an absolute path of at most ${MAX_PATH_BYTES} bytes: socks5+unix:///run/proxy.sock`
  if (!text.startsWith('/')) throw new FormatError('no absolute path', allowed)
  const path = percentDecoded(text, 'path')
  if (path.endsWith('/')) throw new FormatError('a path that ends with /', allowed)
  if (path.includes('\0')) throw new FormatError('a NUL in the path', allowed)
  const bytes = Buffer.byteLength(path)
  if (bytes > MAX_PATH_BYTES) throw new FormatError(`a path of ${bytes} bytes`, allowed)
  return { path }
}

/** Of an IPv6 address as text. */
const MAX_SOURCE_BYTES = 39
const MAX_USER_BYTES = 255
/** RFC 1929 §2; of HTTP, what its request has room for. */
const MAX_PASSWORD_BYTES = { socks5: 255, http: 2_048 } as const

export interface User {
  readonly username: string
  readonly password?: string
  readonly isPerSource: boolean
}

/** `user[:password]`, percent-encoded. */
export function checkUser(kind: 'socks5' | 'socks4' | 'http', text: string): User {
  if (/[/?#]/.test(text))
    throw new FormatError(
      'a bare /, ? or # before the @',
      '%2F, %3F, %23 in a user name or password, and %40 for an @ behind them',
    )
  const colon = text.indexOf(':')
  const raw = colon < 0 ? text : text.slice(0, colon)
  const username = percentDecoded(raw, 'user name')
  const isPerSource = raw.includes(SOURCE)
  if (/[{}]/.test(raw.replaceAll(SOURCE, ''))) throw new FormatError('a bare { or }', `${SOURCE}, or %7B and %7D`)
  const longest = isPerSource ? username.replaceAll(SOURCE, 'x'.repeat(MAX_SOURCE_BYTES)) : username
  checkLength(longest, 'user name', 1, MAX_USER_BYTES)
  if (kind === 'socks4' && username.includes('\0'))
    throw new FormatError('a NUL in the user name', 'any other character')
  if (kind === 'http') {
    // RFC 7617 §2: a colon would end the name.
    if (username.includes(':')) throw new FormatError('a colon in the user name', 'none: HTTP cannot carry it')
    checkNoControls(username, 'user name')
  }
  if (colon < 0) return { username, isPerSource }
  if (kind === 'socks4') throw new FormatError('a password', 'a user name alone: SOCKS4 has no passwords')
  const password = percentDecoded(text.slice(colon + 1), 'password')
  checkLength(password, 'password', kind === 'http' ? 0 : 1, MAX_PASSWORD_BYTES[kind])
  if (kind === 'http') checkNoControls(password, 'password')
  return { username, password, isPerSource }
}

/** RFC 7617 §2. */
function checkNoControls(text: string, what: string): void {
  if (/\p{Cc}/u.test(text)) throw new FormatError(`a control character in the ${what}`, 'none: HTTP cannot carry it')
}

function checkLength(value: string, what: string, least: number, most: number): void {
  const bytes = Buffer.byteLength(value)
  if (bytes < least || bytes > most) throw new FormatError(`a ${what} of ${bytes} bytes`, `${least} to ${most} bytes`)
}

export function percentDecoded(text: string, what: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new FormatError(`a wrong percent sequence in the ${what}`, '%XX of UTF-8 bytes, %25 for a percent sign')
  }
}
