/** The operations whose cost is held: each the same packets each time. */
import { Client, clientPort, datagram, openMany } from './client.ts'
import { besideIdle, IDLE_FLOWS } from './compare.ts'
import type { Counts, Probe } from './probe.ts'
import { REFUSED_PORT } from './upstream.ts'
import { ASSOCIATIONS, IDLE_PORT, World } from './world.ts'

/** What a request and its answer have in a connection. */
const ECHO = Buffer.alloc(64, 'e')
/** A full segment of a client with MTU 1500 and timestamps. */
const SEGMENT = Buffer.alloc(1_448, 's')
const SEGMENTS = 16
/** A segment as the kernel's offload makes it; and what a socket of loopback surely has room for. */
const LARGE = Buffer.alloc(32_768, 'l')
const DATAGRAM = Buffer.alloc(512, 'd')
const DATAGRAMS = 32
const AT_ONCE = 64
/** Idle flows that are there also when an operation is measured "alone". */
const FEW_FLOWS = 64

const WARM_UP = 4
const ROUNDS = 7

interface Operation {
  readonly name: string
  /** Of what `run` does, by which its costs are divided. */
  readonly times: number
  run(): Promise<void>
}

/** Costs of one of each operation: medians of 7 rounds, beside nothing and beside idle flows. */
export async function runScript(probe: Probe): Promise<Record<string, Counts>> {
  const world = await World.open()
  const script = new Script(world, probe)
  const costs: Record<string, Counts> = {}
  try {
    await script.openIdle(9_000, FEW_FLOWS)
    const operations = await script.operations()
    for (const operation of operations) costs[operation.name] = await script.measure(operation)
    await script.openIdle(10_000, IDLE_FLOWS)
    for (const operation of operations) costs[besideIdle(operation.name)] = await script.measure(operation)
    return costs
  } finally {
    world.close()
  }
}

class Script {
  readonly #world: World
  readonly #probe: Probe
  /** Of the next connection. */
  #port = 30_000
  #datagramPort = 3_000
  /** An ACK of each idle flow; the one that was sent longest ago is next. */
  readonly #acks: Buffer[] = []

  constructor(world: World, probe: Probe) {
    this.#world = world
    this.#probe = probe
  }

  async openIdle(firstPort: number, count: number): Promise<void> {
    this.#acks.unshift(...(await openMany(this.#world, firstPort, count, IDLE_PORT)))
  }

  async measure({ run, times }: Operation): Promise<Counts> {
    const rounds: Counts[] = []
    globalThis.gc?.()
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const before = round < WARM_UP ? {} : this.#probe.read()
      await run()
      await this.#world.settle()
      if (round >= WARM_UP) rounds.push(difference(before, this.#probe.read(), times))
    }
    return medians(rounds)
  }

  async operations(): Promise<Operation[]> {
    const datagrams = await this.#datagrams()
    const open = new Client(this.#world, 20_000)
    await open.open()
    const stream = this.#world.upstream.streams.shift()!
    const upload =
      (payload: Uint8Array, batch: number, isForwarded = false) =>
      async () => {
        const wanted = stream.receivedBytes + 2 * batch * payload.length
        // twice, since every second segment is acknowledged
        for (let half = 0; half < 2; half++) {
          this.#world.send(Array.from({ length: batch }, () => open.data(payload, isForwarded)))
          await this.#world.settle()
        }
        await this.#world.until(() => stream.receivedBytes === wanted, 'the upload')
        this.#world.packets.length = 0
      }
    const download = (payload: Uint8Array) => async () => {
      stream.write(payload)
      await open.receive(payload.length)
      this.#world.send([open.ack()])
    }
    return [
      { name: `connection, ${AT_ONCE} at once`, times: AT_ONCE, run: () => this.#connections(AT_ONCE) },
      { name: 'connection', times: 1, run: () => this.#connection() },
      { name: 'refused connection', times: 1, run: () => this.#refused() },
      { name: 'segment up', times: 2, run: upload(SEGMENT, 1) },
      { name: 'segment up, to be summed', times: 2, run: upload(SEGMENT, 1, true) },
      { name: `segment up, ${SEGMENTS} in a batch`, times: 2 * SEGMENTS, run: upload(SEGMENT, SEGMENTS) },
      { name: 'ACK, of the flow that was silent longest', times: 1, run: async () => this.#acknowledge() },
      { name: '32 KiB up', times: 2, run: upload(LARGE, 1) },
      { name: 'segment down', times: 1, run: download(SEGMENT) },
      { name: '32 KiB down', times: 1, run: download(LARGE) },
      ...datagrams,
      { name: 'tick and sweep', times: 1, run: async () => this.#probe.advance(40) },
    ]
  }

  /** SYN, answer, 64 bytes there and back, FIN both ways. */
  async #connection(): Promise<void> {
    const world = this.#world
    const client = new Client(world, this.#nextPort())
    world.send([client.syn()])
    client.take(await world.take())
    world.send([client.ack(), client.data(ECHO)])
    await world.until(() => world.upstream.streams[0]?.receivedBytes === ECHO.length, 'the request')
    const stream = world.upstream.streams.shift()!
    stream.write(ECHO)
    await client.receive(ECHO.length)
    world.send([client.fin()])
    await world.until(() => stream.ended, 'FIN of the client')
    stream.end()
    while (!client.finished) client.take(await world.take())
    world.send([client.ack()])
  }

  async #connections(count: number): Promise<void> {
    const world = this.#world
    const clients = new Map<number, Client>()
    for (let at = 0; at < count; at++) {
      const client = new Client(world, this.#nextPort())
      clients.set(client.port, client)
    }
    const all = [...clients.values()]
    const take = async (state: () => boolean, what: string) => {
      await world.until(() => {
        for (const packet of world.packets.splice(0)) {
          const bytes = Buffer.from(packet.subarray(12))
          clients.get(clientPort(bytes))?.take(bytes)
        }
        return state()
      }, what)
      await world.settle()
    }
    world.send(all.map(client => client.syn()))
    await world.until(() => world.packets.length === count, 'SYN-ACK')
    await take(() => true, '')
    world.send(all.map(client => client.ack()))
    world.send(all.map(client => client.data(ECHO)))
    const { streams } = world.upstream
    await world.until(
      () => streams.length === count && streams.every(stream => stream.receivedBytes === ECHO.length),
      'the requests',
    )
    const mine = streams.splice(0)
    for (const stream of mine) stream.write(ECHO)
    await take(() => all.every(client => client.receivedBytes === ECHO.length), 'the answers')
    world.send(all.map(client => client.fin()))
    await world.until(() => mine.every(stream => stream.ended), 'FIN of the clients')
    for (const stream of mine) stream.end()
    await take(() => all.every(client => client.finished), 'FIN of the proxy')
    world.send(all.map(client => client.ack()))
  }

  #acknowledge(): void {
    const ack = this.#acks.shift()!
    this.#acks.push(ack)
    this.#world.send([ack])
  }

  async #refused(): Promise<void> {
    this.#world.send([new Client(this.#world, this.#nextPort(), REFUSED_PORT).syn()])
    await this.#world.take()
  }

  async #datagrams(): Promise<Operation[]> {
    const { upstream } = this.#world
    const associate = async (port: number) => {
      this.#world.send([datagram(port, DATAGRAM)])
      const before = upstream.relayedDatagrams
      await this.#world.until(() => upstream.relayedDatagrams > before, 'the datagram')
    }
    const up = (count: number) => async () => {
      await this.#world.settle()
      const wanted = upstream.relayedDatagrams + count
      this.#world.send(Array.from({ length: count }, () => datagram(this.#datagramPort, DATAGRAM)))
      await this.#world.until(() => upstream.relayedDatagrams === wanted, 'the datagrams')
    }
    const down = (count: number) => async () => {
      for (let at = 0; at < count; at++) upstream.sendDatagram(53, DATAGRAM)
      await this.#world.until(() => this.#world.packets.length === count, 'the answers')
      this.#world.packets.length = 0
    }
    // as many as there may be: each further one is the end of another
    for (let at = 0; at < ASSOCIATIONS; at++) await associate(++this.#datagramPort)
    return [
      { name: 'datagram up', times: 1, run: up(1) },
      { name: `datagram up, ${DATAGRAMS} in a batch`, times: DATAGRAMS, run: up(DATAGRAMS) },
      { name: 'datagram down', times: 1, run: down(1) },
      { name: `datagram down, ${DATAGRAMS} in a batch`, times: DATAGRAMS, run: down(DATAGRAMS) },
      { name: 'association', times: 1, run: () => associate(++this.#datagramPort) },
    ]
  }

  #nextPort(): number {
    this.#port = this.#port >= 60_000 ? 30_000 : this.#port + 1
    return this.#port
  }
}

/** What is new, for one of `times`. JavaScript's counts begin anew with each reading. */
function difference(before: Counts, after: Counts, times: number): Counts {
  return Object.fromEntries(
    Object.entries(after).map(([name, count]) => [
      name,
      (count - (name.startsWith('js ') ? 0 : (before[name] ?? 0))) / times,
    ]),
  )
}

function medians(rounds: readonly Counts[]): Counts {
  const names = Object.keys(rounds.at(-1)!)
  const medianOf = (name: string) => {
    const sorted = rounds.map(round => round[name] ?? 0).sort((a, b) => a - b)
    return Math.round(sorted[rounds.length >> 1]! * 1_000) / 1_000
  }
  return Object.fromEntries(names.map(name => [name, medianOf(name)] as const).filter(([, count]) => count !== 0))
}
