/**
 * The URL of an upstream, read strictly: what the gateway dials through. Not with URL: it normalises what we want to
 * refuse, and its errors carry the whole text. No error from here repeats a part of it but the scheme and a port.
 *
 *     socks5[h]://  socks4[a]://  http://  https://  socks5[h]+tls://   [user[:password]@]host[:port][?option=value&…]
 *     socks5[h]+unix://  socks4[a]+unix://  http+unix://                [user[:password]@]/path[?…]
 *     direct://[?interface=…&mark=…]  reject://
 *
 * Values are percent-decoded UTF-8. `{source}` in a user name stands for the client's address.
 */
import type { Server, Tls, UdpWay, Upstream } from '../options.ts'
import { FormatError } from './format-error.ts'
import { checkUser, hostAndPort, percentDecoded, socketPath, type User } from './proxy-url-parts.ts'
import { suggestion } from './suggest.ts'

/** An upstream as it is written: its password may stand in a file that nobody has read. */
export type WrittenUpstream = Upstream & { readonly passwordFile?: string }

interface Scheme {
  readonly kind: Upstream['kind']
  /** undefined: none that all agree on. */
  readonly port?: number
  readonly tls?: true
  readonly unix?: true
  readonly names?: boolean
}

const SOCKS_PORT = 1080
const SCHEMES: { readonly [scheme: string]: Scheme } = {
  socks5: { kind: 'socks5', port: SOCKS_PORT },
  socks5h: { kind: 'socks5', port: SOCKS_PORT },
  'socks5+tls': { kind: 'socks5', port: SOCKS_PORT, tls: true },
  'socks5h+tls': { kind: 'socks5', port: SOCKS_PORT, tls: true },
  'socks5+unix': { kind: 'socks5', unix: true },
  'socks5h+unix': { kind: 'socks5', unix: true },
  socks4: { kind: 'socks4', port: SOCKS_PORT, names: false },
  socks4a: { kind: 'socks4', port: SOCKS_PORT, names: true },
  'socks4+unix': { kind: 'socks4', unix: true, names: false },
  'socks4a+unix': { kind: 'socks4', unix: true, names: true },
  http: { kind: 'http' },
  'http+unix': { kind: 'http', unix: true },
  https: { kind: 'http', port: 443, tls: true },
  direct: { kind: 'direct' },
  reject: { kind: 'reject' },
}
const LISTED =
  'socks5://, socks4://, socks4a://, http://, https://, socks5+tls://, socks5+unix://, direct:// or reject://'
const ALLOWED = 'socks5://[user:password@]host[:port], or another scheme'

const TLS_OPTIONS = ['ca', 'cert', 'key', 'servername', 'insecure']
const UDP_WAYS: readonly string[] = ['auto', 'associate', 'tcp', 'off']

type Options = ReadonlyMap<string, string>

/** Throws FormatError. */
export function parseProxyUrl(text: string): WrittenUpstream {
  if (/\p{Cc}/u.test(text)) throw new FormatError('a control character', ALLOWED)
  if (/\p{Cs}/u.test(text)) throw new FormatError('half of a character', ALLOWED)
  const split = /^([^:/@]*):\/\/(.*)$/s.exec(text)
  if (split === null) throw new FormatError('a text without a scheme', ALLOWED)
  const word = split[1]!.toLowerCase()
  if (!Object.hasOwn(SCHEMES, word)) throw new FormatError(foundScheme(word), LISTED)
  const scheme = SCHEMES[word]!
  const rest = split[2]!
  const at = rest.lastIndexOf('@')
  const [place, query, more] = rest.slice(at + 1).split('?') as [string, string?, string?]
  if (rest.includes('#', at + 1)) throw new FormatError('a # behind the host', 'no fragment, %23 for a #')
  if (more !== undefined) throw new FormatError('a second ?', '?option=value&option=value, %3F for a ?')
  if (scheme.kind === 'direct' || scheme.kind === 'reject') {
    if (at >= 0 || place !== '') throw new FormatError(`a host, path or user`, `${word}:// with nothing between`)
    return scheme.kind === 'reject' ? reject(word, query) : direct(word, query)
  }
  const user = at < 0 ? { isPerSource: false } : checkUser(scheme.kind, rest.slice(0, at))
  const server = scheme.unix ? socketPath(place) : hostAndPort(place, word, scheme.port)
  const options = parseOptions(word, query, optionsOf(scheme))
  return { server, ...user, ...proxied(scheme, scheme.kind, options), ...passwordIn(options.get('passwordFile'), user) }
}

function optionsOf({ kind, tls }: Scheme): string[] {
  return [...(tls ? TLS_OPTIONS : []), 'udp', ...(kind === 'socks4' ? [] : ['passwordFile'])]
}

function proxied(scheme: Scheme, kind: 'socks5' | 'socks4' | 'http', options: Options) {
  const udp = udpWay(kind, options)
  if (kind === 'socks4') return { kind, names: scheme.names === true, udp }
  return { kind, udp, ...(scheme.tls ? { tls: tlsOf(options) } : {}) }
}

function passwordIn(file: string | undefined, user: Partial<User>): { passwordFile?: string } {
  if (file === undefined) return {}
  if (file === '' || file.includes('\0'))
    throw new FormatError('no path in passwordFile', 'passwordFile=the path of a file')
  if (user.username === undefined)
    throw new FormatError('passwordFile without a user name', 'a user name before the host')
  if (user.password !== undefined) throw new FormatError('a password and passwordFile', 'one of the two')
  return { passwordFile: file }
}

function foundScheme(word: string): string {
  if (!/^[a-z][a-z0-9+.-]{0,20}$/.test(word)) return 'a scheme that is none'
  return `the scheme ${word}://${suggestion(word, Object.keys(SCHEMES))}`
}

/** A repeated or unknown option is an error; its name is not told: what stands behind a ? may be a part of a password. */
function parseOptions(word: string, query: string | undefined, known: readonly string[]): Options {
  const options = new Map<string, string>()
  if (query === undefined) return options
  const allowed = known.length === 0 ? `none with ${word}://` : `${known.join(', ')} with ${word}://`
  for (const part of query.split('&')) {
    const equals = part.indexOf('=')
    const name = equals < 0 ? part : part.slice(0, equals)
    if (!known.includes(name)) {
      const isTls = TLS_OPTIONS.includes(name)
      throw new FormatError(isTls ? `the option ${name} without TLS` : 'an option that there is not', allowed)
    }
    if (equals < 0) throw new FormatError(`the option ${name} without a value`, `${name}=value`)
    if (options.has(name)) throw new FormatError(`the option ${name} twice`, 'each once')
    options.set(name, percentDecoded(part.slice(equals + 1), `option ${name}`))
  }
  return options
}

function udpWay(kind: 'socks5' | 'socks4' | 'http', options: Options): UdpWay {
  const way = options.get('udp') ?? 'auto'
  const allowed =
    kind === 'socks5' ? 'udp=auto, associate, tcp or off' : 'udp=auto or off: this kind of proxy has no UDP'
  if (!UDP_WAYS.includes(way)) throw new FormatError('another way for udp', allowed)
  if (kind !== 'socks5' && way !== 'auto' && way !== 'off') throw new FormatError(`udp=${way}`, allowed)
  return way as UdpWay
}

function tlsOf(options: Options): Tls {
  const files: { ca?: string; cert?: string; key?: string } = {}
  for (const name of ['ca', 'cert', 'key'] as const) {
    const path = options.get(name)
    if (path === undefined) continue
    if (path === '' || path.includes('\0'))
      throw new FormatError(`no path in ${name}`, `${name}=the path of a PEM file`)
    files[name] = path
  }
  if (files.key !== undefined && files.cert === undefined)
    throw new FormatError('key without cert', 'both, or cert alone with the key in the same file')
  const word = options.get('insecure') ?? 'false'
  if (word !== 'true' && word !== 'false') throw new FormatError('another word for insecure', 'insecure=true or false')
  const insecure = word === 'true'
  if (insecure && files.ca !== undefined) throw new FormatError('ca beside insecure=true', 'one of the two')
  const servername = options.get('servername')
  if (servername === undefined) return { ...files, insecure }
  const sound = /^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$/i.test(servername) && !/(^|\.)[0-9]+$/.test(servername)
  if (!sound) throw new FormatError('a servername that is no host name', 'servername=proxy.example')
  return { ...files, servername, insecure }
}

function direct(word: string, query: string | undefined): Upstream {
  const options = parseOptions(word, query, ['interface', 'mark'])
  const name = options.get('interface') ?? ''
  // dev_valid_name in net/core/dev.c.
  const sound = /^[!-~]{1,15}$/.test(name) && !/[/:%]/.test(name) && name !== '.' && name !== '..'
  if (options.has('interface') && !sound)
    throw new FormatError('no interface name', 'interface=eth0: 1 to 15 characters without space, /, : and %')
  const text = options.get('mark') ?? '0'
  const mark = /^(0x[0-9a-f]{1,8}|0|[1-9][0-9]{0,9})$/i.test(text) ? Number(text) : Number.NaN
  if (!(mark <= 0xffff_ffff)) throw new FormatError('no mark', 'mark=1 to 4294967295, or 0x1 to 0xffffffff; 0 for none')
  return { kind: 'direct', interface: name, mark }
}

function reject(word: string, query: string | undefined): Upstream {
  parseOptions(word, query, [])
  return { kind: 'reject' }
}

/** The URL in its shortest form, for users and logs, without the password: `socks5://user:***@[::1]:1080`. */
export function proxyUrlText(upstream: WrittenUpstream): string {
  if (upstream.kind === 'reject') return 'reject://'
  if (upstream.kind === 'direct') {
    const { interface: name, mark } = upstream
    return `direct://${queryText({ interface: name || undefined, mark: mark === 0 ? undefined : `0x${mark.toString(16)}` })}`
  }
  const { server, username, password, passwordFile, isPerSource, udp } = upstream
  const tls = upstream.kind === 'socks4' ? undefined : upstream.tls
  const { insecure, ...files } = tls ?? { insecure: false }
  const encoded = encodeURIComponent(username ?? '')
  const name = isPerSource ? encoded.replaceAll('%7Bsource%7D', '{source}') : encoded
  const user = username === undefined ? '' : `${name}${password === undefined ? '' : ':***'}@`
  const query = queryText({
    ...files,
    insecure: insecure ? 'true' : undefined,
    udp: udp === 'auto' ? undefined : udp,
    passwordFile,
  })
  return `${schemeOf(upstream, tls !== undefined)}://${user}${serverText(server)}${query}`
}

function schemeOf(upstream: Exclude<Upstream, { kind: 'direct' | 'reject' }>, hasTls: boolean): string {
  const unix = 'path' in upstream.server ? '+unix' : ''
  if (upstream.kind === 'http') return hasTls ? 'https' : `http${unix}`
  if (upstream.kind === 'socks4') return `${upstream.names ? 'socks4a' : 'socks4'}${unix}`
  return `socks5${hasTls ? '+tls' : unix}`
}

function serverText(server: Server): string {
  if ('path' in server) return encodeURIComponent(server.path).replaceAll('%2F', '/')
  return `${server.host.includes(':') ? `[${server.host}]` : server.host}:${server.port}`
}

function queryText(options: { readonly [name: string]: string | undefined }): string {
  const parts = Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(value!).replaceAll('%2F', '/')}`)
  return parts.length === 0 ? '' : `?${parts.join('&')}`
}
