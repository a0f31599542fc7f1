/** Who is asked for names, as it is written: `udp://192.0.2.53`, `tls://dns.example:853`, `https://192.0.2.1/dns-query`, or an address alone. */
import { parseAddress } from '../endpoint.ts'
import type { ResolverAddress } from '../options.ts'
import { FormatError } from './format-error.ts'
import { hostAndPort } from './proxy-url-parts.ts'
import { suggestion } from './suggest.ts'

const PORTS: { readonly [protocol in ResolverAddress['protocol']]: number } = { udp: 53, tcp: 53, tls: 853, https: 443 }
const PROTOCOLS = Object.keys(PORTS)
/** RFC 8484 leaves it open; what all use. */
const DOH_PATH = '/dns-query'

const RESOLVER_ALLOWED = 'an address, udp://, tcp://, tls:// or https://host[:port][/path]'
const DIRECT_ALLOWED = 'an address, udp:// or tcp:// and an address'

/** Throws FormatError. */
export function parseResolver(text: string): ResolverAddress {
  const bare = bareAddress(text)
  if (bare !== undefined) return { protocol: 'udp', host: bare, port: PORTS.udp }
  const split = /^([a-z]+):\/\/([^/?#@\s\p{C}]*)(\/[!-~]*)?$/u.exec(text)
  if (split === null) throw new FormatError('what is no resolver', RESOLVER_ALLOWED)
  const [, word, authority, path] = split as unknown as [string, string, string, string | undefined]
  if (!Object.hasOwn(PORTS, word)) throw new FormatError(`${word}://${suggestion(word, PROTOCOLS)}`, RESOLVER_ALLOWED)
  const protocol = word as ResolverAddress['protocol']
  const place = hostAndPort(authority, protocol, PORTS[protocol])
  if (protocol === 'https') return { protocol, ...place, path: path === undefined || path === '/' ? DOH_PATH : path }
  if (path !== undefined && path !== '/') throw new FormatError('a path', `${protocol}://host[:port]`)
  if (protocol === 'udp' && parseAddress(place.host) === undefined)
    throw new FormatError('a name behind udp://', 'an address: datagrams of others could not be told apart')
  return { protocol, ...place }
}

/** Of those that are asked beside the tun. Throws FormatError. */
export function parseDirectResolver(text: string): ResolverAddress {
  const resolver = parseResolver(text)
  const { protocol, host } = resolver
  if ((protocol === 'udp' || protocol === 'tcp') && parseAddress(host) !== undefined) return resolver
  throw new FormatError(`${protocol}://${parseAddress(host) === undefined ? ' and a name' : ''}`, DIRECT_ALLOWED)
}

/** `192.0.2.53`, `2001:db8::53`, in brackets or not; the port is not said. */
function bareAddress(text: string): string | undefined {
  const host = /^\[.*\]$/.test(text) ? text.slice(1, -1) : text
  return parseAddress(host) === undefined ? undefined : host
}

export function resolverText({ protocol, host, port, path }: ResolverAddress): string {
  const name = host.includes(':') ? `[${host}]` : host
  return `${protocol}://${name}${port === PORTS[protocol] ? '' : `:${port}`}${path ?? ''}`
}

/** `cluster.local`, with dots around it or not; '' of `.`, for all names. In lower case. Throws FormatError. */
export function parseSuffix(text: string): string {
  const name = text.replace(/^\.|\.$/g, '').toLowerCase()
  const isName = /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(name) && name.length <= 253
  if (text === '.' || isName) return name
  throw new FormatError('no suffix of names', 'one as cluster.local (other alphabets as xn--…), or . for all names')
}
