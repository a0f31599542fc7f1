/**
 * A bad line between two namespaces, for kernels without netem: a process that holds a tun in each, and carries packets
 * from one to the other with delay, loss, reorder, duplication and corruption. Without offload on its devices the kernel
 * cuts super-packets, so what is lost is a packet of the MTU. Each probability has a generator of its own, seeded.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { addon } from '../../src/io/addon.ts'
import { Poller } from '../../src/io/poller.ts'
import { LinuxTun, openTun } from '../../src/tun/linux.ts'
import type { Namespace } from './namespaces.ts'
import { PayloadMeter, type WayCounters } from './payload-meter.ts'
import { random } from './random.ts'

export interface Impairments {
  /** One way, milliseconds. */
  readonly delayMs: number
  /** Probabilities of a packet, 0 to 1. */
  readonly loss?: number
  /** Such a packet is held back by `reorderMs` more, 2 when left out, and those behind it overtake it. */
  readonly reorder?: number
  readonly reorderMs?: number
  readonly duplicate?: number
  /** One bit of the packet is turned. */
  readonly corrupt?: number
  readonly seed?: number
}

export interface LineCounters {
  /** From `a` to `b`, and back. */
  readonly there: WayCounters
  readonly back: WayCounters
}

export interface LineEnd {
  readonly namespace: Namespace
  /** With prefix lengths. */
  readonly addresses: readonly string[]
}

interface Setup {
  readonly ends: readonly { readonly pid: number; readonly addresses: readonly string[] }[]
  readonly impairments: Impairments
  readonly device: string
  readonly mtu: number
}

/** The line in a process of its own. */
export class ImpairedLine {
  readonly #child: ChildProcess

  constructor(child: ChildProcess) {
    this.#child = child
  }

  /** Makes `device` in both namespaces, and starts. Throws when the process cannot. */
  static async start(a: LineEnd, b: LineEnd, impairments: Impairments, device = 'bad0'): Promise<ImpairedLine> {
    const ends = [a, b].map(({ namespace, addresses }) => ({ pid: namespace.pid, addresses }))
    const setup: Setup = { ends, impairments, device, mtu: 1500 }
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    child.send(setup)
    const said = await Promise.race([once(child, 'message'), once(child, 'exit')])
    if (said[0] !== 'ready') throw new Error(`the line did not start: ${said[0]}`)
    return new ImpairedLine(child)
  }

  /** Other impairments from now on; counters start again. */
  async change(impairments: Impairments): Promise<void> {
    await this.#ask(impairments)
  }

  counters(): Promise<LineCounters> {
    return this.#ask('counters') as Promise<LineCounters>
  }

  async #ask(what: Impairments | 'counters'): Promise<unknown> {
    this.#child.send(what)
    const [answer] = await once(this.#child, 'message')
    return answer
  }

  /** The devices go away with it. Idempotent. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}

// ---- in the process ----

const SLOT_BYTES = 2048
/** Of one way: 16 MiB, or half a second at 20 MB/s. */
const SLOTS = 8192
const BATCH = 64
const QUEUE_PACKETS = 10_000

interface Waiting {
  readonly due: number
  readonly slot: number
  readonly length: number
}

/** Each packet waits as long as any other, so the first is due first. */
class Delay {
  readonly #queue: Waiting[] = []
  #head = 0

  push(waiting: Waiting): void {
    this.#queue.push(waiting)
  }

  get due(): number {
    return this.#queue[this.#head]?.due ?? Number.POSITIVE_INFINITY
  }

  take(): Waiting {
    const waiting = this.#queue[this.#head++]!
    if (this.#head === 1024) {
      this.#queue.splice(0, this.#head)
      this.#head = 0
    }
    return waiting
  }
}

/** One direction: what is read from a device waits in slots of the common memory, and is written to the other. */
class Way {
  readonly #words: Uint32Array
  readonly #bytes: Uint8Array
  readonly #table: number
  readonly #packets: number
  readonly #iovecs: number
  readonly #slots: number
  readonly #free: number[] = []
  readonly #to: LinuxTun
  readonly #from: LinuxTun
  readonly #usual = new Delay()
  readonly #heldBack = new Delay()
  #impairments: Impairments
  #draws: Record<'loss' | 'reorder' | 'duplicate' | 'corrupt', () => number>
  meter = new PayloadMeter()
  opposite: Way | undefined

  constructor(memory: ArrayBuffer, offset: number, from: LinuxTun, to: LinuxTun, impairments: Impairments) {
    this.#words = new Uint32Array(memory)
    this.#bytes = new Uint8Array(memory)
    this.#table = offset
    this.#packets = this.#table + 8 * BATCH
    this.#iovecs = this.#packets + 12 * SLOTS
    this.#slots = this.#iovecs + 8 * SLOTS
    for (let slot = 0; slot < SLOTS; slot++) this.#free.push(slot)
    this.#from = from
    this.#to = to
    this.#impairments = impairments
    this.#draws = this.#seed(offset)
  }

  static get memoryBytes(): number {
    return 8 * BATCH + (12 + 8 + SLOT_BYTES) * SLOTS
  }

  #seed(salt: number) {
    const seed = (this.#impairments.seed ?? 1) + salt
    return { loss: random(seed), reorder: random(seed + 1), duplicate: random(seed + 2), corrupt: random(seed + 3) }
  }

  change(impairments: Impairments): void {
    this.#impairments = impairments
    this.#draws = this.#seed(this.#table)
    for (const delay of [this.#usual, this.#heldBack])
      while (delay.due < Number.POSITIVE_INFINITY) this.#free.push(delay.take().slot)
    this.meter = new PayloadMeter()
  }

  /** A watcher of the device that is read. */
  onReady(): void {
    const now = performance.now()
    for (;;) {
      const room = Math.min(BATCH, this.#free.length)
      const taken = this.#free.splice(this.#free.length - room)
      taken.forEach((slot, row) => {
        this.#words[this.#table / 4 + 2 * row] = this.#slots + slot * SLOT_BYTES
      })
      const count = this.#from.read(this.#table, room, SLOT_BYTES)
      for (let row = 0; row < count; row++) this.#take(taken[row]!, this.#words[this.#table / 4 + 2 * row + 1]!, now)
      for (let row = count; row < room; row++) this.#free.push(taken[row]!)
      if (count < BATCH) break
    }
  }

  #take(slot: number, length: number, now: number): void {
    const { delayMs, loss = 0, reorder = 0, reorderMs = 2, duplicate = 0, corrupt = 0 } = this.#impairments
    const at = this.#slots + slot * SLOT_BYTES
    const payload = this.meter.count(this.#bytes, at, length, now + delayMs)
    this.opposite?.meter.acknowledge(this.#bytes, at, now)
    const { counters } = this.meter
    if (this.#draws.loss() < loss) {
      if (payload > 0) counters.lostPackets++
      counters.lostBytes += payload
      this.#free.push(slot)
      return
    }
    if (this.#draws.corrupt() < corrupt) {
      const bit = Math.floor(this.#draws.corrupt() * length * 8)
      this.#bytes[at + (bit >> 3)]! ^= 1 << (bit & 7)
      counters.corrupted++
    }
    const copy = this.#draws.duplicate() < duplicate ? this.#free.pop() : undefined
    if (copy !== undefined) this.#bytes.copyWithin(this.#slots + copy * SLOT_BYTES, at, at + length)
    for (const each of copy === undefined ? [slot] : [slot, copy]) {
      if (this.#draws.reorder() < reorder) this.#heldBack.push({ due: now + delayMs + reorderMs, slot: each, length })
      else this.#usual.push({ due: now + delayMs, slot: each, length })
    }
  }

  #write(packets: readonly Waiting[]): void {
    packets.forEach(({ slot, length }, row) => {
      this.#words.set([row, 1, 0], this.#packets / 4 + 3 * row)
      this.#words.set([this.#slots + slot * SLOT_BYTES, length], this.#iovecs / 4 + 2 * row)
    })
    this.#to.write(this.#packets, this.#iovecs, packets.length)
    for (const { slot } of packets) this.#free.push(slot)
  }

  /** Writes what is due; when the next one is, or Infinity. */
  release(now: number): number {
    const due: Waiting[] = []
    for (;;) {
      const first = this.#usual.due <= this.#heldBack.due ? this.#usual : this.#heldBack
      if (first.due > now) break
      due.push(first.take())
    }
    if (due.length > 0) this.#write(due)
    return Math.min(this.#usual.due, this.#heldBack.due)
  }
}

function run({ ends, impairments, device, mtu }: Setup): void {
  const memory = new ArrayBuffer(2 * Way.memoryBytes)
  const fail = (error: unknown) => {
    throw error
  }
  let timer: NodeJS.Timeout | undefined
  const release = () => {
    timer = undefined
    const now = performance.now()
    const next = Math.min(...ways.map(way => way.release(now)))
    if (next < Number.POSITIVE_INFINITY) timer = setTimeout(release, Math.max(0, next - performance.now()))
  }
  const poller = new Poller(memory, fail)
  poller.attend({ beginTurn() {}, endTurn: () => timer ?? release() })
  const tuns = ends.map(({ pid, addresses }) => {
    const info = openTun({ name: device, offload: false, multiQueue: false, pid }, { mtu, addresses })
    addon.linkConfigure({ name: device, mtu, addresses: [], up: true, queuePackets: QUEUE_PACKETS, pid })
    return new LinuxTun(poller.io, info)
  })
  const [a, b] = tuns as [LinuxTun, LinuxTun]
  const ways = [new Way(memory, 0, a, b, impairments), new Way(memory, Way.memoryBytes, b, a, impairments)]
  ways[0]!.opposite = ways[1]
  ways[1]!.opposite = ways[0]
  poller.add(a.fd, ways[0]!, false)
  poller.add(b.fd, ways[1]!, false)
  process.on('message', (message: Impairments | 'counters') => {
    if (message === 'counters') {
      process.send!({ there: ways[0]!.meter.finish(), back: ways[1]!.meter.finish() } satisfies LineCounters)
      return
    }
    for (const way of ways) way.change(message)
    process.send!('changed')
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  process.once('message', setup => {
    run(setup as Setup)
    process.send!('ready')
  })
  process.on('disconnect', () => process.exit())
}
