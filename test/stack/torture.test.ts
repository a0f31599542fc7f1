/**
 * One client that lies in every segment, by a random sequence that is the same each time: its numbers lie around what is
 * right, where lwIP's assertions are. No trap, nothing left, and another client is served.
 */
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, LINUX_OPTIONS, pattern, type Rig, stackTest, V4, V6 } from './rig.ts'

const SEEDS = Number(process.env.TEST_TORTURE_SEEDS ?? 4)
const STEPS = 6_000

type Random = (below: number) => number

function generator(seed: number): Random {
  let state = seed
  return below => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const OPTIONS = [
  [],
  [],
  [],
  LINUX_OPTIONS,
  [2, 4, 0, 1],
  [3, 3, 14, 0],
  [5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 1, 1],
  [1, 1, 1, 0],
]

class Liar {
  readonly rig: Rig
  readonly random: Random
  client: Client
  #ports = 20_000

  constructor(rig: Rig, random: Random) {
    this.rig = rig
    this.random = random
    this.client = this.#next()
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.random(from.length)]!
  }

  #next(): Client {
    const { random, rig } = this
    const pair = random(2) === 0 ? V4 : V6
    const client = new Client(rig, pair, this.#ports++, 80, random(2 ** 32))
    client.window = this.#pick([0, 1, 100, 3_000, 65_535])
    const options = this.#pick([LINUX_OPTIONS, LINUX_OPTIONS, [2, 4, 0, 60], [], [2, 4, 255, 255, 3, 3, 255, 1]])
    client.knock(options)
    client.seq = (client.isn + 1) >>> 0
    if (random(8) > 0) this.#learn(rig.tell('accept', client.id))
    return client
  }

  /** Sometimes what comes is acknowledged, as far as it is in order. */
  #learn(packets: readonly Packet[]): void {
    for (const { tcp } of packets) {
      if (tcp === undefined || tcp.toPort !== this.client?.port) continue
      if (this.random(3) > 0) this.client.seq = tcp.ack
      if (this.random(3) > 0) this.client.ack = (tcp.seq + tcp.payload.length + (tcp.flags & 3 ? 1 : 0)) >>> 0
    }
  }

  step(): void {
    const { random, rig, client } = this
    switch (random(40)) {
      case 0:
        if (rig.state(client.id) >= 3) rig.write(client.id, pattern(random(70_000)))
        return
      case 1:
        rig.reading = !rig.reading
        return
      case 2:
        if (rig.flows.has(client.id)) rig.read(client.id, random(80_000))
        return
      case 3:
        this.#learn(rig.tell('finish', client.id))
        return
      case 4:
        this.#learn(rig.tick(random(600)))
        return
      case 5:
        if (random(4) > 0) return
        rig.tell(random(2) === 0 ? 'release' : 'abort', client.id)
        rig.tell('release', client.id)
        this.client = this.#next()
        return
      default:
        this.#learn(rig.send(Array.from({ length: 1 + random(4) }, () => this.#segment())))
    }
  }

  #segment(): Buffer {
    const { random, client } = this
    const near = () =>
      this.#pick([0, 0, 0, 0, 1, -1, 2, 10, 1_000, 1_459, 1_460, 1_461, random(70_000), -random(70_000)])
    const far = () => this.#pick([1 << 20, (1 << 20) - random(3_000), (1 << 20) + 1, -(1 << 20), random(2 ** 32)])
    const flags = random(4) > 0 ? Flag.ack | this.#pick([0, 0, 0, Flag.psh, Flag.fin]) : random(64)
    return client.segment(flags, {
      seq: client.seq + (random(8) > 0 ? near() : far()),
      ack: client.ack + (random(4) > 0 ? 0 : random(8) > 0 ? near() : far()),
      window: random(3) > 0 ? client.window : this.#pick([0, 1, 50, 1_460, 65_535]),
      options: this.#pick(OPTIONS),
      payload: pattern(this.#pick([0, 0, 1, 1, 2, 10, 1_000, 1_460, random(3_000), random(60_000)])),
    })
  }
}

for (let seed = 1; seed <= SEEDS; seed++)
  for (const vnetHdr of [false, true])
    stackTest(`torture: ${STEPS} lies of one client, seed ${seed}, vnet ${vnetHdr}`, { vnetHdr }, (t, rig) => {
      const liar = new Liar(rig, generator(seed))
      for (let step = 0; step < STEPS; step++) liar.step()
      for (const id of rig.flows.keys()) rig.tell('abort', id)
      for (const id of rig.flows.keys()) rig.tell('release', id)
      rig.reading = true
      rig.tick(3_000)
      const client = new Client(rig, V4, 60_000).open()
      client.data(Buffer.from('alive'))
      t.is(rig.received(client.id).toString(), 'alive')
      client.close()
    })
