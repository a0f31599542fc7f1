import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { SocksClient, type SocksClientOptions } from 'socks'
import { type SocksServerOptions, startSocksServer } from '../../src/demo/socks-server.ts'
import { Reply } from '../../src/upstream/socks5/socks5-codec.ts'
import { closedPort, readAll, readBytes, tcpConnect, tcpServer, until } from '../helpers/sockets.ts'

async function start(t: ExecutionContext, options: SocksServerOptions = {}) {
  const server = await startSocksServer(options)
  t.teardown(() => server.close())
  return server
}

async function connectVia(
  t: ExecutionContext,
  proxy: { port: number; host: string },
  host: string,
  port: number,
  user: Partial<SocksClientOptions['proxy']> = {},
) {
  const { socket } = await SocksClient.createConnection({
    proxy: { host: proxy.host, port: proxy.port, type: 5, ...user },
    command: 'connect',
    destination: { host, port },
    timeout: 5000,
  })
  t.teardown(() => socket.destroy())
  // This client loses what comes in the same read as the reply, so each server here waits to be asked.
  socket.write('?')
  return socket
}

const answersOnce = (text: string) => (socket: Socket) => socket.once('data', () => socket.end(text))

/** Greeting without a password, the method, then a request for an IPv4 destination. */
async function rawRequest(t: ExecutionContext, port: number, request: number[], greeting = [5, 1, 0]): Promise<Socket> {
  const socket = await tcpConnect(t, port)
  socket.write(Uint8Array.from([...greeting, ...request]))
  t.deepEqual([...(await readBytes(socket, 2))], [5, 0])
  return socket
}

const toLoopback = (port: number) => [5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]

for (const [kind, host, listen] of [
  ['IPv4', '127.0.0.1', '127.0.0.1'],
  ['IPv6', '::1', '::1'],
  ['a name', 'localhost', '127.0.0.1'],
] as const)
  test(`socks-server: CONNECT to ${kind} carries bytes both ways`, async t => {
    const proxy = await start(t)
    const port = await tcpServer(t, socket => socket.pipe(socket), listen)
    const socket = await connectVia(t, proxy, host, port)
    socket.end('hello')
    t.is((await readAll(socket)).toString(), '?hello')
    await until(() => proxy.counters.liveConnections === 0, 'the end of the connection')
    t.like(proxy.counters, { connections: 1, connects: 1, bytesUp: 6, bytesDown: 6, refused: 0 })
  })

test('socks-server: it listens on IPv6 too', async t => {
  const proxy = await start(t, { host: '::1' })
  const port = await tcpServer(t, answersOnce('x'))
  t.is((await readAll(await connectVia(t, proxy, '127.0.0.1', port))).toString(), 'x')
})

test('socks-server: user and password are asked for, right ones pass, wrong ones and none do not', async t => {
  const [username, password] = ['u'.repeat(255), 'pä'.repeat(85)]
  const proxy = await start(t, { username, password })
  const port = await tcpServer(t, answersOnce('in'))
  const good = await connectVia(t, proxy, '127.0.0.1', port, { userId: username, password })
  t.is((await readAll(good)).toString(), 'in')
  await t.throwsAsync(connectVia(t, proxy, '127.0.0.1', port, { userId: username, password: 'wrong' }), {
    message: /authentication failed/i,
  })
  await t.throwsAsync(connectVia(t, proxy, '127.0.0.1', port), { message: /no accepted authentication/i })
  t.is(proxy.counters.unauthenticated, 2)
  await t.throwsAsync(startSocksServer({ username: 'a', password: '' }), { instanceOf: RangeError })
})

test('socks-server: a closed port is refused (5), an unroutable address is said to be so, an unknown name too', async t => {
  const proxy = await start(t)
  const port = await closedPort()
  const socket = await rawRequest(t, proxy.port, toLoopback(port))
  t.deepEqual([...(await readAll(socket))], [5, Reply.refused, 0, 1, 0, 0, 0, 0, 0, 0])
  const name = [...new TextEncoder().encode('no-such-name.invalid')]
  const unknown = await rawRequest(t, proxy.port, [5, 1, 0, 3, name.length, ...name, 0, 80])
  t.is((await readAll(unknown))[1], Reply.hostUnreachable)
  // 255.255.255.255: connect() to a broadcast address fails at once with EACCES or ENETUNREACH.
  const broadcast = await rawRequest(t, proxy.port, [5, 1, 0, 1, 255, 255, 255, 255, 0, 80])
  t.true([2, 3].includes((await readAll(broadcast))[1]!))
  t.is(proxy.counters.refused, 3)
})

test('socks-server: BIND, unknown commands and address types, and switched off UDP are answered 7 and 8', async t => {
  const proxy = await start(t, { udp: false })
  const reply = async (request: number[]) => (await readAll(await rawRequest(t, proxy.port, request)))[1]
  t.is(await reply([5, 2, 0, 1, 127, 0, 0, 1, 0, 80]), Reply.commandUnsupported)
  t.is(await reply([5, 9, 0, 1, 127, 0, 0, 1, 0, 80]), Reply.commandUnsupported)
  t.is(await reply([5, 3, 0, 1, 0, 0, 0, 0, 0, 0]), Reply.commandUnsupported)
  t.is(await reply([5, 1, 0, 2, 0, 0, 0, 0, 0, 0]), Reply.addressUnsupported)
})

test('socks-server: the handshake may come byte by byte, and early data goes to the destination', async t => {
  const proxy = await start(t)
  const port = await tcpServer(t, socket => socket.pipe(socket))
  const slow = await tcpConnect(t, proxy.port)
  for (const byte of [5, 2, 1, 0, ...toLoopback(port)]) {
    await new Promise(resolve => slow.write(Uint8Array.of(byte), resolve))
    await new Promise(resolve => setImmediate(resolve))
  }
  slow.end('slow')
  t.deepEqual([...(await readBytes(slow, 6))], [5, 0, 5, 0, 0, 1])
  await readBytes(slow, 6)
  t.is((await readAll(slow)).toString(), 'slow')
  const early = await rawRequest(t, proxy.port, [...toLoopback(port), ...Buffer.from('early')])
  await readBytes(early, 10)
  early.end(' and late')
  t.is((await readAll(early)).toString(), 'early and late')
})

test('socks-server: what is no SOCKS5 is closed without an answer, and so is a handshake that takes too long', async t => {
  const proxy = await start(t, { handshakeTimeoutMs: 50 })
  for (const bytes of [[4, 1], [5, 0], [...Buffer.from('GET / HTTP/1.1\r\n\r\n')], [5, 1, 0].slice(0, 2)]) {
    const socket = await tcpConnect(t, proxy.port)
    socket.write(Uint8Array.from(bytes))
    const answer = await readAll(socket).catch(() => Buffer.alloc(0))
    t.is(answer.length, 0)
  }
  await until(() => proxy.counters.liveConnections === 0, 'the end of all')
})

test('socks-server: the answer comes after the client has ended', async t => {
  const proxy = await start(t)
  const answersAtEnd = await tcpServer(t, socket => {
    let bytes = 0
    socket.on('data', chunk => {
      bytes += chunk.length
    })
    socket.on('end', () => socket.end(`${bytes}`))
  })
  const up = await rawRequest(t, proxy.port, toLoopback(answersAtEnd))
  await readBytes(up, 10)
  up.end(Buffer.alloc(3_000_000))
  t.is((await readAll(up)).toString(), '3000000')
})

test('socks-server: data still flows up after the destination has ended', async t => {
  const proxy = await start(t)
  let heard = ''
  let ended = false
  const port = await tcpServer(t, socket => {
    socket.end('bye')
    socket.on('data', chunk => {
      heard += chunk
    })
    socket.on('end', () => {
      ended = true
    })
  })
  const socket = await rawRequest(t, proxy.port, toLoopback(port))
  await readBytes(socket, 13)
  const atEnd = once(socket, 'end')
  socket.resume()
  await atEnd
  socket.end('still here')
  await until(() => ended, 'the end upstream')
  t.is(heard, 'still here')
})

test('socks-server: a reset of either side becomes a reset of the other', async t => {
  const proxy = await start(t)
  const resets = await tcpServer(t, socket => socket.once('data', () => socket.resetAndDestroy()))
  const client = await rawRequest(t, proxy.port, toLoopback(resets))
  await readBytes(client, 10)
  client.write('x')
  const error = await t.throwsAsync(readAll(client))
  t.is((error as NodeJS.ErrnoException).code, 'ECONNRESET')

  let seen: string | undefined
  let accepted = false
  const watches = await tcpServer(t, socket => {
    accepted = true
    socket.on('error', (reason: NodeJS.ErrnoException) => {
      seen = reason.code
    })
    socket.resume()
  })
  const other = await rawRequest(t, proxy.port, toLoopback(watches))
  await readBytes(other, 10)
  await until(() => accepted, 'the connection')
  other.resetAndDestroy()
  await until(() => seen !== undefined, 'the reset')
  t.is(seen, 'ECONNRESET')
  await until(() => proxy.counters.liveConnections === 0, 'the end of both')
})

test('socks-server: a client that does not read stops the destination, and nothing is lost', async t => {
  const proxy = await start(t)
  const block = randomBytes(1 << 20)
  const blocks = 64
  let sent = 0
  const port = await tcpServer(t, socket => {
    const send = () => {
      while (sent < blocks) {
        sent++
        if (!socket.write(block)) return
      }
      socket.end()
    }
    socket.on('drain', send)
    send()
  })
  const client = await rawRequest(t, proxy.port, toLoopback(port))
  await readBytes(client, 10)
  let before = 0
  let since = Date.now()
  await until(() => {
    if (before !== proxy.counters.bytesDown) since = Date.now()
    before = proxy.counters.bytesDown
    return before > 0 && Date.now() - since > 100
  }, 'standstill')
  t.true(sent < blocks)
  const all = await readAll(client)
  t.is(all.length, blocks * block.length)
  for (let at = 0; at < all.length; at += block.length) t.true(all.subarray(at, at + block.length).equals(block))
})

test('socks-server: a destination can be rewritten, and a reply forced', async t => {
  const port = await tcpServer(t, answersOnce('home'))
  const proxy = await start(t, {
    rewrite: destination => (destination.port === 80 ? { address: Uint8Array.of(127, 0, 0, 1), port } : undefined),
    reply: destination => (destination.port === 81 ? Reply.ttlExpired : undefined),
  })
  t.is((await readAll(await connectVia(t, proxy, '192.0.2.1', 80))).toString(), 'home')
  await t.throwsAsync(connectVia(t, proxy, '192.0.2.1', 81), { message: /TTLExpired/i })
})

test('socks-server: close ends everything and is idempotent, connections beyond the bound are closed', async t => {
  const proxy = await start(t, { maxConnections: 1 })
  const port = await tcpServer(t, socket => socket.pipe(socket))
  const first = await rawRequest(t, proxy.port, toLoopback(port))
  await readBytes(first, 10)
  const second = await tcpConnect(t, proxy.port)
  t.is((await readAll(second).catch(() => Buffer.alloc(0))).length, 0)
  const ended = readAll(first).catch(() => undefined)
  await Promise.all([proxy.close(), proxy.close()])
  await ended
  await t.throwsAsync(tcpConnect(t, proxy.port), { code: 'ECONNREFUSED' })
  t.is(proxy.counters.liveConnections, 0)
})
