/** Packets that lie: mutations of a packet in place, some blind, some of a field, and checksums that are right again. */
import { checksum } from '../helpers/packets.ts'
import type { Random } from './random.ts'

/** What a field may be when it lies. */
const EDGES = [0, 1, 4, 5, 7, 8, 15, 19, 20, 40, 60, 127, 128, 254, 255]
const TCP = 6
const UDP = 17
const ICMP = 1
const ICMP6 = 58

const isV6 = (packet: Buffer) => packet[0]! >> 4 === 6

/** Where the transport begins if the packet is what its first byte says. */
export function transportAt(packet: Buffer): number {
  return isV6(packet) ? 40 : (packet[0]! & 15) * 4
}

function bitFlip(packet: Buffer, random: Random): Buffer {
  packet[random.below(packet.length)]! ^= 1 << random.below(8)
  return packet
}

function edgeByte(packet: Buffer, random: Random): Buffer {
  packet[random.below(packet.length)] = random.pick(EDGES)
  return packet
}

function truncate(packet: Buffer, random: Random): Buffer {
  return packet.subarray(0, 1 + random.below(packet.length))
}

/** Bytes behind the packet, or a part of it twice. */
function lengthen(packet: Buffer, random: Random): Buffer {
  const from = random.below(packet.length)
  return Buffer.concat([packet, packet.subarray(from, from + random.below(64))])
}

/** Offsets of bytes that lead a parser: version and length, fragment, protocol or next header, addresses. */
const HEADER4 = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 16, 19]
const HEADER6 = [0, 4, 5, 6, 8, 23, 24, 39]

function headerLie(packet: Buffer, random: Random): Buffer {
  const at = random.pick(isV6(packet) ? HEADER6 : HEADER4)
  if (at < packet.length) packet[at] = random.once(2) ? random.pick(EDGES) : random.next()
  return packet
}

/** Offsets in TCP, UDP and ICMP: ports, data offset, flags, lengths, window, the first options. */
const TRANSPORT = [0, 2, 4, 5, 6, 7, 8, 12, 13, 14, 15, 18, 20, 21, 22, 23, 24]

function transportLie(packet: Buffer, random: Random): Buffer {
  const at = transportAt(packet) + random.pick(TRANSPORT)
  if (at < packet.length) packet[at] = random.once(2) ? random.pick(EDGES) : random.next()
  return packet
}

/** A chain of IPv6 extension headers, or IPv4 options, between IP and its payload. */
function extend(packet: Buffer, random: Random): Buffer {
  if (packet.length < 40) return packet
  if (!isV6(packet)) {
    const words = 1 + random.below(10)
    const made = Buffer.concat([packet.subarray(0, 20), random.bytes(4 * words), packet.subarray(20)])
    made[0] = 0x45 + words
    made.writeUInt16BE(made.length & 0xffff, 2)
    return made
  }
  const headers: Buffer[] = []
  let next = packet[6]!
  for (let count = 1 + random.below(10); count > 0; count--) {
    const header = random.bytes(8 * (1 + random.below(3)))
    header[0] = next
    header[1] = random.once(20) ? random.next() : header.length / 8 - 1
    next = random.pick([0, 60, 43, 44, 60, 0, 51])
    headers.unshift(header)
  }
  const made = Buffer.concat([packet.subarray(0, 40), ...headers, packet.subarray(40)])
  made[6] = next
  made.writeUInt16BE((made.length - 40) & 0xffff, 4)
  return made
}

const MUTATIONS = [bitFlip, edgeByte, truncate, lengthen, headerLie, headerLie, transportLie, transportLie, extend]

/** A copy with one to three lies in it; three of four have right checksums, and half an IP length that fits. */
export function mutate(packet: Buffer, random: Random): Buffer {
  let made: Buffer = Buffer.from(packet)
  for (let count = 1 + random.below(3); count > 0; count--) made = random.pick(MUTATIONS)(made, random)
  if (random.once(2)) mendLength(made)
  if (!random.once(4)) mendChecksums(made)
  return made
}

/** The head of one packet and the tail of another. */
export function splice(packet: Buffer, other: Buffer, random: Random): Buffer {
  const made = Buffer.concat([
    packet.subarray(0, random.below(packet.length)),
    other.subarray(random.below(other.length)),
    packet.subarray(0, 1),
  ])
  mendLength(made)
  mendChecksums(made)
  return made
}

function mendLength(packet: Buffer): void {
  if (packet.length < 20) return
  if (isV6(packet)) packet.writeUInt16BE(Math.max(packet.length - 40, 0) & 0xffff, 4)
  else packet.writeUInt16BE(packet.length & 0xffff, 2)
}

/** Makes right what checksums can be found. */
export function mendChecksums(packet: Buffer): void {
  const header = transportAt(packet)
  if (packet.length < 20 || header < 20 || header + 8 > packet.length) return
  let protocol = packet[9]!
  let end = packet.readUInt16BE(2)
  if (isV6(packet)) {
    if (packet.length < 48) return
    protocol = packet[6]!
    end = 40 + packet.readUInt16BE(4)
  } else {
    packet.writeUInt16BE(0, 10)
    packet.writeUInt16BE(checksum(packet.subarray(0, header)), 10)
    if ((packet.readUInt16BE(6) & 0x3fff) !== 0) return
  }
  if (end > packet.length || end < header + 8) return
  mendTransport(packet, header, end, protocol)
}

function mendTransport(packet: Buffer, header: number, end: number, protocol: number): void {
  const offset = protocol === TCP ? 16 : protocol === UDP ? 6 : protocol === ICMP || protocol === ICMP6 ? 2 : -1
  if (offset < 0 || header + offset + 2 > end) return
  packet.writeUInt16BE(0, header + offset)
  const pseudo = Buffer.of(0, protocol, (end - header) >> 8, (end - header) & 255)
  const addresses = isV6(packet) ? packet.subarray(8, 40) : packet.subarray(12, 20)
  const parts = protocol === ICMP ? [] : [addresses, pseudo]
  packet.writeUInt16BE(sum(packet.subarray(header, end), parts), header + offset)
}

/** As `checksum`, without a copy of the payload: a million packets are summed. */
function sum(payload: Buffer, parts: readonly Buffer[]): number {
  let total = 0
  for (const part of [...parts, payload])
    for (let at = 0; at < part.length; at += 2) total += (part[at]! << 8) | (at + 1 < part.length ? part[at + 1]! : 0)
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000)
  return ~total & 0xffff || 0xffff
}
