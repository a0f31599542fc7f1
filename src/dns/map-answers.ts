/**
 * Answers where names stay names (`dns.mode: map`): host names get a virtual address, reverse look-ups of these their name.
 * What else there is goes to a resolver, but for names that no resolver outside should hear of.
 */
import { writeAddress, writeError, writePointer } from './answer.ts'
import type { NameMap } from './name-map.ts'
import { nameOf, type Query } from './question.ts'
import { addressOfReverseName, NO_INDEX } from './virtual-addresses.ts'
import { INTERNET, Rcode, Type } from './wire.ts'

/** Ask a resolver, and pass its answer on. */
export const FORWARD = 0
/** The same, and take the addresses out of the answer: `withoutHints`. */
export const FORWARD_WITHOUT_HINTS = -1

const LOOPBACK4 = Uint8Array.of(127, 0, 0, 1)
const LOOPBACK6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
/** Of what never changes: an hour. */
const FIXED_TTL_SECONDS = 3_600

/**
 * Last labels of names that nobody outside knows: of the link (RFC 6762 §3), of tests and wrong ones (RFC 6761 §6.2, §6.4).
 * Who has a resolver for one of them says so by a split, which is asked first.
 */
const NOWHERE: ReadonlySet<string> = new Set(['local', 'test', 'invalid'])
/** Of names that the proxy may know the way to, and no resolver: onion services (RFC 7686 §2), private networks (ICANN, 2024). */
const BEHIND_THE_PROXY: ReadonlySet<string> = new Set(['onion', 'internal'])

/** An IPv4 address in a form that some `inet_aton` takes: no name ends so (RFC 3696 §2), and it must not pass for one. */
const NUMBER = /^([0-9]+|0x[0-9a-f]*)$/

/**
 * Answers a sound query from the map: the bytes in `out`, or `FORWARD` or `FORWARD_WITHOUT_HINTS`. SERVFAIL when the map is
 * exhausted, which it counts.
 */
export function answerFromMap(out: Uint8Array, asked: Uint8Array, query: Query, map: NameMap, nowMs: number): number {
  if (query.class !== INTERNET) return FORWARD
  const name = nameOf(asked, query)
  const last = name.slice(name.lastIndexOf('.') + 1)
  if (last === 'arpa') return answerArpa(out, asked, query, name, map)
  if (last === 'localhost') return answerLocalhost(out, asked, query)
  if (NOWHERE.has(last) || isCanary(name)) return writeError(out, asked, query, Rcode.noSuchName)
  const asksAddress = query.type === Type.a || query.type === Type.aaaa || query.type === Type.any
  if (asksAddress && query.isHostName) {
    // One label alone is a name of the local network.
    if (query.labels === 1 || NUMBER.test(last)) return writeError(out, asked, query, Rcode.noSuchName)
    return answerHost(out, asked, query, name, map, nowMs)
  }
  if (BEHIND_THE_PROXY.has(last)) return writeError(out, asked, query, Rcode.noError)
  return query.type === Type.https || query.type === Type.svcb ? FORWARD_WITHOUT_HINTS : FORWARD
}

/** ANY gets what there is of one type (RFC 8482 §4.1). */
function answerHost(
  out: Uint8Array,
  asked: Uint8Array,
  query: Query,
  name: string,
  map: NameMap,
  nowMs: number,
): number {
  const { addresses } = map
  if (query.type === Type.aaaa && !addresses.hasIpv6) return writeError(out, asked, query, Rcode.noError)
  const index = map.assign(name, nowMs)
  if (index === NO_INDEX) return writeError(out, asked, query, Rcode.serverFailure)
  const address = query.type === Type.aaaa ? addresses.address6(index) : addresses.address4(index)
  return writeAddress(out, asked, query, address, map.ttlSeconds)
}

/** RFC 6761 §6.3. */
function answerLocalhost(out: Uint8Array, asked: Uint8Array, query: Query): number {
  if (query.type === Type.a) return writeAddress(out, asked, query, LOOPBACK4, FIXED_TTL_SECONDS)
  if (query.type === Type.aaaa) return writeAddress(out, asked, query, LOOPBACK6, FIXED_TTL_SECONDS)
  return writeError(out, asked, query, Rcode.noError)
}

/**
 * The name by which Firefox asks whether the network has a resolver of its own to be used: NXDOMAIN says yes. Else it would ask
 * one of its own by HTTPS, and the names would be lost for the rules.
 */
function isCanary(name: string): boolean {
  return name === 'use-application-dns.net'
}

function answerArpa(out: Uint8Array, asked: Uint8Array, query: Query, name: string, map: NameMap): number {
  // Whoever offers encrypted DNS says so for itself: the upstream's offer would lead past us (RFC 9462 §6.4).
  if (isBelow(name, 'resolver.arpa')) return writeError(out, asked, query, Rcode.noError)
  // RFC 8375 §4.
  if (isBelow(name, 'home.arpa')) return writeError(out, asked, query, Rcode.noSuchName)
  const address = addressOfReverseName(name)
  if (address === undefined || map.addresses.indexOf(address) === NO_INDEX) return FORWARD
  const found = map.nameOf(address)
  if (found === undefined) return writeError(out, asked, query, Rcode.noSuchName)
  if (query.type !== Type.ptr && query.type !== Type.any) return writeError(out, asked, query, Rcode.noError)
  return writePointer(out, asked, query, found, map.ttlSeconds)
}

function isBelow(name: string, parent: string): boolean {
  return name === parent || name.endsWith(`.${parent}`)
}
