/**
 * Seeds of target_packet.c from what a gateway read from its tun (record-packets.cts):
 *
 *     NODE_OPTIONS=--require=$PWD/dist/test/fuzz/record-packets.cjs RECORD_PACKETS=/tmp/packets tungate demo
 *     node dist/test/fuzz/make-corpus.js /tmp/packets
 *
 * One file a flow, of its first packets, with little of their payload.
 */
import { closeSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const HEAD_BYTES = 14
/** vnet_hdr, UDP super-packets, echo; numbers are led to those of our stack: see world_begin() and target_packet.c. */
const CHOICE = 0x8007
const PACKETS_A_FLOW = 10
const PAYLOAD_BYTES = 120
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 44: 'fragments', 58: 'icmp' }

const folder = fileURLToPath(new URL('../../../test/fuzz/corpus/packet/', import.meta.url))

/** The packets of a record, one after the other; it may be larger than the memory. */
function* packets(path: string): Generator<{ vnet: Buffer; packet: Buffer }> {
  const file = openSync(path, 'r')
  try {
    for (let at = 0; ; ) {
      const head = Buffer.alloc(HEAD_BYTES)
      if (readSync(file, head, 0, HEAD_BYTES, at) < HEAD_BYTES) return
      const packet = Buffer.alloc(head.readUInt16LE(0))
      if (readSync(file, packet, 0, packet.length, at + HEAD_BYTES) < packet.length) return
      yield { vnet: head.subarray(2), packet }
      at += HEAD_BYTES + packet.length
    }
  } finally {
    closeSync(file)
  }
}

/** What kind of flow it is, and which: ports where there are some. */
function nameOf(packet: Buffer): { kind: string; flow: string } {
  const isV6 = packet[0]! >> 4 === 6
  const header = isV6 ? 40 : (packet[0]! & 15) * 4
  const isFragment = isV6 ? packet[6] === 44 : (packet.readUInt16BE(6) & 0x3fff) !== 0
  const protocol = isFragment ? 44 : packet[isV6 ? 6 : 9]!
  const kind = `${PROTOCOLS[protocol] ?? `protocol${protocol}`}${isV6 ? 6 : 4}`
  const ports = packet.subarray(header, header + 4).toString('hex')
  return { kind, flow: isFragment ? kind : kind + ports }
}

/** A TCP segment with less payload; its checksum is left to the vnet header, or to the fuzzer. */
function cut(packet: Buffer): Buffer {
  const isV6 = packet[0]! >> 4 === 6
  const header = isV6 ? 40 : (packet[0]! & 15) * 4
  if (packet[isV6 ? 6 : 9] !== 6) return packet
  const most = header + (packet[header + 12]! >> 4) * 4 + PAYLOAD_BYTES
  if (packet.length <= most) return packet
  const short = Buffer.from(packet.subarray(0, most))
  short.writeUInt16BE(isV6 ? most - 40 : most, isV6 ? 4 : 2)
  if (!isV6) {
    short.writeUInt16BE(0, 10)
    let sum = 0
    for (let at = 0; at < header; at += 2) sum += short.readUInt16BE(at)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    short.writeUInt16BE(~sum & 0xffff, 10)
  }
  return short
}

const flows = new Map<string, { kind: string; records: Buffer[] }>()
for (const { vnet, packet } of packets(process.argv[2]!)) {
  const { kind, flow } = nameOf(packet)
  const found = flows.get(flow) ?? { kind, records: [] }
  flows.set(flow, found)
  if (found.records.length === PACKETS_A_FLOW || packet.length > 1500 + 64 * 1024) continue
  const short = cut(packet)
  if (short.length > 2047) continue
  const length = Buffer.alloc(2)
  length.writeUInt16LE(short.length)
  found.records.push(Buffer.concat([length, vnet, short]))
}
mkdirSync(folder, { recursive: true })
const counts = new Map<string, number>()
for (const { kind, records } of flows.values()) {
  const count = (counts.get(kind) ?? 0) + 1
  counts.set(kind, count)
  const choice = Buffer.alloc(2)
  choice.writeUInt16LE(CHOICE)
  writeFileSync(`${folder}recorded-${kind}-${count}`, Buffer.concat([choice, ...records]))
}
