/**
 * Streams to a client over lines that lose, hold back and double packets at random, in virtual time. Whatever the line does,
 * the bytes are exact, all is done in a bounded time, little is sent in vain, and nothing stays behind in the stack.
 */

import { Flag } from '../helpers/packets.ts'
import { random } from '../helpers/random.ts'
import { type Fate, Line } from './line.ts'
import { pattern, stackTest } from './rig.ts'

interface Weather {
  readonly name: string
  readonly loss: number
  readonly reorder?: number
  readonly duplicate?: number
  /** Of the way back. */
  readonly ackLoss?: number
  /** Packets that are lost in a row. */
  readonly burst?: number
  /** Bytes a second, in virtual time, that must be reached. */
  readonly pace: number
}

const BYTES = 1_000_000
const WEATHER: readonly Weather[] = [
  { name: '1 % lost', loss: 0.01, pace: 3_000_000 },
  { name: '5 % lost, 5 % late, 2 % twice', loss: 0.05, reorder: 0.05, duplicate: 0.02, pace: 1_000_000 },
  { name: '20 % lost', loss: 0.2, pace: 40_000 },
  { name: '1 % lost in rows of ten', loss: 0.01, burst: 10, pace: 300_000 },
  { name: '5 % lost both ways', loss: 0.05, ackLoss: 0.05, pace: 1_000_000 },
  { name: '20 % late, 10 % twice', loss: 0, reorder: 0.2, duplicate: 0.1, pace: 3_000_000 },
]
/** Needless retransmissions until reordering is known, and probes. */
const SPARE_BYTES = 40 * 1460

function fateOf({ loss, reorder = 0, duplicate = 0, burst = 1 }: Weather, draw: () => number): Fate {
  let row = 0
  return () => {
    if (row === 0 && draw() < loss) row = burst
    if (row > 0) {
      row--
      return []
    }
    const late = () => (draw() < reorder ? 12 : 10)
    return draw() < duplicate ? [late(), late()] : [late()]
  }
}

for (const [at, weather] of WEATHER.entries())
  for (const vnetHdr of [false, true])
    for (const seed of [1, 2, 3])
      stackTest(
        `loss-simulation: ${weather.name}: exact, in time, little in vain (${vnetHdr ? 'offload' : 'plain'}, seed ${seed})`,
        { vnetHdr },
        (t, rig) => {
          const draw = random(100 * at + seed)
          const losesAck = () => draw() < (weather.ackLoss ?? 0)
          const line = Line.open(rig, { fate: fateOf(weather, draw), losesAck })
          const { client } = line
          const data = pattern(BYTES)
          const took = line.send(data, 60_000, true)
          t.true(Buffer.concat(line.received).equals(data))
          const lost = line.bytes(line.lost)
          const resent = line.resentBytes
          t.true(resent <= 2 * lost + SPARE_BYTES, `${resent} bytes resent for ${lost} lost`)
          t.true(took <= (BYTES / weather.pace) * 1000, `${Math.round(took)} ms`)
          line.fate = () => [10]
          for (let times = 0; times < 5; times++) line.acknowledge() // they may be lost as well
          line.wait(100)
          client.data(Buffer.alloc(0), Flag.ack | Flag.fin)
          rig.tell('release', client.id)
        },
      )
