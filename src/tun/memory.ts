/** A tun of two queues in memory: a test plays the kernel. */
import type { Tun } from './tun.ts'

export class MemoryTun implements Tun {
  readonly name = 'memory'
  readonly mtu: number
  readonly vnetHdr: boolean
  /** Packets for the gateway, with their virtio_net_hdr when `vnetHdr`. */
  readonly toGateway: Uint8Array[] = []
  /** Packets from the gateway, likewise. */
  readonly fromGateway: Uint8Array[] = []
  readonly #bytes: Uint8Array
  readonly #words: Uint32Array

  constructor(memory: ArrayBuffer, options: { mtu: number; vnetHdr: boolean }) {
    this.mtu = options.mtu
    this.vnetHdr = options.vnetHdr
    this.#bytes = new Uint8Array(memory)
    this.#words = new Uint32Array(memory)
  }

  read(slots: number, count: number, slotBytes: number): number {
    let done = 0
    while (done < count && this.toGateway.length > 0) {
      const packet = this.toGateway.shift()!.subarray(0, slotBytes)
      const row = slots / 4 + 2 * done++
      this.#bytes.set(packet, this.#words[row]!)
      this.#words[row + 1] = packet.length
    }
    return done
  }

  write(packets: number, iovecs: number, count: number): number {
    for (let at = 0; at < count; at++) {
      const row = packets / 4 + 3 * at
      const first = this.#words[row]!
      const pieces: Uint8Array[] = []
      for (let piece = first; piece < first + this.#words[row + 1]!; piece++) {
        const offset = this.#words[iovecs / 4 + 2 * piece]!
        pieces.push(this.#bytes.subarray(offset, offset + this.#words[iovecs / 4 + 2 * piece + 1]!))
      }
      this.fromGateway.push(Uint8Array.from(Buffer.concat(pieces)))
    }
    return count
  }
}
