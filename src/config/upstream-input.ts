/** Upstreams as a library user writes them, or as they are already, checked. */
import { ConfigError } from '../errors.ts'
import type { GatewayInput, GroupInput, ProxyInput, ProxyOptions, Upstream, UpstreamOptions } from '../options.ts'
import { FormatError } from './format-error.ts'
import { type ResolvedUpstreams, resolveUpstreams } from './upstreams.ts'
import {
  checkHops,
  checkName,
  DEFAULT_PROBE_MS,
  hopsFromText,
  MAX_MEMBERS,
  MAX_UPSTREAMS,
  POLICIES,
  type WrittenChain,
  type WrittenGroup,
  type WrittenHop,
} from './written-upstream.ts'

/** Throws ConfigError. */
export function upstreamsFromInput({ proxy, upstreams = {} }: GatewayInput): ResolvedUpstreams & { proxy: string } {
  const entries = Object.entries(upstreams).filter(([, value]) => value !== undefined)
  if (entries.length > MAX_UPSTREAMS) throw wrong('upstreams', `${entries.length} of them`, `at most ${MAX_UPSTREAMS}`)
  const written = {
    proxy: told('proxy', () => hopsOf(proxy, 'proxy')),
    upstreams: entries.map(([name, value]) => told(`upstreams.${name.slice(0, 40)}`, () => named(name, value))),
    passwordFile: '',
  }
  const resolved = resolveUpstreams(written, ({ key, within }) => `${key}${within}`)
  return resolved as ResolvedUpstreams & { proxy: string }
}

function named(name: string, value: ProxyInput | GroupInput | UpstreamOptions): WrittenChain | WrittenGroup {
  checkName(name)
  const place = `upstreams.${name}`
  if (typeof value !== 'object' || value === null) return chain(name, hopsOf(value, place))
  if ('hops' in value) return chain(name, completeHops(value.hops))
  if ('members' in value) return group(name, value, place)
  return chain(name, hopsOf(value as ProxyInput, place))
}

function chain(name: string, hops: WrittenHop[]): WrittenChain {
  return { kind: 'chain', name, line: 0, hops }
}

function group(name: string, value: GroupInput | (UpstreamOptions & { kind: 'group' }), place: string): WrittenGroup {
  const policy: unknown = 'group' in value ? value.group : value.policy
  const { members, probeMs = DEFAULT_PROBE_MS } = value
  const known = POLICIES.find(each => each === policy)
  if (known === undefined) throw wrong(`${place}.group`, String(policy), POLICIES.join(', '))
  if (!Number.isInteger(probeMs) || probeMs < 500 || probeMs > 3_600_000)
    throw wrong(`${place}.probeMs`, String(probeMs), '500 to 3600000')
  const isList = Array.isArray(members) && members.every(each => typeof each === 'string')
  if (!isList || members.length === 0 || members.length > MAX_MEMBERS)
    throw wrong(
      `${place}.members`,
      isList ? `${members.length} of them` : 'no list of names',
      `1 to ${MAX_MEMBERS} names`,
    )
  return {
    kind: 'group',
    name,
    line: 0,
    policy: known,
    members: members.map(each => ({ name: each, line: 0 })),
    probeMs,
  }
}

/** Throws ConfigError, and FormatError for a URL. */
function hopsOf(input: ProxyInput, place: string): WrittenHop[] {
  if (typeof input === 'string') return checkHops(hopsFromText(input, 0))
  if (!Array.isArray(input)) return [{ line: 0, hop: plainProxy(input as ProxyOptions, place) }]
  if (input.length === 0 || !input.every(each => typeof each === 'string'))
    throw new FormatError('a list that is not of texts', 'a URL, or a list of URLs')
  return checkHops((input as string[]).flatMap(text => hopsFromText(text, 0)))
}

function plainProxy(proxy: ProxyOptions | undefined, place: string): Upstream {
  const { host, port, username, password } = proxy ?? ({} as Partial<ProxyOptions>)
  if (typeof host !== 'string' || host === '') throw wrong(`${place}.host`, String(host), 'a host name or an address')
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw wrong(`${place}.port`, String(port), '1 to 65535')
  checkCredentials(username, password, place)
  const user = username === undefined || password === undefined ? {} : { username, password }
  return { kind: 'socks5', server: { host, port }, ...user, isPerSource: false, udp: 'auto' }
}

/** RFC 1929: both have 1 to 255 bytes. */
function checkCredentials(username: unknown, password: unknown, place: string): void {
  if (username === undefined && password === undefined) return
  for (const [field, value] of Object.entries({ username, password })) {
    const bytes = typeof value === 'string' ? Buffer.byteLength(value) : 0
    if (bytes < 1 || bytes > 255) throw wrong(`${place}.${field}`, `${bytes} bytes`, '1 to 255 bytes, both or none')
  }
}

const KINDS: readonly unknown[] = ['socks5', 'socks4', 'http', 'direct', 'reject'] satisfies Upstream['kind'][]

/** Of options that are complete. */
function completeHops(hops: readonly Upstream[]): WrittenHop[] {
  const isSound = Array.isArray(hops) && hops.length > 0 && hops.every(hop => KINDS.includes(hop?.kind))
  if (!isSound) throw new FormatError('hops that are no upstreams', 'a URL, or a list of URLs')
  return checkHops(hops.map(hop => ({ line: 0, hop })))
}

function told<T>(place: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw error instanceof FormatError ? wrong(place, error.found, error.allowed) : error
  }
}

function wrong(path: string, found: string, allowed: string): ConfigError {
  return new ConfigError('CONFIG_VALUE', `${path}: found ${found}, allowed: ${allowed}`)
}
