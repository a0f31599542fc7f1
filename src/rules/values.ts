/** The values of a rule's conditions, read strictly. Each throws FormatError. */
import { FormatError } from '../config/format-error.ts'
import { suggestion } from '../config/suggest.ts'
import { formatAddress, parseAddress } from '../endpoint.ts'
import { quote } from '../redact.ts'
import { canonicalDomain } from './domain-name.ts'
import { type Cidr, OWN_TARGETS, type PortRange, type Protocol, type Target } from './rule.ts'

const CIDR_ALLOWED = 'an address, or a prefix as 10.0.0.0/8 or fd00::/8'

/** `10.0.0.0/8`, `fd00::/8`, or one address. Bits behind the prefix are refused: they are mostly a slip. */
export function parseCidr(text: string): Cidr {
  const slash = text.indexOf('/')
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === undefined) throw new FormatError(quote(text), CIDR_ALLOWED)
  const bits = address.length * 8
  if (slash < 0) return { address, prefix: bits }
  const prefix = text.slice(slash + 1)
  if (!/^(0|[1-9][0-9]{0,2})$/.test(prefix) || Number(prefix) > bits) {
    throw new FormatError(quote(text), `a prefix length from 0 to ${bits}`)
  }
  const base = masked(address, Number(prefix))
  if (base.some((byte, at) => byte !== address[at])) {
    throw new FormatError(quote(text), `${formatAddress(base)}/${prefix}, or the address without /${prefix}`)
  }
  return { address, prefix: Number(prefix) }
}

function masked(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - at * 8))))
}

const PORT_ALLOWED = 'a port from 1 to 65535, or a range as 8000-8999'

export function parsePortRange(text: string): PortRange {
  const match = /^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/.exec(text)
  if (match === null) throw new FormatError(quote(text), PORT_ALLOWED)
  const first = Number(match[1])
  const last = Number(match[2] ?? match[1])
  if (last > 65_535) throw new FormatError(quote(text), PORT_ALLOWED)
  if (first > last) throw new FormatError(quote(text), 'a range with the smaller port first')
  return { first, last }
}

export function parseProtocol(text: string): Protocol {
  if (text === 'tcp' || text === 'udp') return text
  throw new FormatError(quote(text) + suggestion(text, ['tcp', 'udp']), 'tcp or udp')
}

/** A name that is written without any sign for those below it: that is said by the key. */
export function parseDomain(text: string): string {
  const name = canonicalDomain(text)
  if (name !== undefined) return name
  const bare = text.replace(/^(\*|\+)?\./, '')
  if (bare !== text && canonicalDomain(bare) !== undefined) {
    throw new FormatError(quote(text), `${bare} (as domainSuffix for itself and all names below it)`)
  }
  if (parseAddress(text) !== undefined) throw new FormatError(quote(text), 'a domain name (addresses: destination)')
  throw new FormatError(quote(text), 'a domain name')
}

/** `upstreams`: the names of all upstreams and groups. */
export function parseTarget(text: string, upstreams: readonly string[]): Target {
  const own = OWN_TARGETS.find(word => word === text)
  if (own !== undefined) return { kind: own }
  if (upstreams.includes(text)) return { kind: 'upstream', name: text }
  const words = [...new Set([...upstreams, ...OWN_TARGETS])]
  throw new FormatError(quote(text) + suggestion(text, words), words.join(', '))
}
