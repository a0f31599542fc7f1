/**
 * One instance of lwIP. It answers for every address: packets go in by batches, and come out as a table of iovecs;
 * what happened in between stands in an event queue. It never calls back, so nothing here can re-enter.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

import { GatewayError } from '../errors.ts'
import { type Abi, type Exports, readAbi, readText } from './abi.ts'
import { Instance, Module, RuntimeError } from './webassembly.ts'

export interface StackOptions {
  /** Bytes of the largest IP packet that the device carries. */
  readonly mtu: number
  /** Packets carry a virtio_net_hdr. */
  readonly vnetHdr: boolean
  /** With vnetHdr: the device takes and gives UDP super-packets. */
  readonly uso: boolean
  readonly echo: boolean
  readonly maxFlows: number
  readonly maxEndpoints: number
  /** Of the device: nobody else may send from them. */
  readonly ownAddresses?: readonly Uint8Array[]
  /** Idle milliseconds before a keep-alive probe to a client; 0: none. */
  readonly keepAliveMs: number
}

let module: Module | undefined

/** Compiled once a process: 2 ms. */
export function stackModule(): Module {
  if (module === undefined) {
    const file = new URL('../../../wasm/lwip.wasm', import.meta.url)
    module = new Module(readFileSync(file))
  }
  return module
}

/**
 * Not by node:crypto, which takes 5 ms and 2 MB of the start to load. The kernel's generator is seeded by now (random(4)):
 * Node has waited for that when it drew from it itself.
 */
function fillRandom(bytes: Uint8Array): void {
  const file = openSync('/dev/urandom', 'r')
  try {
    const count = readSync(file, bytes)
    if (count !== bytes.length)
      throw new GatewayError('INTERNAL', `/dev/urandom gave ${count} of ${bytes.length} bytes`)
  } finally {
    closeSync(file)
  }
}

export class Stack {
  readonly abi: Abi
  readonly exports: Exports
  readonly memory: ArrayBuffer
  /** The same memory as u32; index = offset / 4. */
  readonly words: Uint32Array
  readonly bytes: Uint8Array
  readonly #counterNames: readonly string[]
  readonly #counters: Float64Array

  /** @param module the one of this thread, or that of another */
  constructor(options: StackOptions, module = stackModule()) {
    this.exports = new Instance(module, {}).exports as Exports
    const x = this.exports
    x._initialize()
    this.memory = x.memory.buffer
    this.words = new Uint32Array(this.memory)
    this.bytes = new Uint8Array(this.memory)
    this.abi = readAbi(x)
    fillRandom(this.bytes.subarray(x.tg_seed(), x.tg_seed() + this.abi.seedBytes))
    x.tg_init(
      options.mtu,
      options.vnetHdr ? 1 : 0,
      options.vnetHdr && options.uso ? 1 : 0,
      options.echo ? 1 : 0,
      Math.min(options.maxFlows, this.abi.maxFlows),
      Math.min(options.maxEndpoints, this.abi.maxEndpoints),
      options.keepAliveMs,
    )
    for (const address of options.ownAddresses ?? []) {
      this.bytes.set(address, this.abi.scratch)
      x.tg_own_address(address.length === 4 ? 4 : 6, this.abi.scratch)
    }
    this.#counterNames = readText(this.memory, x.tg_counter_names()).trim().split(' ')
    this.#counters = new Float64Array(this.memory, this.abi.counters, this.#counterNames.length)
  }

  counter(name: string): number {
    return this.#counters[this.#counterNames.indexOf(name)]!
  }

  counters(): Record<string, number> {
    return Object.fromEntries(this.#counterNames.map((name, at) => [name, this.#counters[at]!]))
  }

  /**
   * RST for each connection of an instance that stopped, whose memory is read once more. `flush` writes packets; it is
   * called in between as well. Throws RuntimeError when that memory cannot be made sense of.
   */
  adopt(stopped: Stack, flush: () => void): void {
    for (let from = 0; from < this.abi.maxFlows; ) {
      const at = stopped.exports.tg_orphans(from)
      const [bytes, rows, next] = stopped.words.subarray(at / 4, at / 4 + 3) as unknown as [number, number, number]
      this.bytes.set(stopped.bytes.subarray(at, at + bytes), at)
      if (rows > 0) this.exports.tg_orphans_adopt()
      flush()
      from = next
    }
  }

  /** What an assertion inside lwIP said, wrapped; other errors are given back as they are. */
  explain(error: unknown): unknown {
    if (!(error instanceof RuntimeError)) return error
    const reason = this.exports.tg_trap_reason()
    const text = reason === 0 ? error.message : readText(this.memory, reason)
    return new GatewayError('STACK_TRAP', `lwIP stopped: ${text}`, { cause: error })
  }
}
