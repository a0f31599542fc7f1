/** Upstreams as they are written, by whatever means: names that are not looked up yet, passwords in files. */
import type { GroupPolicy } from '../options.ts'
import { FormatError } from './format-error.ts'
import { parseProxyUrl, proxyUrlText, type WrittenUpstream } from './proxy-url.ts'

/** A part of a chain: an upstream, or the name of one. `line` 0: there are no lines. */
export interface WrittenHop {
  readonly line: number
  readonly hop: WrittenUpstream | string
}

export interface WrittenChain {
  readonly kind: 'chain'
  readonly name: string
  readonly line: number
  readonly hops: readonly WrittenHop[]
}

export interface WrittenGroup {
  readonly kind: 'group'
  readonly name: string
  readonly line: number
  readonly policy: GroupPolicy
  readonly members: readonly { readonly line: number; readonly name: string }[]
  readonly probeMs: number
}

export const POLICIES = ['failover', 'round-robin', 'least-latency'] as const satisfies GroupPolicy[]
export const DEFAULT_PROBE_MS = 10_000
/** Each hop costs a handshake, and a header around each datagram. */
export const MAX_HOPS = 8
export const MAX_MEMBERS = 64
export const MAX_UPSTREAMS = 256

const NAME = /^[A-Za-z][\w.-]{0,39}$/
const NAME_ALLOWED = 'a name of 1 to 40 letters, digits, _, . and -, of which the first is a letter'

export const isName = (text: string) => NAME.test(text)

/** Throws FormatError. */
export function checkName(name: string): string {
  if (isName(name)) return name
  throw new FormatError('another name', NAME_ALLOWED)
}

/** One or more URLs with white space between, or a name. Throws FormatError. */
export function hopsFromText(text: string, line: number): WrittenHop[] {
  // A password may hold a space, but no // behind it.
  const parts = text.split(/ +(?=[a-z][a-z0-9+.-]*:\/\/)/i)
  return parts.map(part => ({ line, hop: isName(part) ? part : parseProxyUrl(part) }))
}

export function checkHops(hops: WrittenHop[]): WrittenHop[] {
  if (hops.length > MAX_HOPS) throw new FormatError(`${hops.length} hops`, `at most ${MAX_HOPS}`)
  return hops
}

/** The URLs without passwords. */
export function hopText({ hop }: WrittenHop): string {
  return typeof hop === 'string' ? hop : proxyUrlText(hop)
}
