/** Upstreams as they are written → as a gateway is told them: names looked up, chains flat, passwords read from their files. */
import { ConfigError } from '../errors.ts'
import type { GatewayOptions, Upstream, UpstreamOptions } from '../options.ts'
import { FormatError } from './format-error.ts'
import { readPassword } from './password-file.ts'
import { proxyUrlText, type WrittenUpstream } from './proxy-url.ts'
import { suggestion } from './suggest.ts'
import { MAX_HOPS, type WrittenChain, type WrittenGroup, type WrittenHop } from './written-upstream.ts'

/** Where something is written; `within` follows the key. */
export interface WrittenPlace {
  readonly key: 'proxy' | 'upstreams' | 'proxyPasswordFile'
  readonly line: number
  readonly within: string
}

/** A place as a user finds it: `gateway.yaml:3: upstreams.office`. */
export type PlaceText = (place: WrittenPlace) => string

export interface WrittenUpstreams {
  /** None: not set. */
  readonly proxy: readonly WrittenHop[]
  readonly upstreams: readonly (WrittenChain | WrittenGroup)[]
  /** Of the proxy, when that is a single URL; '' for none. */
  readonly passwordFile: string
}

export interface ResolvedUpstreams {
  /** undefined: not set. */
  readonly proxy: string | undefined
  readonly upstreams: { readonly [name: string]: UpstreamOptions }
}

/** Of the proxy that is written as URLs. */
const PROXY = 'proxy'
/** A target of rules, and no upstream. */
const DROP = 'drop'
/** Groups in groups. */
const MAX_DEPTH = 4

/** Throws ConfigError. */
export function resolveUpstreams(written: WrittenUpstreams, placeText: PlaceText): ResolvedUpstreams {
  return new Resolution(written, placeText).all()
}

/** Where a hop or a member is written. */
interface Spot {
  readonly key: 'proxy' | 'upstreams'
  readonly within: string
}

class Resolution {
  readonly #written: WrittenUpstreams
  readonly #placeText: PlaceText
  readonly #named = new Map<string, WrittenChain | WrittenGroup>()

  constructor(written: WrittenUpstreams, placeText: PlaceText) {
    this.#written = written
    this.#placeText = placeText
    this.#name(own({ kind: 'direct', interface: '', mark: 0 }))
    this.#name(own({ kind: 'reject' }))
    for (const each of written.upstreams) this.#name(each)
  }

  /** `direct` may be another way out, as long as it is direct. */
  #name(each: WrittenChain | WrittenGroup): void {
    const { name, line } = each
    const fault = (found: string, allowed: string) =>
      this.#refuse({ key: 'upstreams', line, within: `.${name}` }, found, allowed)
    if (name === DROP) throw fault('the name of a target of rules', 'another name')
    const isOwn = name === 'direct' || name === 'reject'
    const [first, more] = each.kind === 'chain' ? each.hops : []
    if (isOwn && (first === undefined || more !== undefined || kindOf(first) !== name))
      throw fault('a name that is taken', `another name, or ${name}:// behind it`)
    const { proxy } = this.#written
    if (name === PROXY && (proxy.length > 1 || typeof proxy[0]?.hop === 'object'))
      throw fault('the name of what the key proxy says', 'another name')
    this.#named.set(name, each)
  }

  all(): ResolvedUpstreams {
    const upstreams = new Map<string, UpstreamOptions>()
    const proxy = this.#proxy(upstreams)
    for (const [name, each] of this.#named) upstreams.set(name, this.#resolve(name, each))
    return { proxy, upstreams: Object.fromEntries(upstreams) }
  }

  #proxy(upstreams: Map<string, UpstreamOptions>): string | undefined {
    const { proxy, passwordFile } = this.#written
    const [first, more] = proxy
    if (first === undefined) return undefined
    const isName = typeof first.hop === 'string' && more === undefined
    if (passwordFile !== '' && (more !== undefined || isName)) {
      const found = isName ? 'a name in proxy' : 'several URLs in proxy'
      throw this.#refuse(PASSWORD_FILE, found, 'it with a single URL; others have passwordFile=FILE as an option')
    }
    const spot = (within: string): Spot => ({ key: 'proxy', within })
    if (!isName) {
      upstreams.set(PROXY, this.#chain(proxy, spot, []))
      return PROXY
    }
    this.#find(first.hop as string, first.line, spot(''))
    return first.hop as string
  }

  #resolve(name: string, each: WrittenChain | WrittenGroup): UpstreamOptions {
    if (each.kind === 'chain') {
      return this.#chain(each.hops, within => ({ key: 'upstreams', within: `.${name}${within}` }), [name])
    }
    this.#checkMembers(each, [name])
    const seen = new Set<string>()
    for (const member of each.members) {
      if (seen.has(member.name)) throw this.#memberFault(each, member, 'a member twice', 'each once')
      seen.add(member.name)
    }
    return { kind: 'group', policy: each.policy, members: [...seen], probeMs: each.probeMs }
  }

  /** @param path the groups that lead here, this one included */
  #checkMembers(group: WrittenGroup, path: readonly string[]): void {
    for (const member of group.members) {
      const found = this.#find(member.name, member.line, { key: 'upstreams', within: `.${group.name}.members` })
      if (found.kind === 'chain') continue
      const circle = path.indexOf(member.name)
      if (circle >= 0) {
        const text = [...path.slice(circle), member.name].join(' → ')
        throw this.#memberFault(group, member, `a circle, ${text}`, 'groups that do not hold themselves')
      }
      if (path.length >= MAX_DEPTH)
        throw this.#memberFault(
          group,
          member,
          `groups in groups, ${[...path, member.name].join(' → ')}`,
          `a depth of ${MAX_DEPTH}`,
        )
      this.#checkMembers(found, [...path, member.name])
    }
  }

  #memberFault(group: WrittenGroup, { line }: { line: number }, found: string, allowed: string): ConfigError {
    return this.#refuse({ key: 'upstreams', line, within: `.${group.name}.members` }, found, allowed)
  }

  /** @param path the chains that lead here */
  #chain(written: readonly WrittenHop[], spotOf: (within: string) => Spot, path: readonly string[]): UpstreamOptions {
    const hops = this.#flat(written, spotOf, path)
    const fault = (found: string, allowed: string) =>
      this.#refuse({ ...spotOf(''), line: written[0]!.line }, found, allowed)
    if (hops.length > MAX_HOPS) throw fault(`${hops.length} hops in all`, `at most ${MAX_HOPS}`)
    if (hops.length > 1) {
      if (hops.some(({ kind }) => kind === 'reject')) throw fault('reject:// in a chain', 'it alone')
      if (hops.some(({ kind }, index) => kind === 'direct' && index > 0))
        throw fault('direct:// behind a hop', 'it as the first hop')
      if (hops.at(-1)!.kind === 'direct') throw fault('direct:// as the last hop', 'a proxy behind it')
      if (hops.some((hop, index) => index > 0 && 'server' in hop && 'path' in hop.server))
        throw fault('a Unix socket behind a hop', 'it as the first hop')
    }
    return { kind: 'chain', hops, text: hops.map(proxyUrlText).join(' → ') }
  }

  #flat(written: readonly WrittenHop[], spotOf: (within: string) => Spot, path: readonly string[]): Upstream[] {
    return written.flatMap(({ hop, line }, index) => {
      const spot = spotOf(written.length > 1 ? ` hop ${index + 1}` : '')
      if (typeof hop !== 'string') return [this.#withPassword(hop, line, spot)]
      const found = this.#find(hop, line, spot)
      const fault = (what: string, allowed: string) => this.#refuse({ ...spot, line }, what, allowed)
      if (found.kind === 'group') throw fault('a group in a chain', 'a group of chains')
      if (path.includes(hop)) {
        const text = [...path.slice(path.indexOf(hop)), hop].join(' → ')
        throw fault(`a circle, ${text}`, 'chains that do not hold themselves')
      }
      return this.#flat(found.hops, within => ({ key: 'upstreams', within: `.${hop}${within}` }), [...path, hop])
    })
  }

  /** A name that is not known is not told: it may be a piece of a password. */
  #find(name: string, line: number, spot: Spot): WrittenChain | WrittenGroup {
    const found = this.#named.get(name)
    if (found !== undefined) return found
    const names = [...this.#named.keys()]
    const known = names.slice(0, 20).join(', ')
    throw this.#refuse({ ...spot, line }, `a name that no upstream has${suggestion(name, names)}`, `${known}, or a URL`)
  }

  #withPassword(written: WrittenUpstream, line: number, spot: Spot): Upstream {
    const general = spot.key === 'proxy' ? this.#written.passwordFile : ''
    if (written.kind === 'direct' || written.kind === 'reject') {
      if (general === '') return written
      throw this.#refuse(PASSWORD_FILE, `${written.kind}:// in proxy`, 'a proxy that has passwords')
    }
    const { passwordFile, ...hop } = written
    if (passwordFile !== undefined && general !== '')
      throw this.#refuse(PASSWORD_FILE, 'passwordFile= in proxy too', 'one of the two')
    const fault = (found: string, allowed: string) => this.#refuse({ ...spot, line }, found, allowed)
    if (general !== '') {
      this.#checkGeneral(hop)
      return { ...hop, password: this.#password(general, hop.kind, PASSWORD_FILE) }
    }
    if (passwordFile !== undefined)
      return { ...hop, password: this.#password(passwordFile, hop.kind, { ...spot, line }) }
    if (hop.kind === 'socks5' && hop.username !== undefined && hop.password === undefined) {
      const ways = 'socks5://user:password@host, or passwordFile=FILE as an option'
      throw fault(
        'a user name without a password',
        spot.key === 'proxy' ? `${ways}, or proxyPasswordFile beside it` : ways,
      )
    }
    if (hop.kind === 'http' && hop.username !== undefined && hop.password === undefined) return { ...hop, password: '' }
    return hop
  }

  #password(file: string, kind: 'socks5' | 'socks4' | 'http', place: WrittenPlace): string {
    try {
      return readPassword(file, kind)
    } catch (error) {
      if (error instanceof FormatError) throw this.#refuse(place, error.found, error.allowed)
      throw error instanceof ConfigError
        ? new ConfigError('CONFIG_FILE', `${this.#placeText(place)}: ${error.message}`)
        : error
    }
  }

  #checkGeneral(hop: Exclude<Upstream, { kind: 'direct' | 'reject' }>): void {
    if (hop.kind === 'socks4') throw this.#refuse(PASSWORD_FILE, 'SOCKS4 in proxy', 'a proxy that has passwords')
    if (hop.username === undefined) throw this.#refuse(PASSWORD_FILE, 'no user name in proxy', 'socks5://user@host')
    if (hop.password !== undefined) throw this.#refuse(PASSWORD_FILE, 'a password in proxy too', 'one of the two')
  }

  #refuse(place: WrittenPlace, found: string, allowed: string): ConfigError {
    return new ConfigError('CONFIG_VALUE', `${this.#placeText(place)}: found ${found}, allowed ${allowed}`)
  }
}

const PASSWORD_FILE: WrittenPlace = { key: 'proxyPasswordFile', line: 0, within: '' }

function own(hop: Upstream): WrittenChain {
  return { kind: 'chain', name: hop.kind, line: 0, hops: [{ line: 0, hop }] }
}

function kindOf({ hop }: WrittenHop): string {
  return typeof hop === 'string' ? '' : hop.kind
}

/** For people, without passwords. */
export function upstreamText({ proxy, upstreams }: Pick<GatewayOptions, 'proxy' | 'upstreams'>): string {
  const upstream = upstreams[proxy]!
  return upstream.kind === 'chain' ? upstream.text : `${proxy} (${upstream.policy}: ${upstream.members.join(', ')})`
}
