/** UDP in TCP: how it is asked for, and what is sent. */
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { Connection } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { filler, scriptOf } from '../../helpers/socks-faults.ts'
import { type Frame, framesIn } from '../../helpers/udp-in-tcp.ts'
import { EAGAIN, OTHER, PATIENCE_MS, receive, SENT, STANDS, send, stand } from './frames-rig.ts'

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

test.after.always('stream-association: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
