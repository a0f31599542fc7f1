import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../src/endpoint.ts'
import { addon } from '../../src/io/addon.ts'
import type { Association, AssociationListener, DatagramFields, DialError } from '../../src/upstream/dialer.ts'
import { type Connection, type Step, startBadSocks } from '../helpers/bad-socks.ts'
import { closedPort, udpEnd, until } from '../helpers/sockets.ts'
import { filler, scriptOf } from '../helpers/socks-faults.ts'
import { type Frame, frame, framesIn } from '../helpers/udp-in-tcp.ts'
import { CLIENT, DATA, open, openUrl, type Rig, SCRATCH, silent } from './rig.ts'

/** Places of the memory of the rig: what is sent, the slot of what comes, and the rows that tell of it. */
const SENT = DATA
const SLOT = 131_072
const SLOT_BYTES = 65_536
const FOUND = 262_144
const OTHER = 524_288
const EAGAIN = -11
const TRUNCATED = 0xffff_ffff
/** For what comes in many pieces, on a machine that is busy. */
const PATIENCE_MS = 30_000

const ASKED: readonly Step[] = ['greeting', { send: [5, 0] }, 'request']
const STANDS: readonly Step[] = [...ASKED, { send: [5, 0, 0, 1, 0, 0, 0, 0, 0, 0] }]

interface Heard {
  made: Association[]
  failed: DialError[]
  datagrams: number
  /** At each event of datagrams. */
  onDatagrams?: () => void
}

function associate(t: ExecutionContext, { dialer }: Rig, name?: string) {
  const heard: Heard = { made: [], failed: [], datagrams: 0 }
  const listener: AssociationListener = {
    onAssociated: association => heard.made.push(association),
    onAssociationFailed: error => heard.failed.push(error),
    onDatagrams() {
      heard.datagrams++
      heard.onDatagrams?.()
    },
  }
  const associating = dialer.associate(CLIENT, listener, name)
  t.teardown(() => (heard.made[0] ?? associating).close())
  return heard
}

async function stand(t: ExecutionContext, script: readonly Step[], name?: string) {
  const bad = await startBadSocks(script)
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, silent, {}, 'tcp')
  const heard = associate(t, rig, name)
  await until(() => heard.made.length === 1, 'the association')
  return { bad, rig, heard, association: heard.made[0]! }
}

/** Sends a datagram to each, in one call; what send() says of them. */
function send({ bytes, words }: Rig, association: Association, datagrams: readonly (readonly [string, Uint8Array])[]) {
  const [addresses, messages, iovecs] = [SENT, SENT + 64, SENT + 32_768]
  let at = SENT + 49_152
  datagrams.forEach(([host, payload], row) => {
    const address = parseAddress(host)!
    bytes.set(address, addresses)
    const header = association.writeHeader(at, addresses, address.length === 4 ? 4 : 6, 53, payload.length)
    bytes.set(payload, at + 32)
    words.set([2 * row, 2, 0], messages / 4 + 3 * row)
    words.set([at, header, at + 32, payload.length], iovecs / 4 + 4 * row)
    at += 32 + payload.length
  })
  return association.send(messages, iovecs, datagrams.length)
}

/** The payloads, with the source of each; a string for what is told of otherwise. */
function receive({ bytes, words }: Rig, association: Association, slotBytes = SLOT_BYTES, count = 1) {
  words.set([SLOT, 0], SCRATCH / 4 + 8)
  const rows = association.receive(SCRATCH + 32, count, slotBytes, FOUND)
  const out: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  return Array.from({ length: Math.max(0, rows) }, (_, row): string => {
    const [at, length] = [words[FOUND / 4 + 2 * row]!, words[FOUND / 4 + 2 * row + 1]!]
    if (length === TRUNCATED) return 'too large'
    if (!association.parseDatagram(at, length, out)) return 'dropped'
    const source = bytes.subarray(out.sourceAt, out.sourceAt + (out.family === 4 ? 4 : 16))
    const payload = Buffer.from(bytes.subarray(out.payloadAt, out.payloadAt + out.payloadBytes))
    return `${Buffer.from(source).toString('hex')}:${out.port} ${payload.length > 40 ? payload.length : payload}`
  })
}

const view = ({ host, port, payload }: Frame) => [host, port, payload.toString()]

/** As if so many milliseconds had passed. */
function skip(t: ExecutionContext, ms: number): void {
  const now = performance.now.bind(performance)
  performance.now = () => now() + ms
  t.teardown(() => {
    performance.now = now
  })
}

// serial: their clock is that of all
test.serial('stream-association: a server that has gone deaf is left after 10 s, and not one that answers', async t => {
  const { rig, heard, association } = await stand(t, [...STANDS, 'silence'])
  const one = [['203.0.113.7', Buffer.from('one')]] as const
  for (let count = 0; count < 20; count++) {
    t.is(send(rig, association, one), 1)
    t.deepEqual(receive(rig, association), [])
  }
  skip(t, 9_000)
  t.is(send(rig, association, one), 1)
  await new Promise(resolve => setImmediate(resolve))
  t.deepEqual(heard.failed, [])
  skip(t, 1_100)
  t.is(send(rig, association, one), 1)
  t.deepEqual(heard.failed, [], 'not within send')
  await until(() => heard.failed.length === 1, 'the end')
  t.is(heard.failed[0]!.failure, 'upstream-down')
  t.is(rig.poller.used, 0)
})

test.serial(
  'stream-association: three datagrams in ten seconds and an answer between others are no reason',
  async t => {
    const { rig, heard, association } = await stand(t, scriptOf(['udp in tcp', 'echo']))
    const one = [['203.0.113.7', Buffer.from('one')]] as const
    for (let count = 0; count < 4; count++) {
      t.is(send(rig, association, one), 1)
      await until(() => receive(rig, association).length === 1, 'the answer')
      skip(t, 20_000)
    }
    t.is(send(rig, association, one), 1)
    skip(t, 20_000)
    await until(() => receive(rig, association).length === 1, 'the answer')
    t.deepEqual(heard.failed, [])
  },
)

test('stream-association: the request is command 5, and each datagram a frame behind it', async t => {
  const { bad, rig, association } = await stand(t, [...STANDS, 'silence'])
  const sent = send(rig, association, [
    ['203.0.113.7', Buffer.from('one')],
    ['2001:db8::7', Buffer.from('two')],
    ['203.0.113.8', Buffer.from('three')],
  ])
  t.is(sent, 3)
  await until(() => bad.received[0]!.length >= 3 + 10 + 13 + 25 + 15, 'the frames')
  t.deepEqual([...bad.received[0]!.subarray(3, 13)], [5, 5, 0, 1, 0, 0, 0, 0, 0, 0])
  t.deepEqual([...bad.received[0]!.subarray(13, 26)], [0, 3, 10, 1, 203, 0, 113, 7, 0, 53, ...Buffer.from('one')])
  t.deepEqual(framesIn(Buffer.from(bad.received[0]!.subarray(13))).frames.map(view), [
    ['203.0.113.7', 53, 'one'],
    ['20010db8000000000000000000000007', 53, 'two'],
    ['203.0.113.8', 53, 'three'],
  ])
})

test('stream-association: what makes the server deaf is not sent: empty payloads, and more than it has room for', async t => {
  const { rig, association } = await stand(t, [...STANDS, 'silence'])
  t.is(association.writeHeader(SENT, SENT, 4, 53, 0), 0)
  for (const [family, most] of [
    [4, 1493],
    [6, 1481],
  ] as const)
    t.is(association.writeHeader(SENT + 64, SENT, family, 53, most) + most, association.maxBytes)
  t.is(rig.poller.used, 1, 'no socket but the connection')
})

test('stream-association: towards a name each frame has it, and who answers may be called so', async t => {
  const answer = Buffer.from([0, 1, 9, 3, 2, ...Buffer.from('ab'), 0, 53, 33])
  const { rig, heard, association } = await stand(t, [...STANDS, { send: answer }, 'silence'], 'a.test')
  t.is(association.writeHeader(SENT, SENT + 64, 4, 443, 258), 13)
  t.deepEqual([...rig.bytes.subarray(SENT, SENT + 13)], [1, 2, 13, 3, 6, ...Buffer.from('a.test'), 1, 0xbb])
  await until(() => heard.datagrams > 0, 'the answer')
  t.regex(receive(rig, association)[0]!, /:53 !$/)
})

test('stream-association: a name that no frame can hold carries nothing', async t => {
  const { association } = await stand(t, [...STANDS, 'silence'], 'x'.repeat(249))
  t.is(association.writeHeader(SENT, SENT + 512, 4, 443, 1), 0)
})

const ONE = frame('203.0.113.7', 53, Buffer.from('one'))
const TWO = frame('2001:db8::7', 54, Buffer.from('two'))
const TOLD = ['cb007107:53 one', '20010db8000000000000000000000007:54 two']

for (const piece of [1, 2, 3, 4, 9, 11, 13, 14, 100])
  test(`stream-association: frames that come ${piece} bytes at a time are told whole`, async t => {
    const { rig, heard, association } = await stand(t, [
      ...STANDS,
      { send: Buffer.concat([ONE, TWO, ONE]), piece },
      'silence',
    ])
    const got: string[] = []
    await until(
      () => {
        if (heard.datagrams > 0) got.push(...receive(rig, association))
        return got.length >= 3
      },
      'the datagrams',
      PATIENCE_MS,
    )
    t.deepEqual(got, [...TOLD, TOLD[0]])
  })

test('stream-association: frames that come with the reply are told', async t => {
  const [reply] = STANDS.slice(-1) as [{ send: number[] }]
  const { rig, heard, association } = await stand(t, [
    ...ASKED,
    { send: Buffer.concat([Uint8Array.from(reply.send), ONE, TWO.subarray(0, 7)]) },
    { waitMs: 30 },
    { send: TWO.subarray(7) },
    'silence',
  ])
  await until(() => heard.datagrams > 0, 'the event')
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) >= 2, 'the datagrams')
  t.deepEqual(got, TOLD)
})

test('stream-association: more frames than there are rows: the rest is told by the next calls, and of an event', async t => {
  const all = Buffer.concat(Array.from({ length: 200 }, () => ONE))
  const { rig, heard, association } = await stand(t, [...STANDS, { send: all }, 'silence'])
  await until(() => heard.datagrams > 0, 'the event')
  const counts: number[] = []
  await until(() => {
    const got = receive(rig, association)
    t.true(got.every(told => told === TOLD[0]))
    counts.push(got.length)
    return counts.reduce((sum, count) => sum + count) === 200
  }, 'all of them')
  t.is(Math.max(...counts), 64)
})

test('stream-association: of what does not fit its slot nothing is told but that, and the next frame is found', async t => {
  const large = frame('203.0.113.7', 53, filler(20_000))
  const { rig, association } = await stand(t, [
    ...STANDS,
    { send: Buffer.concat([ONE, large, TWO, large]), piece: 3_000 },
    { send: ONE },
    'silence',
  ])
  const got: string[] = []
  await until(() => got.push(...receive(rig, association, 4_096)) >= 5, 'the datagrams', PATIENCE_MS)
  t.deepEqual(got, [TOLD[0], 'too large', TOLD[1], 'too large', TOLD[0]])
})

/** Receives as a flow does: by events alone, each time until there are fewer than asked for. */
function receiveByEvents(rig: Rig, heard: Heard, slotBytes: number): string[] {
  const got: string[] = []
  const most = 32
  heard.onDatagrams = () => {
    for (let rows = most; rows >= most && heard.failed.length === 0; ) {
      const more = receive(rig, heard.made[0]!, slotBytes, most)
      rows = more.length
      got.push(...more)
    }
  }
  heard.onDatagrams()
  return got
}

test('stream-association: whoever reads by events misses nothing, and nothing is written behind the slot', async t => {
  const payload = filler(900)
  const all = Buffer.concat(Array.from({ length: 100 }, () => frame('203.0.113.7', 53, payload)))
  const { rig, heard } = await stand(t, [...STANDS, { send: all }, 'silence'])
  const got = receiveByEvents(rig, heard, 8_192)
  await until(() => got.length === 100, 'all of them')
  t.true(got.every(told => told === 'cb007107:53 900'))
  t.true(rig.bytes.subarray(SLOT + 8_192, SLOT + 20_000).every(byte => byte === 0))
})

test('stream-association: an end that comes with datagrams, in one event, is not missed', async t => {
  const last = ({ socket }: Connection) => void socket.end(ONE)
  const { rig, heard } = await stand(t, [...STANDS, last])
  await until(() => heard.datagrams > 0, 'the event')
  const got = receiveByEvents(rig, heard, SLOT_BYTES)
  await until(() => heard.failed.length === 1, 'the end')
  t.deepEqual(got, [TOLD[0]])
})

test('stream-association: more datagrams than a call can take are left to the next', async t => {
  const { bad, rig, association } = await stand(t, [...STANDS, 'silence'])
  const many = Array.from({ length: 300 }, () => ['203.0.113.7', Buffer.from('one')] as const)
  const taken = send(rig, association, many)
  t.true(taken > 200 && taken < 300, `${taken}`)
  t.is(send(rig, association, many.slice(taken)), 300 - taken)
  await until(() => bad.received[0]!.length >= 13 + 300 * 13, 'the frames')
  t.is(framesIn(Buffer.from(bad.received[0]!.subarray(13))).frames.length, 300)
})

test('stream-association: wherever a write ends, the next one begins there', async t => {
  const { bad, rig, association } = await stand(t, [...STANDS, 'silence'])
  const { io } = rig.poller
  const writev = io.writev.bind(io)
  let most = 0
  // as a socket that has room for `most` bytes
  io.writev = (fd, iovecs, count) => {
    const [to, from] = [OTHER / 4, iovecs / 4]
    for (let row = 0, left = most; row < 2 * count; left -= rig.words[to + row + 1]!, row += 2)
      rig.words.set([rig.words[from + row]!, Math.min(rig.words[from + row + 1]!, left)], to + row)
    return most === 0 ? EAGAIN : writev(fd, OTHER, count)
  }
  const three = ['first', 'second', 'third'].map(text => ['203.0.113.7', Buffer.from(text)] as const)
  let frames = 0
  for (let first = 1; first <= 46; first++) {
    most = first
    const taken = send(rig, association, three)
    most = 0
    t.is(send(rig, association, three), EAGAIN)
    most = 1_000
    t.is(send(rig, association, three), 3)
    frames += taken + 3
  }
  await until(() => framesIn(Buffer.from(bad.received[0]!.subarray(13))).frames.length === frames, 'all frames')
  const texts = framesIn(Buffer.from(bad.received[0]!.subarray(13))).frames.map(({ payload }) => payload.toString())
  t.deepEqual([...new Set(texts)], ['first', 'second', 'third'])
})

test('stream-association: a datagram that the server has cut, perhaps, is dropped, and so is one from a name', async t => {
  const name = Buffer.from([0, 1, 9, 3, 2, ...Buffer.from('ab'), 0, 53, 7])
  const { rig, association } = await stand(t, [
    ...STANDS,
    {
      send: Buffer.concat([frame('203.0.113.7', 1, filler(1_499)), frame('203.0.113.7', 2, filler(1_500)), name, ONE]),
    },
    'silence',
  ])
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) >= 4, 'the datagrams')
  t.deepEqual(got, ['cb007107:1 1499', 'dropped', 'dropped', TOLD[0]])
})

test('stream-association: a proxy that reads nothing: what has no room is lost, and what is taken arrives whole', async t => {
  let come = Buffer.alloc(0)
  let connection: Connection | undefined
  const hold = (of: Connection) => {
    connection = of
    of.socket.removeAllListeners('data').on('data', chunk => {
      come = Buffer.concat([come, chunk])
    })
    of.socket.pause()
  }
  const { rig, association } = await stand(t, [...STANDS, hold, 'silence'])
  await until(() => connection !== undefined, 'the proxy')
  const payloads = Array.from({ length: 7 }, (_, at) => filler(900 + at))
  const datagrams = payloads.map(payload => ['203.0.113.7', payload] as const)
  let taken = 0
  let seen = 0
  for (let round = 0; round < 4; round++) {
    let sent: number
    do {
      sent = send(rig, association, datagrams)
      taken += Math.max(0, sent)
    } while (sent > 0)
    t.is(sent, EAGAIN)
    connection!.socket.resume()
    await until(
      () => {
        const { frames, used } = framesIn(come)
        t.true(frames.every(({ payload }) => payload.equals(payloads[payload.length - 900]!)))
        come = come.subarray(used)
        seen += frames.length
        return seen === taken && come.length === 0
      },
      'all that was taken',
      PATIENCE_MS,
    )
    connection!.socket.pause()
  }
  t.true(taken > 400, `${taken}`)
})

for (const [name, last, message] of [
  ['its end', 'end', /^the proxy closed the connection with UDP in TCP$/],
  ['its reset', 'reset', /^the proxy broke off \(ECONNRESET\) the connection with UDP in TCP$/],
  ['a frame that is none', { send: [0, 1, 2, 1, 1, 1, 1, 1, 1] }, /^what the proxy sends as UDP in TCP has no frames$/],
] as const)
  test(`stream-association: it ends with its connection: ${name}`, async t => {
    const { rig, heard, association } = await stand(t, [...STANDS, { send: ONE }, { waitMs: 30 }, last, 'silence'])
    const got: string[] = []
    await until(() => {
      if (heard.failed.length === 0) got.push(...receive(rig, association))
      return heard.failed.length > 0
    }, 'the end')
    t.deepEqual(got, [TOLD[0]])
    t.is(heard.failed.length, 1)
    t.is(heard.failed[0]!.failure, 'upstream-down')
    t.regex(heard.failed[0]!.message, message)
    t.is(rig.poller.used, 0)
  })

test('stream-association: what comes with the end is told before it', async t => {
  const last = ({ socket }: Connection) => void socket.end(ONE)
  const { rig, heard, association } = await stand(t, [...STANDS, last])
  await until(() => heard.datagrams > 0, 'the event')
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) > 0 && heard.failed.length > 0, 'the end')
  t.deepEqual(got, [TOLD[0]])
})

// ---- which way ----

test('udp-climb: a proxy without relay is asked for UDP in TCP by the same client, and by the next one first', async t => {
  const bad = await startBadSocks(scriptOf(['udp in tcp', 'full cone']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const end = await udpEnd(t)
  const heard = associate(t, rig)
  await until(() => heard.made.length === 1, 'the association')
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 5],
  )
  const second = associate(t, rig)
  await until(() => second.made.length === 1, 'the next association')
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 5, 5],
  )
  const address = parseAddress('127.0.0.1')!
  rig.bytes.set(address, SENT)
  const header = second.made[0]!.writeHeader(SENT + 64, SENT, 4, end.port, 2)
  rig.bytes.set(Buffer.from('hi'), SENT + 64 + header)
  rig.words.set([0, 1, 0, SENT + 64, header + 2], SCRATCH / 4)
  t.is(second.made[0]!.send(SCRATCH, SCRATCH + 12, 1), 1)
  const { message, peer } = await end.next()
  t.is(message.toString(), 'hi')
  end.send(Buffer.from('answer'), peer.port)
  const got: string[] = []
  await until(() => got.push(...receive(rig, second.made[0]!)) > 0, 'the answer')
  t.deepEqual(got, [`7f000001:${end.port} answer`])
})

test('udp-climb: a proxy without either is asked once; then each fails at once, without a connection', async t => {
  const bad = await startBadSocks(scriptOf(['reply', 7]))
  t.teardown(() => bad.close())
  const lines: string[] = []
  const line = (message = '') => void lines.push(message)
  const rig = open(t, bad.port, {}, { info: line, warn: line })
  const first = associate(t, rig)
  await until(() => first.failed.length === 1, 'the refusal')
  t.is(first.failed[0]!.failure, 'unsupported')
  t.is(first.failed[0]!.message, 'the proxy answered 7 (command not supported)')
  t.is(bad.received.length, 2)
  const second = associate(t, rig)
  t.is(second.failed.length, 1, 'within the call')
  t.is(second.failed[0]!.failure, 'unsupported')
  t.is(bad.received.length, 2)
  t.deepEqual(lines, ['upstream up', 'the proxy carries no UDP: datagrams are answered with port unreachable'])
})

for (const kind of ['http', 'socks4', 'socks4a'])
  test(`udp-climb: ${kind} has no UDP: nobody is asked, and one line says so`, async t => {
    const port = await closedPort()
    const lines: string[] = []
    const line = (message = '') => void lines.push(message)
    const rig = openUrl(t, `${kind}://127.0.0.1:${port}`, { info: line, warn: line })
    const failed: DialError[] = []
    const listener = {
      onAssociated: () => t.fail(),
      onAssociationFailed: (error: DialError) => failed.push(error),
      onDatagrams() {},
    }
    for (let count = 1; count <= 3; count++) {
      rig.dialer.associate(CLIENT, listener)
      t.is(failed.length, count, 'within the call')
      t.is(failed.at(-1)!.failure, 'unsupported')
    }
    t.is(rig.poller.used, 0)
    t.deepEqual(lines, ['the proxy carries no UDP: datagrams are answered with port unreachable'])
  })

test('udp-climb: a proxy that closes in place of a reply is taken for one without relay at the third time', async t => {
  const bad = await startBadSocks([...ASKED, 'end'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  rig.proxy.health.answered()
  for (let count = 1; count <= 3; count++) {
    const heard = associate(t, rig)
    await until(() => heard.failed.length === 1, 'the failure')
    t.is(heard.failed[0]!.failure, count < 3 ? 'upstream-down' : 'unsupported')
  }
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 3, 3, 5],
  )
})

test('udp-climb: a proxy that cannot be reached any more is asked anew when it is back', async t => {
  const port = await closedPort()
  const bad = await startBadSocks(scriptOf(['reply', 7]), '127.0.0.1', port)
  const rig = open(t, port)
  const first = associate(t, rig)
  await until(() => first.failed.length === 1, 'the refusal')
  t.is(rig.proxy.ladder.way, undefined)
  await bad.close()
  rig.dialer.connect({ address: parseAddress('203.0.113.7')!, port: 1 }, CLIENT, { onConnected() {}, onFailed() {} })
  await until(() => !rig.proxy.health.isUp, 'the failure')
  t.is(rig.proxy.ladder.way, 'associate')
})

test('udp-climb: giving up closes whatever is being tried', async t => {
  const bad = await startBadSocks(at => (at === 0 ? scriptOf(['reply', 7]) : scriptOf(['silent after the request'])))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const failed: DialError[] = []
  const associating = rig.dialer.associate(CLIENT, {
    onAssociated: () => t.fail(),
    onAssociationFailed: error => failed.push(error),
    onDatagrams() {},
  })
  await until(() => bad.received.length === 2 && bad.received[1]!.length === 13, 'the second request')
  t.is(associating.expire().message, 'the proxy has not answered the request: its destination does not answer, perhaps')
  t.is(rig.poller.used, 0)
  t.deepEqual(failed, [])
})

test('udp-climb: relays that stay silent are told to the ladder when their associations end', async t => {
  const bad = await startBadSocks(scriptOf(['relay', 'echo']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  for (let count = 0; count < 4; count++) {
    const heard = associate(t, rig)
    await until(() => heard.made.length === 1, 'the association')
    t.is(send(rig, heard.made[0]!, [['203.0.113.7', Buffer.from('x')]]), 1)
    heard.made[0]!.close()
  }
  t.is(rig.proxy.ladder.way, 'tcp')

  rig.proxy.ladder.forget()
  for (let count = 0; count < 6; count++) {
    const heard = associate(t, rig)
    await until(() => heard.made.length === 1, 'the association')
    if (count === 0) {
      send(rig, heard.made[0]!, [['203.0.113.7', Buffer.from('x')]])
      await until(() => heard.datagrams > 0, 'the echo')
      t.is(receive(rig, heard.made[0]!).length, 1)
    }
    heard.made[0]!.close()
  }
  t.is(rig.proxy.ladder.way, 'associate')
})

test.after.always('stream-association: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
