/**
 * Addresses and ports, in the one form that the whole project uses.
 *
 * An IP address is 4 or 16 bytes in network order: that is how packets, SOCKS messages and the kernel carry it,
 * so text is made only for logs and parsed only from configuration.
 */
import { isIP } from 'node:net'

export interface IpEndpoint {
  /** 4 (IPv4) or 16 (IPv6) bytes, network order. */
  readonly address: Uint8Array
  readonly port: number
}

export interface NameEndpoint {
  readonly name: string
  readonly port: number
}

/** What a client asked for: always an IP endpoint when it comes from a packet. */
export type Destination = IpEndpoint | NameEndpoint

/** Parses a textual IPv4 or IPv6 address (no zone, no brackets); undefined when it is none. */
export function parseAddress(text: string): Uint8Array | undefined {
  const version = isIP(text)
  if (version === 4) return Uint8Array.from(text.split('.'), Number)
  if (version !== 6 || text.includes('%')) return undefined
  const bytes = new Uint8Array(16)
  let rest = text
  const dotted = rest.lastIndexOf(':') + 1
  if (rest.includes('.')) {
    const [a, b, c, d] = rest.slice(dotted).split('.').map(Number) as [number, number, number, number]
    rest = `${rest.slice(0, dotted)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  }
  const [head = '', tail] = rest.split('::') as [string, string | undefined]
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  for (const [at, word] of front.entries()) putWord(bytes, at, word)
  for (const [at, word] of back.entries()) putWord(bytes, 8 - back.length + at, word)
  return bytes
}

function putWord(bytes: Uint8Array, at: number, word: string): void {
  const value = Number.parseInt(word, 16)
  bytes[2 * at] = value >> 8
  bytes[2 * at + 1] = value & 255
}

/** Text of 4 or 16 address bytes; IPv6 in the form of RFC 5952. */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.')
  const words: number[] = []
  for (let at = 0; at < 16; at += 2) words.push((address[at]! << 8) | address[at + 1]!)
  const gap = longestZeroRun(words)
  const hex = (part: number[]) => part.map(word => word.toString(16)).join(':')
  if (gap.length < 2) return hex(words)
  return `${hex(words.slice(0, gap.start))}::${hex(words.slice(gap.start + gap.length))}`
}

function longestZeroRun(words: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < words.length; start++) {
    let end = start
    while (end < words.length && words[end] === 0) end++
    if (end - start > best.length) best = { start, length: end - start }
  }
  return best
}

/** `1.2.3.4:80`, `[::1]:80`, `name:80`. */
export function formatEndpoint(endpoint: Destination): string {
  if ('name' in endpoint) return `${endpoint.name}:${endpoint.port}`
  const text = formatAddress(endpoint.address)
  return endpoint.address.length === 4 ? `${text}:${endpoint.port}` : `[${text}]:${endpoint.port}`
}

export function sameAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at])
}
