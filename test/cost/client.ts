/** The kernel's TCP and UDP of a program behind the gateway, as far as the script needs them. */
import { type Pair, type TcpFields, tcp, udp } from '../helpers/packets.ts'
import type { World } from './world.ts'

export const PAIR: Pair = { from: '198.18.0.1', to: '203.0.113.7' }

const Flag = { fin: 1, syn: 2, psh: 8, ack: 16 } as const
/** MSS 1460, SACK permitted, window scale 7: what a Linux client offers. */
const SYN_OPTIONS = [2, 4, 0x05, 0xb4, 4, 2, 1, 3, 3, 7]
/** A virtio_net_hdr with VIRTIO_NET_HDR_F_NEEDS_CSUM: this machine's own packets, not summed yet. */
const LOCAL = Uint8Array.of(1, 0, 0, 0, 0, 0, 20, 0, 16, 0, 0, 0)
/** What came from elsewhere: the gateway must sum it itself. */
const FORWARDED = new Uint8Array(12)

const IPV4_BYTES = 20

export class Client {
  readonly port: number
  receivedBytes = 0
  finished = false
  readonly #world: World
  readonly #destinationPort: number
  #seq = 1_000
  #ack = 0

  constructor(world: World, port: number, destinationPort = 80) {
    this.#world = world
    this.port = port
    this.#destinationPort = destinationPort
  }

  #segment(flags: number, more: Partial<TcpFields> = {}, vnet: Uint8Array = LOCAL): Buffer {
    const ports = { fromPort: this.port, toPort: this.#destinationPort }
    return Buffer.concat([vnet, tcp(PAIR, { ...ports, seq: this.#seq, ack: this.#ack, flags, ...more })])
  }

  syn(): Buffer {
    const packet = this.#segment(Flag.syn, { options: SYN_OPTIONS })
    this.#seq++
    return packet
  }

  ack(): Buffer {
    return this.#segment(Flag.ack)
  }

  data(payload: Uint8Array, isForwarded = false): Buffer {
    const packet = this.#segment(Flag.ack | Flag.psh, { payload }, isForwarded ? FORWARDED : LOCAL)
    this.#seq += payload.length
    return packet
  }

  fin(): Buffer {
    const packet = this.#segment(Flag.ack | Flag.fin)
    this.#seq++
    return packet
  }

  /** A packet of the gateway that is ours. */
  take(packet: Buffer): void {
    const flags = packet[IPV4_BYTES + 13]!
    const header = (packet[IPV4_BYTES + 12]! >> 4) * 4
    const bytes = packet.length - IPV4_BYTES - header
    const next = packet.readUInt32BE(IPV4_BYTES + 4) + bytes + (flags & (Flag.syn | Flag.fin) ? 1 : 0)
    if (bytes > 0 || flags & (Flag.syn | Flag.fin)) this.#ack = next >>> 0
    this.receivedBytes += bytes
    if (flags & Flag.fin) this.finished = true
  }

  async open(): Promise<void> {
    this.#world.send([this.syn()])
    this.take(await this.#world.take())
    this.#world.send([this.ack()])
    await this.#world.settle()
  }

  /** Takes packets until that many bytes have come. */
  async receive(bytes: number): Promise<void> {
    const wanted = this.receivedBytes + bytes
    while (this.receivedBytes < wanted) this.take(await this.#world.take())
  }
}

/** To which of its ports the gateway sends this packet. */
export function clientPort(packet: Buffer): number {
  return packet.readUInt16BE(IPV4_BYTES + 2)
}

export function datagram(port: number, payload: Uint8Array): Buffer {
  return Buffer.concat([FORWARDED, udp(PAIR, port, 53, payload)])
}

/**
 * Opens flows to `destinationPort` from as many ports, 64 in a batch. The packets are one packet with other numbers:
 * the machine's own are not summed. Returns the last packet of each, an ACK that may be sent again.
 */
export async function openMany(
  world: World,
  firstPort: number,
  count: number,
  destinationPort: number,
): Promise<Buffer[]> {
  const client = new Client(world, firstPort, destinationPort)
  const syn = client.syn()
  const ack = client.ack()
  const acks: Buffer[] = []
  for (let opened = 0; opened < count; opened += 64) {
    const ports = Array.from({ length: Math.min(64, count - opened) }, (_, at) => firstPort + opened + at)
    world.send(ports.map(port => withNumbers(syn, port)))
    await world.until(() => world.packets.length === ports.length, 'SYN-ACK')
    const answers = world.packets.splice(0).map(packet => Buffer.from(packet).subarray(LOCAL.length))
    const made = answers.map(answer => withNumbers(ack, clientPort(answer), answer.readUInt32BE(IPV4_BYTES + 4) + 1))
    world.send(made)
    await world.settle()
    acks.push(...made)
  }
  return acks
}

function withNumbers(packet: Buffer, port: number, acknowledged?: number): Buffer {
  const copy = Buffer.from(packet)
  const at = LOCAL.length + IPV4_BYTES
  copy.writeUInt16BE(port, at)
  if (acknowledged !== undefined) copy.writeUInt32BE(acknowledged >>> 0, at + 8)
  return copy
}
