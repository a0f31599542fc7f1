/** Pieces of a client's stream in any order, and a window that is full. */
import { Flag, type Packet } from '../helpers/packets.ts'
import { type Client, pattern } from './rig.ts'

/** What a flow may have in the stack of bytes that nobody has read. */
export const WINDOW = 1 << 20

export type Piece = readonly [from: number, to: number, flags?: number]

/** Pieces of `data`, which begins at the client's next sequence; each is sent for itself. */
export function sendPieces(client: Client, data: Buffer, pieces: readonly Piece[]): Packet[] {
  return pieces.flatMap(([from, to, flags = 0]) =>
    client.send(Flag.ack | flags, { seq: client.seq + from, payload: data.subarray(from, to) }),
  )
}

/** Fills the window up to `gap` bytes before its end, without anybody reading. */
export function fill(client: Client, gap: number): void {
  client.rig.reading = false
  for (let left = WINDOW - gap; left > 0; ) {
    const part = Math.min(left, 60_000)
    client.data(pattern(part))
    left -= part
  }
}
