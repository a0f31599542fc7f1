/**
 * `socks5://[user[:password]@]host[:port]`, read strictly. Not with URL: it normalises what we want to refuse, and its
 * errors carry the whole text. No error from here repeats a part that may be a secret.
 */
import { parseAddress } from '../endpoint.ts'
import type { ProxyOptions } from '../options.ts'
import { FormatError } from './format-error.ts'
import { suggestion } from './suggest.ts'

const SCHEMES = ['socks5', 'socks5h']
const ALLOWED = 'socks5://[user:password@]host[:port]'
const DEFAULT_PORT = 1080

/** Throws FormatError. The user name and the password are percent-decoded UTF-8, 1 to 255 bytes each (RFC 1929 section 2). */
export function parseProxyUrl(text: string): ProxyOptions {
  if (/\p{Cc}/u.test(text)) throw new FormatError('a control character', ALLOWED)
  const split = /^([^:/@]*):\/\/(.*)$/s.exec(text)
  if (split === null) throw new FormatError('a text without a scheme', ALLOWED)
  const scheme = split[1]!.toLowerCase()
  if (!SCHEMES.includes(scheme)) throw new FormatError(foundScheme(scheme), `socks5:// or socks5h://`)
  const rest = split[2]!.replace(/\/$/, '')
  const at = rest.lastIndexOf('@')
  const authority = rest.slice(at + 1)
  if (/[/?#]/.test(authority)) throw new FormatError('a path, query or fragment', `${ALLOWED}, nothing behind it`)
  return { ...hostAndPort(authority), ...(at < 0 ? {} : userinfo(rest.slice(0, at))) }
}

/** The URL without its password, for users: `socks5://user:***@[::1]:1080`. */
export function maskedProxyUrl(proxy: ProxyOptions): string {
  const host = proxy.host.includes(':') ? `[${proxy.host}]` : proxy.host
  const user = proxy.username === undefined ? '' : `${encodeURIComponent(proxy.username)}:***@`
  return `socks5://${user}${host}:${proxy.port}`
}

function foundScheme(scheme: string): string {
  if (!/^[a-z][a-z0-9+.-]{0,20}$/.test(scheme)) return 'a scheme that is none'
  return `the scheme ${scheme}://${suggestion(scheme, SCHEMES)}`
}

function hostAndPort(authority: string): { host: string; port: number } {
  const bracketed = /^\[([^\]]*)\](.*)$/s.exec(authority)
  if (bracketed !== null) {
    const [, host, tail] = bracketed as unknown as [string, string, string]
    if (parseAddress(host)?.length !== 16) {
      throw new FormatError('brackets around what is no IPv6 address', 'socks5://[2001:db8::1]:1080')
    }
    if (tail !== '' && !tail.startsWith(':')) throw new FormatError('a text behind the brackets', '[IPv6]:port')
    return { host, port: tail === '' ? DEFAULT_PORT : portNumber(tail.slice(1)) }
  }
  const parts = authority.split(':')
  if (parts.length > 2) {
    throw new FormatError('an IPv6 address without brackets, or more than one colon', 'socks5://[2001:db8::1]:1080')
  }
  const [host = '', port] = parts
  checkHost(host)
  return { host, port: port === undefined ? DEFAULT_PORT : portNumber(port) }
}

function portNumber(text: string): number {
  const allowed = 'a port from 1 to 65535'
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

function userinfo(text: string): { username: string; password?: string } {
  if (/[/?#]/.test(text))
    throw new FormatError('a bare /, ? or # before the @', '%2F, %3F, %23 in a user name or password')
  const colon = text.indexOf(':')
  const username = decoded(colon < 0 ? text : text.slice(0, colon), 'user name')
  return colon < 0 ? { username } : { username, password: decoded(text.slice(colon + 1), 'password') }
}

function decoded(text: string, what: string): string {
  let value: string
  try {
    value = decodeURIComponent(text)
  } catch {
    throw new FormatError(`a wrong percent sequence in the ${what}`, '%XX of UTF-8 bytes, %25 for a percent sign')
  }
  const bytes = Buffer.byteLength(value)
  if (bytes < 1 || bytes > 255) throw new FormatError(`a ${what} of ${bytes} bytes`, '1 to 255 bytes')
  return value
}
