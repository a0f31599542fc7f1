/** What is lost on the way to a client is found, and sent again piece by piece. The round trip is 20 ms. */
import type { ExecutionContext } from 'ava'
import { Flag } from '../helpers/packets.ts'
import { type Fate, Line, type LineOptions, type Piece } from './line.ts'
import { Client, LINUX_OPTIONS, pattern, type Rig, stackTest } from './rig.ts'

const MSS = 1460
/** A window of many segments, as after some round trips of a stream. */
function warm(line: Line, bytes = 400_000): void {
  line.send(pattern(bytes), 2000)
  line.wait(30)
  line.forget()
}

/** The first copy of these pieces, counted from what is sent next on, is lost. */
const losing =
  (...numbers: number[]) =>
  (line: Line): Fate => {
    const from = line.receivedBytes
    return piece => {
      const number = (line.offset(piece.seq) - from) / MSS
      return piece.copy === 1 && numbers.includes(number) ? [] : [10]
    }
  }

const again = (line: Line): Piece[] => line.sent.filter(({ copy }) => copy > 1)

function finish(t: ExecutionContext, line: Line, expected: Buffer): void {
  t.true(Buffer.concat(line.received).equals(expected), 'the bytes are those that were sent')
  line.client.close()
}

interface Loss {
  /** Of what is sent over a line that is warm. */
  readonly fate: (line: Line) => Fate
  readonly pieces: number
  readonly mostMs: number
  /** The test has failed by then. */
  readonly limitMs: number
  readonly options?: LineOptions
}

/** All bytes arrive in time without a time-out of the stack; the line on which they did. */
function recovers(t: ExecutionContext, rig: Rig, { fate, pieces, mostMs, limitMs, options }: Loss): Line {
  const line = Line.open(rig, options)
  warm(line)
  line.fate = fate(line)
  const data = pattern(pieces * MSS)
  const took = line.send(data, limitMs)
  t.is(rig.counter('tcp_timeouts'), 0)
  t.true(took <= mostMs, `${took} ms`)
  finish(t, line, Buffer.concat([pattern(400_000), data]))
  return line
}

for (const vnetHdr of [false, true]) {
  const mode = vnetHdr ? 'offload' : 'plain'

  stackTest(
    `recovery: one lost piece is sent again, and nothing else, within two round trips (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const line = recovers(t, rig, { fate: losing(3), pieces: 40, mostMs: 45, limitMs: 200 })
      t.deepEqual(
        again(line).map(({ payload }) => payload.length),
        [MSS],
      )
      t.is(rig.counter('tcp_retransmitted_bytes'), MSS)
    },
  )

  stackTest(
    `recovery: every fifth piece of a super-segment is lost, and only those come again (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const fate = losing(1, 6, 11, 16, 21, 26, 31)
      const line = recovers(t, rig, { fate, pieces: 40, mostMs: 65, limitMs: 200 })
      t.is(line.resentBytes, 7 * MSS)
    },
  )

  stackTest(
    `recovery: a retransmission that is lost too is sent once more, without a time-out (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const fate = (line: Line): Fate => {
        const from = line.receivedBytes
        return piece => (line.offset(piece.seq) === from + 2 * MSS && piece.copy <= 2 ? [] : [10])
      }
      const line = recovers(t, rig, { fate, pieces: 2000, mostMs: 250, limitMs: 1000 })
      t.is(line.resentBytes, 2 * MSS)
    },
  )

  stackTest(
    `recovery: the lost tail of a burst is asked for by a probe, long before the time-out (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const mostMs = 2 * 20 + 10 + 40 + 2 * 20 + 20
      const line = recovers(t, rig, { fate: losing(18, 19), pieces: 20, mostMs, limitMs: 400 })
      t.true(line.resentBytes <= 3 * MSS)
    },
  )

  stackTest(`recovery: a lost FIN is sent again, with the last bytes before it (${mode})`, { vnetHdr }, (t, rig) => {
    const line = Line.open(rig)
    warm(line)
    line.fate = piece => (piece.copy === 1 && (piece.fin || line.offset(piece.seq) >= 400_000 + 9 * MSS) ? [] : [10])
    const data = pattern(10 * MSS)
    const took = line.send(data, 600, true)
    t.true(line.ended)
    t.is(rig.counter('tcp_timeouts'), 0)
    t.true(took <= 300, `${took} ms`)
    t.true(Buffer.concat(line.received).equals(Buffer.concat([pattern(400_000), data])))
    line.client.data(Buffer.alloc(0), Flag.ack | Flag.fin)
    t.is(rig.error(line.client.id), rig.stack.abi.errorNone)
    rig.tell('release', line.client.id)
  })

  stackTest(
    `recovery: pieces that overtake each other a little are not sent again once that was seen (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const line = Line.open(rig)
      warm(line)
      let count = 0
      line.fate = () => [++count % 20 === 0 ? 13 : 10]
      line.send(pattern(200 * MSS), 2000)
      const learned = rig.counter('tcp_retransmitted')
      line.send(pattern(1000 * MSS), 3000)
      t.is(rig.counter('tcp_retransmitted'), learned)
      t.true(learned <= 10, `${learned} needless ones before`)
      line.client.close()
    },
  )

  stackTest(
    `recovery: a client without SACK is served by its duplicate acknowledgements (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const options = { sack: false }
      const line = recovers(t, rig, { fate: losing(3, 9), pieces: 60, mostMs: 120, limitMs: 400, options })
      t.is(line.resentBytes, 2 * MSS)
    },
  )

  stackTest(
    `recovery: everything is lost for two seconds, the distance of time-outs doubles, and it goes on (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const line = Line.open(rig)
      warm(line)
      const deadline = line.now + 2000
      line.fate = () => (line.now < deadline ? [] : [10])
      const data = pattern(100 * MSS)
      const took = line.send(data, 6000)
      const first = line.sent.filter(({ seq }) => line.offset(seq) === 400_000).map(({ sentAt }) => sentAt)
      const gaps = first.slice(1).map((at, index) => at - first[index]!)
      t.true(first.length >= 4 && first.length <= 6, `${first.length} times`)
      for (let at = 2; at < gaps.length; at++) t.true(gaps[at]! >= 1.6 * gaps[at - 1]!, `gaps ${gaps.join(' ')}`)
      t.true(took <= 4200, `${took} ms`)
      t.true(line.resentBytes <= 2 * line.bytes(line.lost), `${line.resentBytes} for ${line.bytes(line.lost)}`)
      finish(t, line, Buffer.concat([pattern(400_000), data]))
    },
  )

  stackTest(`recovery: a time-out that came too early takes back what it did (${mode})`, { vnetHdr }, (t, rig) => {
    const line = Line.open(rig)
    warm(line)
    const late = line.now + 400
    line.fate = () => [Math.max(10, late - line.now)]
    const data = pattern(300 * MSS)
    line.send(data, 2000)
    t.true(rig.counter('tcp_timeouts') >= 1)
    t.true(line.resentBytes <= 6 * MSS, `${line.resentBytes / MSS} pieces of 300 again`)
    finish(t, line, Buffer.concat([pattern(400_000), data]))
  })

  stackTest(
    `recovery: a client that is gone is given up after ${12} time-outs, and nothing is left (${mode})`,
    { vnetHdr },
    (t, rig) => {
      const client = new Client(rig).open()
      rig.write(client.id, pattern(20 * MSS))
      const out = rig.tick(400_000).filter(({ tcp }) => tcp!.payload.length > 0)
      t.true(rig.has(client.id, rig.stack.abi.eventGone))
      t.is(rig.error(client.id), rig.stack.abi.errorTimeout)
      t.true(out.length <= 14, `${out.length} packets`)
      t.is(rig.counter('tcp_timeouts'), 12)
      rig.tell('release', client.id)
    },
  )
}

stackTest(
  'recovery: a thousand holes are more than is kept of a flow, and all bytes arrive',
  { vnetHdr: true },
  (t, rig) => {
    const client = new Client(rig)
    client.open([2, 4, 0, 100, 4, 2, 1, 3, 3, 7]) // an MSS of 100
    const line = new Line(rig, client, { mss: 100 })
    line.send(pattern(2_000_000), 4000)
    let count = 0
    line.fate = ({ copy }) => (copy === 1 && ++count % 2 === 0 ? [] : [10])
    const data = pattern(500_000)
    line.send(data, 20_000)
    t.true(Buffer.concat(line.received).equals(Buffer.concat([pattern(2_000_000), data])))
    client.close()
  },
)

stackTest('recovery: pieces of odd lengths are summed right where they begin at odd places', {}, (t, rig) => {
  const client = new Client(rig).open()
  client.window = 0
  client.data(pattern(1))
  client.data(pattern(1))
  let written = 0
  for (const bytes of [1, 7, 2911, 3, 5001]) written += rig.write(client.id, pattern(bytes, written)).written
  client.window = 65_535
  const got: Buffer[] = []
  for (let next = client.send(Flag.ack), rounds = 0; rounds < 50; rounds++) {
    const taken = client.take(next)
    got.push(taken.data)
    next = taken.answers.length > 0 ? taken.answers : rig.tick(40)
  }
  t.true(Buffer.concat(got).equals(pattern(written)))
  client.close()
})

stackTest('recovery: a lost flight costs one time-out where the handshake told no round trip', {}, (t, rig) => {
  const client = new Client(rig)
  client.knock()
  const [answer] = rig.tell('accept', client.id)
  rig.tick(600)
  client.send(Flag.syn, { ack: 0, options: LINUX_OPTIONS, seq: client.isn }) // it asks again: which SYN-ACK will it answer?
  client.seq = client.isn + 1
  client.ack = (answer!.tcp!.seq + 1) >>> 0
  client.send(Flag.ack)
  const line = new Line(rig, client)
  line.fate = ({ copy }) => (copy === 1 ? [] : [10])
  const data = pattern(8 * MSS)
  const took = line.send(data, 20_000)
  t.is(rig.counter('tcp_timeouts'), 1)
  t.true(took <= 1400, `${took} ms`)
  finish(t, line, data)
})

stackTest('recovery: a lost flight costs two time-outs at most where the path has become shorter', {}, (t, rig) => {
  const line = Line.open(rig, { rttMs: 200 })
  line.send(pattern(100_000), 5000)
  line.wait(300)
  line.fate = ({ copy }) => (copy === 1 ? [] : [1])
  const data = pattern(8 * MSS)
  const took = line.send(data, 20_000)
  t.true(rig.counter('tcp_timeouts') <= 2, `${rig.counter('tcp_timeouts')} time-outs`)
  t.true(took <= 2000, `${took} ms`)
  finish(t, line, Buffer.concat([pattern(100_000), data]))
})

stackTest('recovery: the shortest round trip counts for ten seconds, not a mean of late', {}, (t, rig) => {
  const line = Line.open(rig)
  const start = line.now
  for (let turn = 0; line.now - start < 12_000; turn++) {
    line.fate = () => [turn % 8 === 0 && line.now - start < 9000 ? 10 : 190]
    line.send(pattern(2 * MSS), 2000)
  }
  line.wait(300)
  const before = rig.counter('tcp_timeouts')
  line.fate = ({ copy }) => (copy === 1 ? [] : [10])
  line.send(pattern(8 * MSS), 20_000)
  t.is(rig.counter('tcp_timeouts'), before + 1, 'no time-out is undone that was right')
  line.client.close()
})
