/**
 * A stack without a tun: literal packets go in, and what comes out is taken apart. Every test that is made with
 * `stackTest` ends by proving that nothing is left in the stack.
 */
import test, { type ExecutionContext } from 'ava'
import { Stack, type StackOptions, stackModule } from '../../src/stack/stack.ts'
import { MemoryTun } from '../../src/tun/memory.ts'
import { Flag, type Packet, type Pair, parse, type TcpFields, tcp, VNET_BYTES } from '../helpers/packets.ts'

export const V4: Pair = { from: '198.18.0.1', to: '203.0.113.7' }
export const V6: Pair = { from: 'fd74:756e::1', to: '2001:db8::7' }

/** MSS 1460, SACK permitted, window scale 7: what a Linux client offers. */
export const LINUX_OPTIONS = [2, 4, 0x05, 0xb4, 4, 2, 1, 3, 3, 7]

export interface FlowNow {
  readonly id: number
  /** All events so far, or'ed. */
  events: number
  /** Bytes that were read from the client. */
  received: Buffer[]
}

export class Rig {
  readonly stack: Stack
  readonly vnetHdr: boolean
  now = 1_000
  /** Whether bytes of clients are read as they come; otherwise they wait. */
  reading = true
  readonly flows = new Map<number, FlowNow>()
  readonly #tun: MemoryTun

  constructor(options: Partial<StackOptions> = {}, module = stackModule()) {
    this.vnetHdr = options.vnetHdr ?? false
    const defaults = {
      mtu: 1500,
      vnetHdr: false,
      uso: false,
      echo: false,
      maxFlows: 64,
      maxEndpoints: 64,
      keepAliveMs: 0,
    }
    this.stack = new Stack({ ...defaults, ...options }, module)
    this.#tun = new MemoryTun(this.stack.memory, { mtu: options.mtu ?? 1500, vnetHdr: this.vnetHdr })
    this.stack.exports.tg_set_now(this.now)
  }

  /** Gives packets to the stack in batches, as the data plane does. `vnet` is put before each: zeros when left out. */
  send(packets: readonly Uint8Array[], vnet: Uint8Array = new Uint8Array(VNET_BYTES)): Packet[] {
    const { exports, abi } = this.stack
    const out: Packet[] = []
    for (const packet of packets) this.#tun.toGateway.push(this.vnetHdr ? Buffer.concat([vnet, packet]) : packet)
    while (this.#tun.toGateway.length > 0) {
      const count = this.#tun.read(abi.slotTable, exports.tg_prepare(), abi.slotBytes)
      if (count === 0) throw new Error('every slot is taken')
      for (let done = 0; done < count; ) {
        done = exports.tg_ingress(done, count)
        if (done < count) out.push(...this.flush())
      }
      this.drain()
      out.push(...this.flush())
    }
    return out
  }

  /** Handles events: keeps them, and reads or leaves what clients sent. */
  drain(): void {
    const { exports, abi, words } = this.stack
    for (let id = exports.tg_next_event(); id >= 0; id = exports.tg_next_event()) {
      const bits = words[abi.eventBits / 4]!
      if (bits & abi.eventSyn || !this.flows.has(id)) this.flows.set(id, { id, events: 0, received: [] })
      this.flows.get(id)!.events |= bits
      if (bits & abi.eventData) this.read(id, this.reading ? Number.POSITIVE_INFINITY : 0)
    }
  }

  /** Takes at most `limit` bytes that a client has sent. */
  read(id: number, limit = Number.POSITIVE_INFINITY): Buffer {
    const { exports, abi, words, bytes } = this.stack
    const taken: Buffer[] = []
    for (let left = limit; left > 0; ) {
      const pieces = exports.tg_tcp_peek(id)
      if (pieces === 0) break
      const row = abi.iovecs / 4
      const part = Math.min(left, words[row + 1]!)
      taken.push(Buffer.from(bytes.slice(words[row]!, words[row]! + part)))
      exports.tg_tcp_consume(id, part)
      left -= part
    }
    exports.tg_tcp_consume(id, 0)
    const all = Buffer.concat(taken)
    this.flows.get(id)?.received.push(all)
    return all
  }

  /** What the stack wants to send. */
  flush(): Packet[] {
    const { exports, abi, words } = this.stack
    this.#tun.write(abi.egressPackets, abi.egressIovecs, words[abi.egress / 4]!)
    exports.tg_egress_done()
    return this.#tun.fromGateway.splice(0).map(raw => parse(raw, this.vnetHdr))
  }

  /** Lets time pass, in the grain of the stack's timers. */
  tick(ms: number): Packet[] {
    const out: Packet[] = []
    const { exports, abi } = this.stack
    for (const end = this.now + ms; this.now < end; ) {
      this.now = Math.min(end, this.now + abi.tickMs)
      exports.tg_tick(this.now)
      this.drain()
      out.push(...this.flush())
    }
    return out
  }

  /** Sends to the client whatever fits of `data`; how many bytes that was. */
  write(id: number, data: Uint8Array): { written: number; out: Packet[] } {
    const { exports, abi, words, bytes } = this.stack
    const pieces = exports.tg_tcp_reserve(id)
    let written = 0
    for (let piece = 0; piece < pieces && written < data.length; piece++) {
      const row = abi.iovecs / 4 + 2 * piece
      const part = data.subarray(written, written + words[row + 1]!)
      bytes.set(part, words[row]!)
      written += part.length
    }
    if (pieces > 0) exports.tg_tcp_commit(id, written)
    this.drain()
    return { written, out: this.flush() }
  }

  /** Calls one of the stack's functions on a flow, and gives back what it sends. */
  tell(call: 'accept' | 'finish' | 'abort' | 'release', id: number): Packet[] {
    this.stack.exports[`tg_tcp_${call}`](id)
    this.drain()
    return this.flush()
  }

  refuse(id: number, answer: number): Packet[] {
    this.stack.exports.tg_tcp_refuse(id, answer)
    this.drain()
    return this.flush()
  }

  state(id: number): number {
    const { abi, words } = this.stack
    return words[(abi.flows + id * abi.flowBytes + abi.flowState) / 4]!
  }

  error(id: number): number {
    const { abi, words } = this.stack
    return words[(abi.flows + id * abi.flowBytes + abi.flowError) / 4]!
  }

  has(id: number, event: number): boolean {
    return ((this.flows.get(id)?.events ?? 0) & event) !== 0
  }

  received(id: number): Buffer {
    return Buffer.concat(this.flows.get(id)?.received ?? [])
  }

  counter(name: string): number {
    const value = this.stack.counters()[name]
    if (value === undefined) throw new Error(`no counter ${name}`)
    return value
  }

  /** What a stack at rest holds: nothing. */
  held(): Record<string, number> {
    const x = this.stack.exports
    return {
      pcbs: x.tg_pcbs(),
      flows: x.tg_flows_used(),
      sendBytes: x.tg_send_used(),
      receiveBytes: x.tg_receive_held(),
      fragmentBytes: x.tg_fragments_held(),
      outOfOrderBytes: x.tg_out_of_order_held(),
      spanBytes: x.tg_spans_held(),
      endpoints: x.tg_endpoints_used(),
      slots: this.stack.abi.slots - x.tg_prepare(),
    }
  }
}

const NOTHING = {
  pcbs: 0,
  flows: 0,
  sendBytes: 0,
  receiveBytes: 0,
  fragmentBytes: 0,
  outOfOrderBytes: 0,
  spanBytes: 0,
  endpoints: 0,
  slots: 0,
}

/** The client's half of a connection: it only keeps the numbers. */
export class Client {
  readonly rig: Rig
  readonly pair: Pair
  readonly port: number
  readonly toPort: number
  readonly isn: number
  /** Of the next byte to be sent, and of the next one expected. */
  seq: number
  ack = 0
  window = 65_535
  id = -1

  constructor(rig: Rig, pair: Pair = V4, port = 40_000, toPort = 80, isn = 0x1000_0000) {
    this.rig = rig
    this.pair = pair
    this.port = port
    this.toPort = toPort
    this.isn = isn
    this.seq = isn
  }

  segment(flags: number, fields: Partial<TcpFields> = {}): Buffer {
    const names = { fromPort: this.port, toPort: this.toPort }
    return tcp(this.pair, { ...names, seq: this.seq, ack: this.ack, flags, window: this.window, ...fields })
  }

  send(flags: number, fields: Partial<TcpFields> = {}): Packet[] {
    return this.rig.send([this.segment(flags, fields)])
  }

  /** SYN; the number of the flow that asks. */
  knock(options: readonly number[] = LINUX_OPTIONS): number {
    const before = new Set(this.rig.flows.keys())
    const out = this.send(Flag.syn, { ack: 0, options, seq: this.isn })
    if (out.length !== 0) throw new Error('the SYN was answered')
    const [id] = [...this.rig.flows.keys()].filter(key => !before.has(key) || this.rig.state(key) === HELD)
    this.id = id ?? -1
    return this.id
  }

  /** SYN, accept, ACK. */
  open(options?: readonly number[]): this {
    this.knock(options)
    const [answer] = this.rig.tell('accept', this.id)
    if (answer?.tcp?.flags !== (Flag.syn | Flag.ack)) throw new Error('no SYN-ACK')
    this.seq = this.isn + 1
    this.ack = (answer.tcp.seq + 1) >>> 0
    this.send(Flag.ack)
    return this
  }

  /** Sends data in order. */
  data(payload: Uint8Array, flags: number = Flag.ack | Flag.psh): Packet[] {
    const out = this.send(flags, { payload })
    this.seq = (this.seq + payload.length + (flags & Flag.fin ? 1 : 0)) >>> 0
    return out
  }

  /** Takes the data of `packets`, in order, and acknowledges it. */
  take(packets: readonly Packet[]): { data: Buffer; fin: boolean; answers: Packet[] } {
    const taken: Buffer[] = []
    let fin = false
    for (const { tcp: got } of packets) {
      if (got === undefined || got.seq !== this.ack) continue
      taken.push(got.payload)
      if (got.flags & Flag.fin) fin = true
      this.ack = (this.ack + got.payload.length + (got.flags & Flag.fin ? 1 : 0)) >>> 0
    }
    const data = Buffer.concat(taken)
    return { data, fin, answers: data.length > 0 || fin ? this.send(Flag.ack) : [] }
  }

  /** FIN from both sides, TIME_WAIT over, and the flow let go of. */
  close(): void {
    this.data(new Uint8Array(), Flag.fin | Flag.ack)
    this.take(this.rig.tell('finish', this.id))
    this.rig.tell('release', this.id)
  }
}

/** TG_HELD; the same in every instance. */
const HELD = new Rig().stack.abi.stateHeld

export function stackTest(
  title: string,
  options: Partial<StackOptions>,
  body: (t: ExecutionContext, rig: Rig) => void,
): void {
  test(title, t => {
    const rig = new Rig(options)
    body(t, rig)
    rig.stack.exports.tg_udp_release()
    rig.tick(3_000)
    t.deepEqual(rig.held(), NOTHING, 'something is left in the stack')
  })
}

/** The test for IPv4 and for IPv6. */
export function forBoth(
  title: string,
  options: Partial<StackOptions>,
  body: (t: ExecutionContext, rig: Rig, pair: Pair) => void,
): void {
  for (const [name, pair] of [
    ['IPv4', V4],
    ['IPv6', V6],
  ] as const)
    stackTest(`${title} (${name})`, options, (t, rig) => body(t, rig, pair))
}

/** `length` bytes that differ from place to place. */
export function pattern(length: number, from = 0): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at++) bytes[at] = ((from + at) * 31 + ((from + at) >> 8)) & 255
  return bytes
}
