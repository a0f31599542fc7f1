/** What mutations begin with: packets that were recorded (corpus/packet), and one of each kind that was not. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Flag, fragments, icmp, type Pair, tcp, udp } from '../helpers/packets.ts'

export const PAIRS: readonly Pair[] = [
  { from: '198.18.0.1', to: '203.0.113.7' },
  { from: 'fd74:756e::1', to: '2001:db8::7' },
]

const corpus = fileURLToPath(new URL('../../../test/fuzz/corpus/packet/', import.meta.url))
const RECORD_HEAD = 14
/** The upper bits of a record's length mean a time (target_packet.c). */
const LENGTH_MASK = 0x7ff

function recorded(): Buffer[] {
  const packets: Buffer[] = []
  for (const name of readdirSync(corpus).filter(name => name.startsWith('recorded-'))) {
    const bytes = readFileSync(corpus + name)
    for (let at = 2; at + RECORD_HEAD < bytes.length; ) {
      const length = bytes.readUInt16LE(at) & LENGTH_MASK
      packets.push(bytes.subarray(at + RECORD_HEAD, at + RECORD_HEAD + length))
      at += RECORD_HEAD + length
    }
  }
  if (packets.length === 0) throw new Error(`no recorded packets in ${corpus}`)
  return packets
}

function made(pair: Pair): Buffer[] {
  const isV6 = pair.from.includes(':')
  const ports = { fromPort: 40_000, toPort: 80, seq: 1, ack: 1 }
  const payload = Buffer.alloc(100, 'x')
  const large = Buffer.alloc(3000, 'y')
  const echo = icmp(pair, isV6 ? 128 : 8, 0, Buffer.alloc(60, 'z'))
  return [
    tcp(pair, { ...ports, flags: Flag.syn, options: [2, 4, 5, 180, 4, 2, 1, 3, 3, 7] }),
    tcp(pair, { ...ports, flags: Flag.ack, payload, options: [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9] }),
    tcp(pair, { ...ports, flags: Flag.rst | Flag.ack }),
    tcp(pair, { ...ports, flags: Flag.fin | Flag.ack }),
    udp(pair, 5_353, 53, payload),
    echo,
    ...fragments(pair, isV6 ? 58 : 1, icmp(pair, isV6 ? 128 : 8, 0, large).subarray(isV6 ? 40 : 20), 1280),
    icmp(pair, isV6 ? 134 : 5, 0, Buffer.alloc(60)),
    icmp(pair, isV6 ? 1 : 3, 1, Buffer.concat([Buffer.alloc(4), echo.subarray(0, 60)])),
  ]
}

export function templates(): Buffer[] {
  return [...recorded(), ...PAIRS.flatMap(made)]
}
