/** What waits out of order: no more than the window, the flow and all may have, and lwIP's assertions hold. */
import { Flag } from '../helpers/packets.ts'
import { fill, sendPieces, WINDOW } from './pieces.ts'
import { Client, forBoth, pattern, stackTest, V4 } from './rig.ts'

/** TG_OUT_OF_ORDER_BUDGET */
const BUDGET = 32 << 20
/** TG_OUT_OF_ORDER_FLOW */
const FLOW_MEMORY = 2 << 20
const MSS = 1_460
/** What a kept segment takes beside its payload: TCP header, pbuf, and our own. */
const SEGMENT_MEMORY = 100

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
