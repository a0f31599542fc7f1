/** Segments before their time, and windows of all sizes: bytes are exact, memory is bounded, and lwIP's assertions hold. */
import type { ExecutionContext } from 'ava'
import { Flag, type Packet } from '../helpers/packets.ts'
import type { Rig } from './rig.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern, stackTest, V4 } from './rig.ts'

const WINDOW = 1 << 20
/** TG_OUT_OF_ORDER_BUDGET */
const BUDGET = 32 << 20
/** TG_OUT_OF_ORDER_FLOW */
const FLOW_MEMORY = 2 << 20
const MSS = 1_460

type Piece = readonly [from: number, to: number, flags?: number]

/** Pieces of `data`, which begins at the client's next sequence; each is sent for itself. */
function sendPieces(client: Client, data: Buffer, pieces: readonly Piece[]): Packet[] {
  return pieces.flatMap(([from, to, flags = 0]) =>
    client.send(Flag.ack | flags, { seq: client.seq + from, payload: data.subarray(from, to) }),
  )
}

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

/** Fills the window up to `gap` bytes before its end, without anybody reading. */
function fill(client: Client, gap: number): void {
  client.rig.reading = false
  for (let left = WINDOW - gap; left > 0; ) {
    const part = Math.min(left, 60_000)
    client.data(pattern(part))
    left -= part
  }
}

for (const fin of [0, Flag.fin])
  for (const inSecond of [0, Flag.fin])
    forBoth(`out-of-order: nothing beyond the window is kept (FIN ${fin}, ${inSecond})`, {}, (t, rig, pair) => {
      const client = new Client(rig, pair).open()
      fill(client, 3_000)
      const data = pattern(70_000)
      // the first is kept whole by lwIP, which asserts later that it is not larger than the window
      sendPieces(client, data, [
        [2_000, 60_000, fin],
        [1_000, 3_000, inSecond],
        [2_500, 65_000, fin],
        [0, 60_000, inSecond],
        [0, 3_000, inSecond],
        [2_999, 3_000, fin],
      ])
      sendPieces(client, data, [
        [3_000, 3_001],
        [2_999, 3_001, fin],
        [0, 3_000],
      ])
      t.is(rig.counter('drop_memory'), 0)
      rig.reading = true
      rig.read(client.id)
      const got = rig.received(client.id).subarray(WINDOW - 3_000)
      t.true(got.length >= 2_999)
      t.true(got.equals(data.subarray(0, got.length)))
      client.send(Flag.rst, { seq: client.seq + got.length })
      client.send(Flag.rst, { seq: client.seq + got.length + 1 })
      rig.tell('release', client.id)
    })

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

/** What a kept segment takes beside its payload: TCP header, pbuf, and our own. */
const SEGMENT_MEMORY = 100

forBoth('out-of-order: one flow keeps a window of its stream at most', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const bytes = 60_000
  let sent = 0
  for (let at = 1; at < 2 * WINDOW; at += bytes, sent++)
    client.send(Flag.ack, { seq: client.seq + at, payload: pattern(bytes) })
  const held = rig.held().outOfOrderBytes!
  t.true(held > WINDOW - bytes, `${held}`)
  t.true(held <= WINDOW + sent * SEGMENT_MEMORY, `${held}`)
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
})

forBoth('out-of-order: one flow has 2 MiB of memory at most, however its segments overlap', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const data = pattern(60_000)
  // each cuts the one before it down to a byte, whose memory stays
  for (let at = 1; at <= 100; at++) client.send(Flag.ack, { seq: client.seq + at, payload: data.subarray(at) })
  const held = rig.held().outOfOrderBytes!
  t.true(held > FLOW_MEMORY - data.length - SEGMENT_MEMORY && held <= FLOW_MEMORY, `${held}`)
  t.true(rig.counter('drop_out_of_order') > 0)
  for (let at = 0; at < data.length; at = rig.received(client.id).length)
    client.send(Flag.ack, { seq: client.seq + at, payload: data.subarray(at) })
  t.true(rig.received(client.id).equals(data))
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
  t.is(rig.held().outOfOrderBytes, 0)
})

forBoth('out-of-order: one flow keeps 1,024 segments at most', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  for (let at = 1; at < 6_000; at += 2) client.send(Flag.ack, { seq: client.seq + at, payload: pattern(1) })
  t.true(rig.held().outOfOrderBytes! <= 1_024 * (1 + SEGMENT_MEMORY), `${rig.held().outOfOrderBytes}`)
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
})

stackTest(
  'out-of-order: 1,000 flows with gaps: memory is bounded, each goes on, and it is given back',
  { maxFlows: 1_001 },
  (t, rig) => {
    const count = 1_000
    const clients = Array.from({ length: count }, (_, at) => new Client(rig, V4, 10_000 + at).open())
    const data = pattern(64 * MSS)
    let most = 0
    for (const client of clients) {
      const segments = Array.from({ length: 63 }, (_, at) =>
        client.segment(Flag.ack, {
          seq: client.seq + (at + 1) * MSS,
          payload: data.subarray((at + 1) * MSS, (at + 2) * MSS),
        }),
      )
      const answers = rig.send(segments)
      t.is(answers.length, 63, 'each is answered, kept or not')
      most = Math.max(most, rig.held().outOfOrderBytes!)
    }
    t.true(most <= BUDGET && most > BUDGET / 2, `${most}`)
    const good = new Client(rig, V4, 9_999).open()
    good.data(pattern(100_000).subarray(0, 50_000))
    t.is(rig.received(good.id).length, 50_000)
    good.close()
    for (const client of clients) {
      while (rig.received(client.id).length < data.length) {
        const at = rig.received(client.id).length
        client.send(Flag.ack, { seq: client.seq + at, payload: data.subarray(at, at + 4 * MSS) })
      }
      t.true(rig.received(client.id).equals(data))
      rig.tell('abort', client.id)
      rig.tell('release', client.id)
    }
    t.is(rig.held().outOfOrderBytes, 0)
  },
)

stackTest(
  'out-of-order: at the bound of all a segment is dropped, counted, and answered',
  { maxFlows: 1_000 },
  (t, rig) => {
    const clients: Client[] = []
    // each flow may have a quarter of what is free, so the last bytes are taken by ever smaller segments
    for (const [bytes, count] of [
      [65_000, 520],
      [8_000, 40],
      [1_400, 40],
      [100, 100],
      [1, 200],
    ] as const) {
      for (let at = 0; at < count; at++) {
        const client = new Client(rig, V4, 10_000 + clients.length).open()
        clients.push(client)
        const [answer, ...more] = client.send(Flag.ack, { seq: client.seq + 1, payload: pattern(bytes) })
        t.deepEqual(more, [])
        t.is(answer?.tcp?.ack, client.seq)
        t.true(rig.held().outOfOrderBytes! <= BUDGET)
      }
      t.true(rig.held().outOfOrderBytes! <= BUDGET - 2 * bytes, `${bytes}: others have no room`)
    }
    t.true(rig.held().outOfOrderBytes! > BUDGET - 1_000, `${rig.held().outOfOrderBytes}`)
    t.true(rig.counter('drop_out_of_order') > 0)
    for (const client of clients) {
      client.data(Buffer.from('x'))
      t.is(rig.received(client.id)[0], 'x'.charCodeAt(0), 'what is in order is taken')
    }
    t.is(rig.held().outOfOrderBytes, 0)
    for (const client of clients) rig.tell('abort', client.id)
    for (const client of clients) rig.tell('release', client.id)
  },
)

// ---- the client's window ----

/** Takes what comes, acknowledges it with `window`, and lets time pass until `total` bytes are there or `ms` are over. */
function download(rig: Rig, client: Client, first: Packet[], total: number, window: number, ms: number): Buffer {
  const got: Buffer[] = []
  let length = 0
  let packets = first
  client.window = window
  for (const end = rig.now + ms; length < total && rig.now < end; ) {
    const { data, answers } = client.take(packets)
    got.push(data)
    length += data.length
    const again = packets.some(one => one.tcp!.payload.length > 0) && data.length === 0 ? client.send(Flag.ack) : []
    packets = [...answers, ...again]
    if (packets.length === 0) packets = rig.tick(40)
  }
  return Buffer.concat(got)
}

for (const window of [1, 2, 47, 100])
  forBoth(`window: of ${window}: the bytes come, in order, and nothing is killed`, {}, (t, rig, pair) => {
    const client = new Client(rig, pair)
    client.window = window
    client.open([2, 4, 0x05, 0xb4])
    const data = pattern(20 * window)
    const { out } = rig.write(client.id, data)
    t.true(download(rig, client, out, data.length, window, 600_000).equals(data))
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    client.window = 65_535
    client.close()
  })

forBoth('window: silly steps, a byte more each time, and back: the bytes are exact', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  client.open([2, 4, 0x05, 0xb4])
  const data = pattern(100_000)
  const got: Buffer[] = []
  let { out } = rig.write(client.id, data.subarray(0, 60_000))
  for (let round = 0; Buffer.concat(got).length < 60_000 && round < 20_000; round++) {
    client.window = [0, 1, 3_000, 2, 65_535, 7, 0, 1_459, 1_461][round % 9]!
    const { data: part, answers } = client.take(out)
    got.push(part)
    out = answers.length > 0 ? answers : client.send(Flag.ack)
    if (out.length === 0) out = rig.tick(40)
  }
  t.true(Buffer.concat(got).equals(data.subarray(0, 60_000)))
  client.window = 65_535
  client.close()
})

forBoth(
  'window: closed for ten minutes: probes go on, nothing is killed, and then the bytes come',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open([2, 4, 0x05, 0xb4])
    client.window = 0
    for (const byte of ['a', 'b']) client.data(Buffer.from(byte))
    const data = pattern(10_000)
    let { out } = rig.write(client.id, data)
    t.deepEqual(out, [])
    let probes = 0
    let longest = 0
    for (let last = rig.now; rig.now < 600_000; ) {
      out = rig.tick(40)
      for (const packet of out) {
        probes++
        longest = Math.max(longest, rig.now - last)
        last = rig.now
        t.true(packet.tcp!.payload.length <= 1)
      }
      if (out.length > 0) client.send(Flag.ack)
      t.true(rig.held().sendBytes! <= 128 << 10)
    }
    t.true(probes >= 30, `${probes} probes`)
    t.true(longest <= 60_000, `${longest} ms without a probe`)
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    client.window = 65_535
    out = client.send(Flag.ack)
    t.true(download(rig, client, out, data.length, 65_535, 30_000).equals(data))
    client.close()
  },
)

forBoth(
  'window: ours closed for minutes: a client’s probes are answered, its bytes neither lost nor doubled',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open(LINUX_OPTIONS)
    fill(client, 0)
    rig.tick(1_000)
    for (let minute = 0; minute < 5; minute++) {
      for (const [seq, payload] of [
        [client.seq - 1, pattern(0)], // Linux
        [client.seq, pattern(1)], // BSD
      ] as const) {
        const [answer, ...more] = client.send(Flag.ack, { seq, payload })
        t.deepEqual(more, [])
        t.is(answer?.tcp?.ack, client.seq)
        t.is(answer?.tcp?.window, 0)
      }
      rig.tick(60_000)
    }
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    rig.reading = true
    rig.read(client.id)
    rig.flush()
    client.data(Buffer.from('more'))
    t.is(rig.received(client.id).length, WINDOW + 4)
    t.is(rig.received(client.id).subarray(WINDOW).toString(), 'more')
    client.close()
  },
)

// ---- corrupted packets ----

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
