/** Clients that know what they were answered, so that their segments are near the truth, and lie from there. */
import { Flag, fragments, icmp, type Pair, tcp, udp, VNET_BYTES } from '../helpers/packets.ts'
import type { Random } from './random.ts'

const LINUX_OPTIONS = [2, 4, 5, 180, 4, 2, 1, 3, 3, 7]
const LYING_OPTIONS: readonly (readonly number[])[] = [
  [2, 4, 0, 1],
  [2, 4, 255, 255],
  [2, 2, 3, 0],
  [3, 3, 255, 0],
  [3, 255, 1, 1],
  [1, 1, 1, 2],
  [5, 2, 5, 255],
  [254, 4, 0, 0],
  [0, 2, 4, 0],
  [8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
]
const WINDOWS = [0, 1, 536, 1460, 8_192, 65_535, 65_535, 65_535]
const FIRST_PORT = 40_000
const CLIENTS = 48
/** Each client has ports of its own, `CLIENTS` apart. */
const PORTS_A_CLIENT = 64

const gsoUdp = 5

interface ClientState {
  readonly pair: Pair
  port: number
  isn: number
  sequence: number
  acknowledgement: number
  window: number
}

export class Clients {
  readonly #random: Random
  readonly #clients: ClientState[] = []
  /** Who was sent something, and may acknowledge it. */
  readonly #owing: ClientState[] = []

  constructor(random: Random, pairs: readonly Pair[]) {
    this.#random = random
    for (let at = 0; at < CLIENTS; at++) {
      const isn = random.next()
      const pair = pairs[at % pairs.length]!
      this.#clients.push({ pair, port: FIRST_PORT + at, isn, sequence: isn, acknowledgement: 0, window: 65_535 })
    }
  }

  /** A segment that the stack sent to a client of this port. */
  learn(port: number, sequence: number, flags: number, payload: number): void {
    const client = this.#clients[(port - FIRST_PORT) % CLIENTS]
    if (client?.port !== port || flags & Flag.rst) return
    if (this.#owing.length < CLIENTS) this.#owing.push(client)
    if (flags & Flag.syn) {
      client.acknowledgement = (sequence + 1) >>> 0
      client.sequence = (client.isn + 1) >>> 0
    } else if (sequence === client.acknowledgement)
      client.acknowledgement = (sequence + payload + (flags & Flag.fin ? 1 : 0)) >>> 0
  }

  segment(): Buffer {
    const random = this.#random
    const owing = random.once(4) ? undefined : this.#owing.shift()
    if (owing !== undefined && !random.once(4)) return this.#made(owing, Flag.ack, owing.sequence, 0)
    const client = owing ?? random.pick(this.#clients)
    switch (random.below(16)) {
      case 0:
      case 1:
        return this.#knock(client)
      case 2:
      case 3:
      case 4:
      case 5:
        return this.#inOrder(client, random.once(16) ? Flag.fin : 0)
      case 6:
      case 7:
        return this.#made(client, Flag.ack, client.sequence + random.below(4_000), random.below(1_400))
      case 8:
        return this.#made(client, Flag.ack, client.sequence + 65_000 + random.below(1_100_000), random.below(1_400))
      case 9:
        return this.#lie(client)
      case 10:
        client.window = random.pick(WINDOWS)
        return this.#made(client, Flag.ack, client.sequence, 0)
      case 11:
        return this.#selective(client)
      case 12:
        return this.#made(client, random.once(2) ? Flag.rst : Flag.rst | Flag.ack, client.sequence + random.below(3), 0)
      default:
        return this.#made(client, Flag.ack, client.sequence, 0)
    }
  }

  #made(client: ClientState, flags: number, seq: number, bytes: number, options: readonly number[] = []): Buffer {
    const { pair, port, acknowledgement: ack, window } = client
    return tcp(pair, {
      fromPort: port,
      toPort: 80,
      seq,
      ack,
      flags,
      window,
      options,
      payload: PAYLOAD.subarray(0, bytes),
    })
  }

  #knock(client: ClientState): Buffer {
    const random = this.#random
    if (!random.once(4)) client.isn = random.next()
    if (!random.once(4)) client.port = ((client.port - FIRST_PORT + CLIENTS) % (CLIENTS * PORTS_A_CLIENT)) + FIRST_PORT
    const options = random.once(3) ? random.pick(LYING_OPTIONS) : LINUX_OPTIONS
    const { pair, port, isn: seq, window } = client
    const payload = PAYLOAD.subarray(0, random.once(8) ? random.below(100) : 0)
    return tcp(pair, { fromPort: port, toPort: 80, seq, flags: Flag.syn, window, options, payload })
  }

  #inOrder(client: ClientState, fin: number): Buffer {
    const bytes = this.#random.below(1_400)
    const made = this.#made(client, Flag.ack | Flag.psh | fin, client.sequence, bytes)
    client.sequence = (client.sequence + bytes + fin) >>> 0
    return made
  }

  /** Flags, both numbers, window and options, each perhaps wrong: by a little, by a window, or by anything. */
  #lie(client: ClientState): Buffer {
    const random = this.#random
    const off = () => random.pick([0, 0, 1, -1, 1_460, -1_460, 65_535, 1 << 20, -(1 << 20), 0x7fffffff, random.next()])
    const options = random.once(2)
      ? random.pick(LYING_OPTIONS)
      : random.once(4)
        ? [...random.bytes(random.below(41))]
        : []
    const told = { ...client, acknowledgement: client.acknowledgement + off(), window: random.pick(WINDOWS) }
    return this.#made(told, random.next() & 0x3f, client.sequence + off(), random.below(200), options)
  }

  #selective(client: ClientState): Buffer {
    const random = this.#random
    const sack = Buffer.alloc(8)
    const from = client.acknowledgement + random.below(20_000)
    sack.writeUInt32BE(from >>> 0, 0)
    sack.writeUInt32BE((from + random.below(20_000) - 5_000) >>> 0, 4)
    return this.#made(client, Flag.ack, client.sequence, 0, [1, 1, 5, 10, ...sack])
  }

  datagram(): Buffer {
    const random = this.#random
    const { pair } = random.pick(this.#clients)
    return udp(pair, 5_000 + random.below(100), random.below(3), PAYLOAD.subarray(0, random.below(1_400)))
  }

  /** Of one datagram, or of an echo request; some missing, some twice, in any order. */
  fragments(): Buffer[] {
    const random = this.#random
    const { pair } = random.pick(this.#clients)
    const isV6 = pair.from.includes(':')
    const header = isV6 ? 40 : 20
    const payload = PAYLOAD.subarray(0, 1_500 + random.below(6_000))
    const isEcho = random.once(4)
    const whole = isEcho ? icmp(pair, isV6 ? 128 : 8, 0, payload) : udp(pair, 6_000, 53, payload)
    const protocol = isEcho ? (isV6 ? 58 : 1) : 17
    const parts = fragments(pair, protocol, whole.subarray(header), 1_280, random.below(500))
    for (let at = parts.length; at-- > 0; ) {
      const other = random.below(parts.length)
      ;[parts[at], parts[other]] = [parts[other]!, parts[at]!]
    }
    if (random.once(3)) parts.pop()
    if (random.once(4)) parts.push(parts[0]!)
    return parts
  }

  /** A vnet header: mostly one that says nothing, now and then a true one, or one that lies. */
  vnet(into: Uint8Array, packet: Uint8Array): void {
    const random = this.#random
    into.fill(0, 0, VNET_BYTES)
    const how = random.below(16)
    if (how === 0) for (let at = 0; at < VNET_BYTES; at++) into[at] = random.next()
    else if (how === 1) {
      into[0] = 1
      into[1] = gsoUdp
      into[4] = random.next()
      into[6] = packet[0]! >> 4 === 6 ? 40 : 20
      into[8] = 6
    } else if (how < 5) into[0] = 2
  }
}

const PAYLOAD = Buffer.alloc(8_000)
for (let at = 0; at < PAYLOAD.length; at++) PAYLOAD[at] = (at * 31 + (at >> 8)) & 255
