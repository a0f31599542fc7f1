/** IP packets for tests: built from fields with right checksums, and taken apart again with every checksum looked at. */
import { formatAddress, parseAddress } from '../../src/endpoint.ts'

export const Flag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const

const TCP = 6
const UDP = 17
export const VNET_BYTES = 12

export interface Pair {
  /** Textual addresses, both IPv4 or both IPv6. */
  readonly from: string
  readonly to: string
}

export interface TcpFields {
  readonly fromPort: number
  readonly toPort: number
  readonly seq: number
  readonly ack?: number
  readonly flags: number
  readonly window?: number
  /** Padded with zeros to a multiple of 4. */
  readonly options?: readonly number[]
  readonly payload?: Uint8Array
}

/** The Internet checksum (RFC 1071), complemented. */
export function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0
  const bytes = Buffer.concat(parts)
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return ~sum & 0xffff
}

function pseudoHeader(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): Uint8Array {
  const tail = Buffer.alloc(source.length === 4 ? 4 : 8)
  tail[tail.length - (source.length === 4 ? 3 : 1)] = protocol
  if (source.length === 4) tail.writeUInt16BE(length, 2)
  else tail.writeUInt32BE(length, 0)
  return Buffer.concat([source, destination, tail])
}

const parsed = new Map<string, Uint8Array>()

/** Parsed once: what is ours shall not be counted with a packet's cost (test/cost). */
function addressOf(text: string): Uint8Array {
  const address = parsed.get(text) ?? parseAddress(text)!
  parsed.set(text, address)
  return address
}

function addresses({ from, to }: Pair): [Uint8Array, Uint8Array] {
  return [addressOf(from), addressOf(to)]
}

export interface IpFields {
  readonly protocol: number
  readonly payload: Uint8Array
  /** IPv4: identification, and flags with fragment offset as they stand in the header. */
  readonly id?: number
  readonly fragment?: number
}

export function ip(pair: Pair, { protocol, payload, id = 0, fragment = 0 }: IpFields): Buffer {
  const [source, destination] = addresses(pair)
  if (source.length === 16) {
    const head = Buffer.alloc(8)
    head[0] = 0x60
    head.writeUInt16BE(payload.length, 4)
    head[6] = protocol
    head[7] = 64
    return Buffer.concat([head, source, destination, payload])
  }
  const head = Buffer.alloc(20)
  head[0] = 0x45
  head.writeUInt16BE(20 + payload.length, 2)
  head.writeUInt16BE(id, 4)
  head.writeUInt16BE(fragment, 6)
  head[8] = 64
  head[9] = protocol
  head.set(source, 12)
  head.set(destination, 16)
  head.writeUInt16BE(checksum(head), 10)
  return Buffer.concat([head, payload])
}

export function tcp(pair: Pair, fields: TcpFields): Buffer {
  const { options = [], payload = new Uint8Array() } = fields
  const optionBytes = Math.ceil(options.length / 4) * 4
  const segment = Buffer.alloc(20 + optionBytes + payload.length)
  segment.writeUInt16BE(fields.fromPort, 0)
  segment.writeUInt16BE(fields.toPort, 2)
  segment.writeUInt32BE(fields.seq >>> 0, 4)
  segment.writeUInt32BE((fields.ack ?? 0) >>> 0, 8)
  segment[12] = (5 + optionBytes / 4) << 4
  segment[13] = fields.flags
  segment.writeUInt16BE(fields.window ?? 65_535, 14)
  segment.set(options, 20)
  segment.set(payload, 20 + optionBytes)
  const [source, destination] = addresses(pair)
  segment.writeUInt16BE(checksum(pseudoHeader(source, destination, TCP, segment.length), segment), 16)
  return ip(pair, { protocol: TCP, payload: segment })
}

/** A UDP datagram, without IP. */
export function udpDatagram(pair: Pair, fromPort: number, toPort: number, payload: Uint8Array): Buffer {
  const datagram = Buffer.alloc(8 + payload.length)
  datagram.writeUInt16BE(fromPort, 0)
  datagram.writeUInt16BE(toPort, 2)
  datagram.writeUInt16BE(datagram.length, 4)
  datagram.set(payload, 8)
  const [source, destination] = addresses(pair)
  const sum = checksum(pseudoHeader(source, destination, UDP, datagram.length), datagram)
  datagram.writeUInt16BE(sum || 0xffff, 6)
  return datagram
}

export function udp(pair: Pair, fromPort: number, toPort: number, payload: Uint8Array): Buffer {
  return ip(pair, { protocol: UDP, payload: udpDatagram(pair, fromPort, toPort, payload) })
}

/** The fragments of an IP payload, each of at most `mtu` bytes with its header (RFC 791; RFC 8200 §4.5). */
export function fragments(pair: Pair, protocol: number, payload: Uint8Array, mtu: number, id = 1): Buffer[] {
  const isV6 = pair.from.includes(':')
  const room = (mtu - (isV6 ? 48 : 20)) & ~7
  const made: Buffer[] = []
  for (let at = 0; at < payload.length; at += room) {
    const part = payload.subarray(at, at + room)
    const more = at + room < payload.length
    if (isV6) {
      const head = Buffer.alloc(8)
      head[0] = protocol
      head.writeUInt16BE(at | (more ? 1 : 0), 2)
      head.writeUInt32BE(id, 4)
      made.push(ip(pair, { protocol: 44, payload: Buffer.concat([head, part]) }))
    } else made.push(ip(pair, { protocol, payload: part, id, fragment: (at / 8) | (more ? 0x2000 : 0) }))
  }
  return made
}

/** An ICMP or ICMPv6 message of `type` and `code`; `rest` is all behind the checksum. */
export function icmp(pair: Pair, type: number, code: number, rest: Uint8Array): Buffer {
  const message = Buffer.concat([Uint8Array.of(type, code, 0, 0), rest])
  const [source, destination] = addresses(pair)
  const isV6 = source.length === 16
  const pseudo = isV6 ? [pseudoHeader(source, destination, 58, message.length)] : []
  message.writeUInt16BE(checksum(...pseudo, message), 2)
  return ip(pair, { protocol: isV6 ? 58 : 1, payload: message })
}

export interface VnetHeader {
  readonly flags: number
  readonly gsoType: number
  readonly hdrLen: number
  readonly gsoSize: number
  readonly csumStart: number
  readonly csumOffset: number
}

export interface TcpSegment {
  readonly fromPort: number
  readonly toPort: number
  readonly seq: number
  readonly ack: number
  readonly flags: number
  readonly window: number
  readonly options: number[]
  readonly payload: Buffer
}

export interface Packet {
  readonly from: string
  readonly to: string
  readonly protocol: number
  readonly bytes: Buffer
  /** Behind the IP header. */
  readonly payload: Buffer
  readonly vnet: VnetHeader | undefined
  /** IPv4: flags and offset of the fragment, as in the header. IPv6: of the fragment header. */
  readonly fragment: number
  readonly tcp: TcpSegment | undefined
}

/** Takes an outgoing packet apart. Throws when a length or a checksum is wrong. */
export function parse(raw: Uint8Array, hasVnet: boolean): Packet {
  const vnet = hasVnet ? parseVnet(Buffer.from(raw.subarray(0, VNET_BYTES))) : undefined
  const bytes = Buffer.from(raw.subarray(hasVnet ? VNET_BYTES : 0))
  const isV6 = bytes[0]! >> 4 === 6
  const header = isV6 ? 40 : (bytes[0]! & 15) * 4
  const total = isV6 ? 40 + bytes.readUInt16BE(4) : bytes.readUInt16BE(2)
  if (total !== bytes.length) throw new Error(`IP length ${total}, packet ${bytes.length}`)
  if (!isV6 && checksum(bytes.subarray(0, header)) !== 0) throw new Error('IPv4 header checksum')
  const source = bytes.subarray(isV6 ? 8 : 12, isV6 ? 24 : 16)
  const destination = bytes.subarray(isV6 ? 24 : 16, isV6 ? 40 : 20)
  let protocol = bytes[isV6 ? 6 : 9]!
  let payload = bytes.subarray(header)
  let fragment = isV6 ? 0 : bytes.readUInt16BE(6) & 0x3fff
  if (protocol === 44) {
    fragment = payload.readUInt16BE(2)
    protocol = payload[0]!
    payload = payload.subarray(8)
  }
  if (fragment === 0) checkTransport(protocol, source, destination, payload, vnet, header)
  const names = { from: formatAddress(source), to: formatAddress(destination) }
  const segment = protocol === TCP && fragment === 0 ? parseTcp(payload) : undefined
  return { ...names, protocol, bytes, payload, vnet, fragment, tcp: segment }
}

function checkTransport(
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  payload: Buffer,
  vnet: VnetHeader | undefined,
  header: number,
): void {
  const pseudo = pseudoHeader(source, destination, protocol, payload.length)
  if (vnet !== undefined && (vnet.flags & 1) === 1) {
    const offset = protocol === TCP ? 16 : 6
    if (vnet.csumStart !== header || vnet.csumOffset !== offset) throw new Error('csum_start or csum_offset')
    const found = payload.readUInt16BE(offset)
    const wanted = ~checksum(pseudo) & 0xffff
    if (found !== wanted) throw new Error(`the pseudo sum is ${found.toString(16)}, not ${wanted.toString(16)}`)
    return
  }
  if (protocol === UDP && payload.readUInt16BE(6) === 0) throw new Error('UDP without a checksum')
  const sum = protocol === 1 ? checksum(payload) : checksum(pseudo, payload)
  if (sum !== 0) throw new Error(`checksum of protocol ${protocol}`)
}

function parseVnet(bytes: Buffer): VnetHeader {
  return {
    flags: bytes[0]!,
    gsoType: bytes[1]!,
    hdrLen: bytes.readUInt16LE(2),
    gsoSize: bytes.readUInt16LE(4),
    csumStart: bytes.readUInt16LE(6),
    csumOffset: bytes.readUInt16LE(8),
  }
}

function parseTcp(segment: Buffer): TcpSegment {
  const header = (segment[12]! >> 4) * 4
  return {
    fromPort: segment.readUInt16BE(0),
    toPort: segment.readUInt16BE(2),
    seq: segment.readUInt32BE(4),
    ack: segment.readUInt32BE(8),
    flags: segment[13]!,
    window: segment.readUInt16BE(14),
    options: [...segment.subarray(20, header)],
    payload: segment.subarray(header),
  }
}
