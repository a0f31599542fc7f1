/** Segments before their time, twice, over each other or wrong: the bytes are exact. */
import type { ExecutionContext } from 'ava'
import { Flag } from '../helpers/packets.ts'
import { type Piece, sendPieces } from './pieces.ts'
import { Client, forBoth, pattern, type Rig, stackTest } from './rig.ts'

const MSS = 1_460

/** In an order that is the same each time. */
function shuffled<T>(all: readonly T[], seed: number): T[] {
  let state = seed
  return all
    .map(one => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return { one, key: state }
    })
    .sort((a, b) => a.key - b.key)
    .map(({ one }) => one)
}

const ones = (count: number): Piece[] => Array.from({ length: count }, (_, at) => [at, at + 1])

function gotExactly(t: ExecutionContext, rig: Rig, client: Client, data: Buffer): void {
  t.is(rig.received(client.id).length, data.length)
  t.true(rig.received(client.id).equals(data))
  t.is(rig.held().outOfOrderBytes, 0)
  client.seq = (client.seq + data.length) >>> 0
}

for (const [name, pieces] of [
  ['300 segments of one byte, reversed', ones(300).reverse()],
  ['300 segments of one byte, shuffled', shuffled(ones(300), 1)],
  ['300 segments of one byte, each three times', shuffled([...ones(300), ...ones(300), ...ones(300)], 2)],
  [
    'every piece laid over two neighbours',
    shuffled(
      ones(100).map(([at]): Piece => [Math.max(0, 3 * at - 3), Math.min(300, 3 * at + 6)]),
      3,
    ),
  ],
  [
    'the second half, then all of it',
    [
      [150, 300],
      [0, 300],
    ],
  ],
  [
    'inner pieces, then one over all',
    [
      [10, 20],
      [30, 40],
      [35, 60],
      [100, 110],
      [5, 200],
      [0, 300],
    ],
  ],
  [
    'the same start, longer each time',
    [
      [10, 20],
      [10, 40],
      [10, 300],
      [5, 15],
      [0, 10],
    ],
  ],
] as readonly [string, Piece[]][])
  forBoth(`out-of-order: ${name}: the bytes are exact`, {}, (t, rig, pair) => {
    const client = new Client(rig, pair).open()
    const data = pattern(300)
    // what overlaps may be dropped, as a client must expect: it sends again what is not acknowledged
    sendPieces(client, data, pieces)
    for (let at = rig.received(client.id).length; at < 300; at = rig.received(client.id).length)
      sendPieces(client, data, [[at, 300]])
    gotExactly(t, rig, client, data)
    client.close()
  })

forBoth(
  'out-of-order: FIN before its data, twice and with other lengths: the stream ends once, where it should',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open()
    const data = pattern(5_000)
    sendPieces(client, data, [
      [4_000, 5_000, Flag.fin],
      [5_000, 5_000, Flag.fin],
      [3_000, 4_000],
      [1_000, 3_000],
      [2_000, 5_000, Flag.fin],
    ])
    t.false(rig.has(client.id, rig.stack.abi.eventFin))
    sendPieces(client, data, [[0, 1_000]])
    for (let at = rig.received(client.id).length; at < 5_000; at = rig.received(client.id).length)
      sendPieces(client, data, [[at, 5_000, Flag.fin]])
    t.true(rig.has(client.id, rig.stack.abi.eventFin))
    gotExactly(t, rig, client, data)
    client.seq++
    client.take(rig.tell('finish', client.id))
    rig.tell('release', client.id)
  },
)

forBoth('out-of-order: a FIN that lies inside other data does no harm', {}, (t, rig, pair) => {
  for (let round = 0; round < 200; round++) {
    const client = new Client(rig, pair, 41_000 + round).open()
    const data = pattern(300)
    const cuts: Piece[] = Array.from({ length: 12 }, (_, at) => {
      const from = (round * 31 + at * 67) % 299
      const to = Math.min(300, from + 1 + ((round * 7 + at * 13) % 120))
      return [from, to, (round + at) % 3 === 0 ? Flag.fin : 0]
    })
    sendPieces(client, data, [...cuts, [0, 150], [100, 300, Flag.fin]])
    const got = rig.received(client.id)
    t.true(got.equals(data.subarray(0, got.length)))
    rig.tell('abort', client.id)
    rig.tell('release', client.id)
  }
})

stackTest('checksum: 0.5 % of the packets of an upload are wrong, and the bytes are exact', {}, (t, rig) => {
  const client = new Client(rig).open()
  const data = pattern(2_000_000)
  let state = 4_242
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const start = client.seq
  let corrupted = 0
  // go back to what is acknowledged, as a client without SACK does
  for (let at = 0; at < data.length; at = rig.received(client.id).length) {
    const batch: Buffer[] = []
    for (let next = at; next < Math.min(data.length, at + 20 * MSS); next += MSS) {
      const segment = client.segment(Flag.ack, { seq: start + next, payload: data.subarray(next, next + MSS) })
      if (random(200) === 0) {
        const bit = random(segment.length * 8)
        segment[bit >> 3]! ^= 1 << (bit & 7)
        corrupted++
      }
      batch.push(segment)
    }
    rig.send(batch)
  }
  t.true(corrupted >= 5, `${corrupted} corrupted`)
  const counted = ['drop_checksum', 'drop_malformed', 'drop_protocol', 'drop_address'].map(name => rig.counter(name))
  t.is(
    counted.reduce((sum, one) => sum + one),
    corrupted,
  )
  t.true(rig.received(client.id).equals(data))
  client.seq = (start + data.length) >>> 0
  client.close()
})
