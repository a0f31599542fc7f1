/**
 * Addresses and ports, in the one form that the whole project uses.
 *
 * An IP address is 4 or 16 bytes in network order: that is how packets, SOCKS messages and the kernel carry it,
 * so text is made only for logs and parsed only from configuration.
 */
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

/**
 * Parses a textual IPv4 (four decimal parts) or IPv6 address (RFC 4291 section 2.2; no zone, no brackets); undefined
 * when it is none. Not by isIP of node:net: loading that, and its expression for IPv6, takes 10 ms of every start.
 */
export function parseAddress(text: string): Uint8Array | undefined {
  const bytes = text.includes(':') ? parseAddress6(text) : parseAddress4(text)
  return bytes === undefined ? undefined : Uint8Array.from(bytes)
}

function parseAddress4(text: string): number[] | undefined {
  const parts = text.split('.')
  const sound = parts.length === 4 && parts.every(part => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) < 256)
  return sound ? parts.map(Number) : undefined
}

function parseAddress6(text: string): number[] | undefined {
  const [head, tail, more] = text.split('::')
  const front = parseWords(head!, tail === undefined)
  const back = tail === undefined ? [] : parseWords(tail, true)
  if (front === undefined || back === undefined || more !== undefined) return undefined
  const missing = 16 - front.length - back.length
  if (tail === undefined ? missing !== 0 : missing < 2) return undefined
  return [...front, ...Array<number>(missing).fill(0), ...back]
}

/** The bytes of `a:b:c`, or none of ''; the last word of an address may be an IPv4 address. */
function parseWords(text: string, isLast: boolean): number[] | undefined {
  const bytes: number[] = []
  if (text === '') return bytes
  const words = text.split(':')
  for (const [at, word] of words.entries()) {
    const dotted = isLast && at === words.length - 1 ? parseAddress4(word) : undefined
    if (dotted !== undefined) bytes.push(...dotted)
    else if (/^[0-9a-f]{1,4}$/i.test(word)) bytes.push(Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255)
    else return undefined
  }
  return bytes
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

export function sameEndpoint(a: IpEndpoint, b: IpEndpoint): boolean {
  return a.port === b.port && sameAddress(a.address, b.address)
}

export function sameAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at])
}
