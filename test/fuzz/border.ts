/**
 * lwip.wasm, as it is released, under mutated packets. A host that keeps its contract accepts, refuses, reads, writes and
 * forgets; what leaves is looked at. The same seed gives the same packets, apart from the stack's own random numbers.
 */
import { readFileSync } from 'node:fs'
import { addon } from '../../src/io/addon.ts'
import type { StackOptions } from '../../src/stack/stack.ts'
import { VNET_BYTES } from '../helpers/packets.ts'
import { Client, pattern, Rig } from '../stack/rig.ts'
import { Clients } from './clients.ts'
import { mutate, splice } from './mutations.ts'
import { Random } from './random.ts'
import { PAIRS, templates } from './templates.ts'

export const BORDER_OPTIONS: StackOptions = {
  mtu: 1500,
  vnetHdr: true,
  uso: true,
  echo: true,
  maxFlows: 256,
  maxEndpoints: 256,
  keepAliveMs: 10_000,
}

/** Packets that may come again, or be spliced. */
const REMEMBERED = 256
/** More make way: clients forget theirs. */
const MANY_FLOWS = 200
/** Bytes of a packet that leaves which are looked at. */
const LOOKED_AT = 128
/** After so much virtual time nothing may be left (reassembly: 15 s, and its timer's last rounds). */
const SETTLE_MS = 30_000

export class BorderFuzz {
  readonly rig: Rig
  packets = 0
  readonly #random: Random
  readonly #clients: Clients
  readonly #templates = templates()
  readonly #remembered: Buffer[] = []
  readonly #waiting: Buffer[] = []
  readonly #known = new Map<number, { opened: boolean; finished: boolean; reads: boolean }>()
  readonly #view = Buffer.alloc(LOOKED_AT)
  #landed = 0

  constructor(seed: number, options: StackOptions = BORDER_OPTIONS) {
    this.#random = new Random(seed)
    this.#clients = new Clients(this.#random, PAIRS)
    this.rig = new Rig(options)
  }

  /** Throws what the stack says when it stops, and when something that leaves is no packet. */
  run(packets: number): void {
    try {
      for (const end = this.packets + packets; this.packets < end; ) this.#turn()
    } catch (error) {
      throw this.rig.stack.explain(error)
    }
  }

  // ---- packets ----

  #next(): Buffer {
    const waiting = this.#waiting.pop()
    if (waiting !== undefined) return waiting
    const random = this.#random
    switch (random.below(16)) {
      case 0:
        return this.#clients.datagram()
      case 1:
        if (random.once(4)) this.#waiting.push(...this.#clients.fragments())
        return mutate(this.#clients.datagram(), random)
      case 2:
        return this.#remembered.length > 0 ? random.pick(this.#remembered) : this.#clients.segment()
      case 3:
        return splice(random.pick(this.#templates), random.pick(this.#templates), random)
      case 4:
      case 5:
      case 6:
        return mutate(random.pick(this.#templates), random)
      case 7:
      case 8:
        return mutate(this.#clients.segment(), random)
      default:
        return this.#clients.segment()
    }
  }

  #remember(packet: Buffer): void {
    if (this.#remembered.length < REMEMBERED) this.#remembered.push(packet)
    else this.#remembered[this.#random.below(REMEMBERED)] = packet
  }

  #turn(): void {
    const { exports, abi, words, bytes } = this.rig.stack
    const random = this.#random
    const skip = this.rig.vnetHdr ? VNET_BYTES : 0
    const count = Math.min(exports.tg_prepare(), 1 + random.below(abi.slots))
    if (count === 0) throw new Error('every slot is taken')
    for (let at = 0; at < count; at++) {
      const packet = this.#next()
      if (random.once(8)) this.#remember(packet)
      const row = abi.slotTable / 4 + 2 * at
      const offset = words[row]!
      if (skip > 0) this.#clients.vnet(bytes.subarray(offset, offset + skip), packet)
      const fitting = packet.length > abi.slotBytes - skip ? packet.subarray(0, abi.slotBytes - skip) : packet
      bytes.set(fitting, offset + skip)
      words[row + 1] = skip + fitting.length
    }
    for (let done = 0; done < count; ) {
      done = exports.tg_ingress(done, count)
      this.#drain()
      this.#flush()
    }
    this.packets += count
    if (random.once(4)) this.#act()
    this.#tick(random.once(200) ? 3_000 : 2)
    const slots = exports.tg_prepare()
    if (slots !== abi.slots) throw new Error(`${abi.slots - slots} slots are taken behind their batch`)
  }

  #tick(ms: number): void {
    this.rig.now += ms
    this.rig.stack.exports.tg_tick(this.rig.now)
    this.#drain()
    this.#flush()
  }

  // ---- the host ----

  #drain(): void {
    const { exports, abi, words } = this.rig.stack
    for (let id = exports.tg_next_event(); id >= 0; id = exports.tg_next_event())
      this.#onEvent(id, words[abi.eventBits / 4]!)
    const count = words[abi.datagramCount / 4]!
    for (let row = 0; row < count; row++) this.#answerDatagram(row)
    exports.tg_udp_release()
  }

  #onEvent(id: number, bits: number): void {
    const { exports, abi } = this.rig.stack
    const random = this.#random
    if (bits & abi.eventSyn) {
      if (this.#known.has(id)) throw new Error(`flow ${id} was given twice`)
      this.#known.set(id, { opened: false, finished: false, reads: !random.once(6) })
      if (!random.once(8)) exports.tg_tcp_accept(id)
      else if (random.once(2)) exports.tg_tcp_refuse(id, random.below(abi.answerSilence + 1))
    }
    const flow = this.#known.get(id)
    if (flow === undefined) throw new Error(`an event of flow ${id}, which was released`)
    if (bits & abi.eventOpen) flow.opened = true
    if (bits & (abi.eventOpen | abi.eventRoom)) this.#write(id, random.below(20_000))
    if (bits & abi.eventData) this.rig.read(id, flow.reads ? Number.POSITIVE_INFINITY : random.below(2_000))
    if (bits & abi.eventFin) this.#finish(id)
    if (bits & abi.eventGone) this.#release(id)
  }

  #write(id: number, most: number): void {
    const { exports, abi, words, bytes } = this.rig.stack
    const flow = this.#known.get(id)
    if (flow === undefined || !flow.opened || flow.finished) return
    const pieces = exports.tg_tcp_reserve(id)
    let written = 0
    for (let piece = 0; piece < pieces && written < most; piece++) {
      const row = abi.iovecs / 4 + 2 * piece
      const part = Math.min(words[row + 1]!, most - written)
      bytes.fill(0x5a, words[row]!, words[row]! + part)
      written += part
    }
    if (pieces > 0) exports.tg_tcp_commit(id, written)
  }

  #finish(id: number): void {
    const flow = this.#known.get(id)
    if (flow !== undefined) flow.finished = true
    this.rig.stack.exports.tg_tcp_finish(id)
  }

  #release(id: number): void {
    this.#known.delete(id)
    this.rig.stack.exports.tg_tcp_release(id)
  }

  #answerDatagram(row: number): void {
    const { exports, abi, words } = this.rig.stack
    const random = this.#random
    const at = (abi.datagrams + row * abi.datagramBytes) / 4
    const endpoint = words[at + abi.datagramEndpoint / 4]!
    const place = abi.endpoints + endpoint * abi.endpointBytes
    if (words[(place + abi.endpointUsed) / 4] === 0) return
    const dest = abi.datagrams + row * abi.datagramBytes + abi.datagramDest
    const family = words[(place + abi.endpointFamily) / 4]!
    const how = random.below(16)
    if (how === 0) exports.tg_udp_forget(endpoint)
    else if (how === 1) exports.tg_udp_refuse(endpoint, dest, 53, random.below(abi.answerSilence + 1))
    else if (how < 6) {
      if (this.#landed === abi.landingSlots) this.#flush()
      const landing = words[abi.landingTable / 4 + 2 * this.#landed++]!
      const length = random.once(20) ? random.below(65_507) : random.below(1_472)
      exports.tg_udp_send(endpoint, family, dest, 53, landing, length)
    }
  }

  /** What an upstream or a time-out does, to any flow and at any time. */
  #act(): void {
    const { exports, abi } = this.rig.stack
    const random = this.#random
    const ids = [...this.#known.keys()]
    while (ids.length > MANY_FLOWS) this.#release(ids.shift()!)
    if (ids.length === 0) return
    const id = random.pick(ids)
    switch (random.below(10)) {
      case 0:
        exports.tg_tcp_abort(id)
        break
      case 1:
        this.#release(id)
        break
      case 2:
        this.#finish(id)
        break
      case 3:
        exports.tg_tcp_accept(id)
        break
      case 4:
        exports.tg_tcp_refuse(id, random.below(abi.answerSilence + 1))
        break
      case 5:
        this.rig.read(id, random.below(100_000))
        break
      case 6:
        exports.tg_udp_forget(random.below(BORDER_OPTIONS.maxEndpoints))
        break
      default:
        this.#write(id, random.below(200_000))
    }
    this.#drain()
    this.#flush()
  }

  // ---- what leaves ----

  #flush(): void {
    const { exports, abi, words } = this.rig.stack
    const count = words[abi.egress / 4]!
    for (let row = 0; row < count; row++) this.#look(abi.egressPackets / 4 + 3 * row)
    exports.tg_egress_done()
    this.#landed = 0
  }

  #look(row: number): void {
    const { abi, words, bytes } = this.rig.stack
    const skip = this.rig.vnetHdr ? VNET_BYTES : 0
    const view = this.#view
    let total = 0
    for (let piece = words[row]!; piece < words[row]! + words[row + 1]!; piece++) {
      const at = abi.egressIovecs / 4 + 2 * piece
      const [offset, length] = [words[at]!, words[at + 1]!]
      if (total < LOOKED_AT) view.set(bytes.subarray(offset, offset + Math.min(length, LOOKED_AT - total)), total)
      total += length
    }
    const isV6 = view[skip]! >> 4 === 6
    if (!isV6 && view[skip]! >> 4 !== 4) throw new Error(`a packet of IP version ${view[skip]! >> 4} leaves`)
    const header = isV6 ? 40 : (view[skip]! & 15) * 4
    const said = isV6 ? 40 + view.readUInt16BE(skip + 4) : view.readUInt16BE(skip + 2)
    if (said !== total - skip) throw new Error(`a packet of ${total - skip} bytes says ${said}`)
    const isSuper = skip > 0 && view[1] !== 0
    if (!isSuper && said > BORDER_OPTIONS.mtu) throw new Error(`a packet of ${said} bytes leaves`)
    if (view[skip + (isV6 ? 6 : 9)] !== 6) return
    const at = skip + header
    const payload = said - header - (view[at + 12]! >> 4) * 4
    if (payload < 0) throw new Error('a segment that is shorter than its header leaves')
    this.#clients.learn(view.readUInt16BE(at + 2), view.readUInt32BE(at + 4), view[at + 13]!, payload)
  }

  // ---- the end ----

  /** Closes everything and lets time pass; what is left in the stack. */
  settle(): Record<string, number> {
    const { exports } = this.rig.stack
    try {
      for (const id of [...this.#known.keys()]) {
        exports.tg_tcp_abort(id)
        this.#release(id)
      }
      for (let id = 0; id < BORDER_OPTIONS.maxEndpoints; id++) exports.tg_udp_forget(id)
      for (const end = this.rig.now + SETTLE_MS; this.rig.now < end; ) this.#tick(40)
      this.#trim()
      return this.rig.held()
    } catch (error) {
      throw this.rig.stack.explain(error)
    }
  }

  /** A connection and a datagram of a new client, each way; throws when one is not served within a second of the stack's time. */
  serve(port: number): void {
    const start = this.rig.now
    for (const pair of PAIRS) {
      const client = new Client(this.rig, pair, port).open()
      client.data(Buffer.from('alive'))
      if (this.rig.received(client.id).toString() !== 'alive') throw new Error('a new client is not heard')
      const { data } = client.take(this.rig.write(client.id, pattern(1_000)).out)
      if (!data.equals(pattern(1_000))) throw new Error('a new client is not answered')
      client.close()
      this.rig.flows.delete(client.id)
    }
    if (this.rig.now - start >= 1_000) throw new Error('a new client waited for a second')
    this.rig.tick(3_000)
  }

  /** What the stack does not need goes back to the kernel, as in a gateway (data-plane.ts). */
  #trim(): void {
    const { exports, abi, memory } = this.rig.stack
    const io = new addon.Io(memory, new Int32Array(2), () => undefined)
    try {
      for (let round = 0; round < 3; round++)
        for (let rows = exports.tg_trim(); rows > 0; rows = exports.tg_trim()) io.discard(abi.iovecs, rows)
    } finally {
      io.close()
    }
  }

  /** Bytes of WebAssembly memory that are resident, of all stacks of this process: those that never ran hold next to none. */
  residentBytes(): number {
    const size = `Size: ${this.rig.stack.memory.byteLength / 1024} kB`
    let bytes = 0
    for (const region of readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
      if (!region.replace(/ +/g, ' ').includes(size)) continue
      bytes += Number(/^Rss: +(\d+) kB/m.exec(region)![1]) * 1024
    }
    return bytes
  }
}
