/** Datagrams at the stack's border, as the host sees them. */
import type { ExecutionContext } from 'ava'
import type { Packet } from '../helpers/packets.ts'
import type { Rig } from './rig.ts'

export interface Datagram {
  readonly endpoint: number
  readonly dest: Buffer
  readonly destPort: number
  readonly payload: Buffer
}

/** The rows that the stack holds for the host, which are then given back. */
export function takeDatagrams(rig: Rig): Datagram[] {
  const { abi, words, bytes, exports } = rig.stack
  const found: Datagram[] = []
  for (let at = 0; at < words[abi.datagramCount / 4]!; at++) {
    const row = (abi.datagrams + at * abi.datagramBytes) / 4
    const message = (abi.messages + at * abi.messageBytes) / 4
    const [first, count] = [words[message]!, words[message + 1]!]
    const pieces: Buffer[] = []
    for (let piece = first + 1; piece < first + count; piece++) {
      const iovec = abi.datagramIovecs / 4 + 2 * piece
      pieces.push(Buffer.from(bytes.slice(words[iovec]!, words[iovec]! + words[iovec + 1]!)))
    }
    const payload = Buffer.concat(pieces)
    if (payload.length !== words[row + abi.datagramLength / 4]) throw new Error('lengths differ')
    const dest = 4 * row + abi.datagramDest
    found.push({
      endpoint: words[row + abi.datagramEndpoint / 4]!,
      dest: Buffer.from(bytes.slice(dest, dest + (words[row + abi.datagramFamily / 4] === 6 ? 16 : 4))),
      destPort: words[row + abi.datagramDestPort / 4]!,
      payload,
    })
  }
  exports.tg_udp_release()
  return found
}

export function forget(rig: Rig, datagrams: readonly Datagram[]): void {
  for (const id of new Set(datagrams.map(one => one.endpoint))) rig.stack.exports.tg_udp_forget(id)
}

/** A datagram to the client of `endpoint`, by way of a landing slot; the packets. */
export function answer(
  t: ExecutionContext,
  rig: Rig,
  to: number,
  from: Uint8Array,
  port: number,
  payload: Buffer,
): Packet[] {
  const { abi, bytes, words, exports } = rig.stack
  bytes.set(from, abi.scratch)
  const landing = words[abi.landingTable / 4]!
  bytes.set(payload, landing)
  const family = from.length === 4 ? 4 : 6
  t.is(exports.tg_udp_send(to, family, abi.scratch, port, landing, payload.length), 0)
  return rig.flush()
}
