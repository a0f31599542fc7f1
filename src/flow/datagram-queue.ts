/** Rows of the stack's datagram table, and copies of them for a client endpoint that has no association yet. */
import type { IpEndpoint } from '../endpoint.ts'
import type { Stack } from '../stack/stack.ts'

/** Datagrams kept while the association is being made; the oldest goes first. */
const MAX_QUEUED = 64
const MAX_QUEUED_BYTES = 256 * 1024

export interface DatagramRow {
  /** Where the destination's address lies in the stack's memory. */
  readonly dest: number
  readonly family: number
  readonly port: number
  readonly length: number
}

export interface QueuedDatagram {
  readonly dest: Uint8Array
  readonly family: number
  readonly port: number
  readonly payload: Uint8Array
}

export function rowOf({ abi, words }: Stack, row: number): DatagramRow {
  const datagram = (abi.datagrams + row * abi.datagramBytes) / 4
  return {
    dest: 4 * datagram + abi.datagramDest,
    family: words[datagram + abi.datagramFamily / 4]!,
    port: words[datagram + abi.datagramDestPort / 4]!,
    length: words[datagram + abi.datagramLength / 4]!,
  }
}

export function destinationOf(stack: Stack, row: number): IpEndpoint {
  const { dest, family, port } = rowOf(stack, row)
  return { address: stack.bytes.slice(dest, dest + (family === 6 ? 16 : 4)), port }
}

/** Port unreachable, to the client endpoint `id` whose row it is. */
export function refuseRow(stack: Stack, id: number, row: number): void {
  const { dest, port } = rowOf(stack, row)
  stack.exports.tg_udp_refuse(id, dest, port, stack.abi.answerPortUnreachable)
}

export class DatagramQueue {
  readonly datagrams: QueuedDatagram[] = []
  #bytes = 0

  /** Copies a row; how many gave way to it. */
  push(stack: Stack, row: number): number {
    const { abi, words, bytes } = stack
    const datagram = (abi.datagrams + row * abi.datagramBytes) / 4
    const dest = 4 * datagram + abi.datagramDest
    const length = words[datagram + abi.datagramLength / 4]!
    const payload = new Uint8Array(length)
    // behind the iovec of the upstream's header
    let iovec = abi.datagramIovecs / 4 + 2 * (words[datagram + abi.datagramFirstIovec / 4]! + 1)
    for (let done = 0; done < length; iovec += 2) {
      payload.set(bytes.subarray(words[iovec]!, words[iovec]! + words[iovec + 1]!), done)
      done += words[iovec + 1]!
    }
    return this.add({
      dest: bytes.slice(dest, dest + 16),
      family: words[datagram + abi.datagramFamily / 4]!,
      port: words[datagram + abi.datagramDestPort / 4]!,
      payload,
    })
  }

  /** How many gave way to it. */
  add(datagram: QueuedDatagram): number {
    this.datagrams.push(datagram)
    this.#bytes += datagram.payload.length
    let dropped = 0
    for (; this.datagrams.length > MAX_QUEUED || this.#bytes > MAX_QUEUED_BYTES; dropped++)
      this.#bytes -= this.datagrams.shift()!.payload.length
    return dropped
  }
}
