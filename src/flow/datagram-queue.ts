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

/** The same of copies. */
export function refuseCopies(stack: Stack, id: number, datagrams: readonly QueuedDatagram[]): void {
  const { abi, bytes, exports } = stack
  for (const { dest, port } of datagrams) {
    bytes.set(dest, abi.scratch)
    exports.tg_udp_refuse(id, abi.scratch, port, abi.answerPortUnreachable)
  }
}

/** The `length` bytes of a row's payload, to the beginning of `into`. */
export function copyPayload({ abi, words, bytes }: Stack, row: number, length: number, into: Uint8Array): void {
  const firstIovec = words[(abi.datagrams + row * abi.datagramBytes + abi.datagramFirstIovec) / 4]!
  // behind the iovec of the upstream's header
  let iovec = abi.datagramIovecs / 4 + 2 * (firstIovec + 1)
  for (let done = 0; done < length; iovec += 2) {
    const at = words[iovec]!
    into.set(bytes.subarray(at, at + words[iovec + 1]!), done)
    done += words[iovec + 1]!
  }
}

export class DatagramQueue {
  readonly datagrams: QueuedDatagram[] = []
  #bytes = 0

  /** Copies a row; how many gave way to it. */
  push(stack: Stack, row: number): number {
    const { dest, family, port, length } = rowOf(stack, row)
    const payload = new Uint8Array(length)
    copyPayload(stack, row, length, payload)
    return this.add({ dest: stack.bytes.slice(dest, dest + 16), family, port, payload })
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
