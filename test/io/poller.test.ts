import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../src/endpoint.ts'
import { SystemError } from '../../src/errors.ts'
import { addon, READ_HANGUP, READABLE, WRITABLE } from '../../src/io/addon.ts'
import { Poller } from '../../src/io/poller.ts'
import { Socket } from '../../src/io/socket.ts'
import { closedPort, tcpServer, udpEnd, until } from '../helpers/sockets.ts'

const LOOPBACK = parseAddress('127.0.0.1')!
const NO_BINDING = { interface: '', mark: 0 }

function open(t: ExecutionContext) {
  const memory = new ArrayBuffer(65_536)
  const failures: unknown[] = []
  let turns = 0
  const poller = new Poller(memory, error => failures.push(error))
  poller.attend({ beginTurn() {}, endTurn: () => turns++ })
  t.teardown(() => poller.close())
  return { poller, failures, turns: () => turns, words: new Uint32Array(memory) }
}

function connect(t: ExecutionContext, poller: Poller, port: number) {
  const seen = { bits: 0, calls: 0 }
  const watcher = {
    onReady(events: number) {
      seen.bits |= events
      seen.calls++
    },
  }
  const socket = Socket.connectTcp(poller, { address: LOOPBACK, port }, NO_BINDING, watcher)
  t.teardown(() => socket.close())
  return { socket, seen }
}

test.serial(
  'poller: a socket says when it is connected, readable, and ended, and each batch ends with a turn',
  async t => {
    const { poller, turns } = open(t)
    const port = await tcpServer(t, peer => setTimeout(() => peer.end('bye'), 20))
    const { socket, seen } = connect(t, poller, port)
    await until(() => (seen.bits & WRITABLE) !== 0, 'the connection')
    t.is(socket.takeError(), 0)
    await until(() => (seen.bits & READ_HANGUP) !== 0, 'the end')
    t.not(seen.bits & READABLE, 0)
    t.true(turns() > 0)
  },
)

test.serial('poller: an exception of one watcher is told, and the others are served', async t => {
  const { poller, failures, turns } = open(t)
  const port = await tcpServer(t, () => undefined)
  const error = new Error('of a watcher')
  const to = { address: LOOPBACK, port }
  const bad = Socket.connectTcp(poller, to, NO_BINDING, {
    onReady() {
      throw error
    },
  })
  t.teardown(() => bad.close())
  const good = connect(t, poller, port)
  await until(() => good.seen.calls > 0 && failures.length > 0, 'both')
  t.is(failures[0], error)
  t.true(turns() > 0)
})

test.serial(
  'poller: work from elsewhere has a turn, an exception in it is told, and after close it is left',
  async t => {
    const { poller, failures } = open(t)
    const seen: string[] = []
    poller.attend({ beginTurn: () => seen.push('begin'), endTurn: () => seen.push('end') })
    poller.turn(() => seen.push('work'))
    t.deepEqual(seen.splice(0), ['begin', 'work', 'end'])
    const error = new Error('of work')
    poller.turn(() => {
      throw error
    })
    t.deepEqual(failures, [error])
    t.deepEqual(seen.splice(0), ['begin', 'end'])
    poller.later(() => seen.push('later'))
    t.deepEqual(seen, [])
    await until(() => seen.length > 0, 'the later turn')
    t.deepEqual(seen.splice(0), ['begin', 'later', 'end'])
    poller.later(() => seen.push('never'))
    poller.close()
    poller.turn(() => seen.push('never'))
    await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
    t.deepEqual(seen, [])
  },
)

test.serial('poller: a socket that is handed over calls the new watcher alone', async t => {
  const { poller } = open(t)
  const port = await tcpServer(t, peer => peer.once('data', () => peer.write('answer')))
  const { socket, seen } = connect(t, poller, port)
  await until(() => seen.calls > 0, 'the connection')
  const before = seen.calls
  let calls = 0
  socket.handOver({ onReady: () => calls++ })
  t.is(socket.end(), 0)
  await until(() => calls > 0, 'an event')
  t.is(seen.calls, before)
})

test.serial('poller: a closed socket calls nobody, and its number is given anew', async t => {
  const { poller } = open(t)
  const port = await tcpServer(t, peer => peer.write('x'))
  for (let round = 0; round < 50; round++) {
    const { socket, seen } = connect(t, poller, port)
    socket.close()
    socket.close()
    t.false(socket.open)
    await new Promise(resolve => setImmediate(resolve))
    t.is(seen.calls, 0)
  }
  t.is(addon.openDescriptors(), 0)
})

/** An idle UDP socket can be written to at once, so all that are added in one turn are ready in the next batch. */
test.serial('poller: a token given back within a batch gets no new owner in that batch', async t => {
  const { poller, turns } = open(t)
  const peer = await udpEnd(t)
  const to = { address: LOOPBACK, port: peer.port }
  const old: Socket[] = []
  const fresh: Socket[] = []
  const calls: { turn: number }[] = []
  let replacedIn = -1
  const replaceOthers = (me: Socket) => {
    if (replacedIn >= 0) return
    replacedIn = turns()
    for (const socket of old) if (socket !== me) socket.close()
    const newcomer = { onReady: () => calls.push({ turn: turns() }) }
    for (let count = 1; count < old.length; count++) {
      fresh.push(Socket.connectUdp(poller, to, NO_BINDING, newcomer))
    }
  }
  t.teardown(() => {
    for (const socket of [...old, ...fresh]) socket.close()
  })
  for (let at = 0; at < 8; at++) {
    old.push(Socket.connectUdp(poller, to, NO_BINDING, { onReady: () => replaceOthers(old[at]!) }))
  }
  await until(() => calls.length >= 7, 'events of the new sockets')
  t.deepEqual(
    calls.filter(({ turn }) => turn === replacedIn),
    [],
    'an event of a closed socket reached another',
  )
})

test.serial('socket: connect to a closed port: SO_ERROR is taken once', async t => {
  const { poller } = open(t)
  const { socket, seen } = connect(t, poller, await closedPort())
  await until(() => seen.calls > 0, 'the refusal')
  t.is(addon.errnoName(socket.takeError()), 'ECONNREFUSED')
  t.is(socket.takeError(), 0)
})

test.serial('socket: close with reset is ECONNRESET at the peer, without it FIN', async t => {
  const { poller } = open(t)
  const codes: string[] = []
  const port = await tcpServer(t, peer => {
    peer.on('error', error => codes.push((error as NodeJS.ErrnoException).code ?? ''))
    peer.on('end', () => codes.push('end'))
    peer.resume()
  })
  for (const [reset, code] of [
    [true, 'ECONNRESET'],
    [false, 'end'],
  ] as const) {
    const { socket, seen } = connect(t, poller, port)
    await until(() => seen.calls > 0, 'the connection')
    socket.close(reset)
    await until(() => codes.length > 0, 'the end')
    t.deepEqual(codes.splice(0), [code])
  }
})

test.serial('socket: an interface that is none, or is not allowed, is a SystemError, and nothing stays open', t => {
  const { poller } = open(t)
  const to = { address: LOOPBACK, port: 9 }
  const error = t.throws(() => Socket.connectTcp(poller, to, { interface: 'nosuchif0', mark: 0 }, { onReady() {} }))
  t.true(error instanceof SystemError)
  t.regex((error as SystemError).code, /^(ENODEV|EPERM)$/)
  t.regex(error!.message, /connect 127\.0\.0\.1:9: /)
  t.is(addon.openDescriptors(), 0)
})

test.serial('socket: a UDP socket hears its peer alone', async t => {
  const { poller, words } = open(t)
  const [peer, stranger] = [await udpEnd(t), await udpEnd(t)]
  let calls = 0
  const socket = Socket.connectUdp(poller, { address: LOOPBACK, port: peer.port }, NO_BINDING, {
    onReady: () => calls++,
  })
  t.teardown(() => socket.close())
  words.set([0, 1, 0, 4096, 3], 0)
  t.is(poller.io.sendDatagrams(socket.fd, 0, 12, 1), 1)
  const { peer: from } = await peer.next()
  stranger.send(Uint8Array.of(1), from.port)
  peer.send(Uint8Array.of(1, 2), from.port)
  await until(() => calls > 1, 'the answer')
  words.set([8192, 0, 12_288, 0], 64)
  t.is(poller.io.recvDatagrams(socket.fd, 256, 2, 100, 1024), 1)
  t.deepEqual([...words.subarray(256, 258)], [8192, 2])
})
