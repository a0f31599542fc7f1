import { execFileSync } from 'node:child_process'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type ListenOptions, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../../src/io/addon.ts'
import { isRoot, openRig, owned, SLOT_BYTES, until } from './rig.ts'

const loopback = Uint8Array.of(127, 0, 0, 1)
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
const EAGAIN = -11

interface Listener {
  readonly port: number
  /** Connections so far. */
  readonly accepted: Socket[]
}

async function listen(t: ExecutionContext, options: ListenOptions): Promise<Listener> {
  const accepted: Socket[] = []
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, socket => {
    socket.on('error', () => {})
    accepted.push(socket)
  })
  server.listen(options)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of accepted) socket.destroy()
  })
  return { port: (server.address() as AddressInfo).port, accepted }
}

/** A watched client of a new server on loopback, and the server's end of it. */
async function pair(t: ExecutionContext) {
  const rig = openRig(t)
  const { port, accepted } = await listen(t, { host: '127.0.0.1', port: 0 })
  const fd = owned(t, addon.connectTcp(loopback, port, 0, ''))
  t.is(rig.io.watch(fd, 5, true), 0)
  await until('connected', () => (rig.seen(5) & WRITABLE) !== 0 && accepted.length === 1)
  t.is(addon.socketError(fd), 0)
  rig.events.length = 0
  return { rig, fd, peer: accepted[0]! }
}

async function bindUdp(t: ExecutionContext): Promise<{ socket: UdpSocket; port: number; received: Buffer[] }> {
  const socket = createSocket('udp4')
  const received: Buffer[] = []
  socket.on('message', message => received.push(message))
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  return { socket, port: socket.address().port, received }
}

test('tcp: bytes go out of several iovecs and come into several, up to the end of stream', async t => {
  const { rig, fd, peer } = await pair(t)
  t.is(rig.io.readv(fd, ...rig.iovecs(16)), EAGAIN)
  t.is(rig.io.writev(fd, ...rig.iovecs(Buffer.from('ab'), Buffer.from('cde'))), 5)
  peer.resume()
  const [bytes] = (await once(peer, 'data')) as [Buffer]
  t.is(bytes.toString(), 'abcde')

  peer.write('0123456789')
  await until('readable', () => (rig.seen(5) & READABLE) !== 0)
  t.is(rig.io.readv(fd, ...rig.iovecs(4, 3, 100)), 10)
  t.is(Buffer.from(rig.part(0)).toString() + Buffer.from(rig.part(1)).toString(), '0123456')
  t.is(Buffer.from(rig.part(2).subarray(0, 3)).toString(), '789')

  const ended = once(peer, 'end')
  t.is(addon.shutdownWrite(fd), 0)
  await ended
  peer.end()
  await until('the end seen', () => (rig.seen(5) & READ_HANGUP) !== 0)
  t.is(rig.io.readv(fd, ...rig.iovecs(16)), 0)
})

test('tcp: each change is reported once', async t => {
  const { rig, fd, peer } = await pair(t)
  peer.write('x')
  await until('readable', () => (rig.seen(5) & READABLE) !== 0)
  const after = rig.events.length
  const other = await pair(t)
  other.peer.write('y')
  await until('the other is readable', () => (other.rig.seen(5) & READABLE) !== 0)
  t.is(rig.events.length, after)
  t.is(rig.io.readv(fd, ...rig.iovecs(16)), 1)
})

test('tcp: IPv6 too', async t => {
  const { port, accepted } = await listen(t, { host: '::1', port: 0 })
  const fd = owned(t, addon.connectTcp(loopback6, port, 0, ''))
  await until('accepted', () => accepted.length === 1)
  t.is(addon.socketError(fd), 0)
})

test('tcp: refused is an event, and socketError takes the error once', async t => {
  const rig = openRig(t)
  const { socket, port } = await bindUdp(t)
  socket.unref()
  const fd = owned(t, addon.connectTcp(loopback, port, 0, ''))
  rig.io.watch(fd, 9, true)
  await until('an error', () => (rig.seen(9) & (ERROR | HANGUP)) === (ERROR | HANGUP))
  t.is(addon.errnoName(addon.socketError(fd)), 'ECONNREFUSED')
  t.is(addon.socketError(fd), 0)
})

test('tcp: a reset is seen while nothing is read', async t => {
  const { rig, fd, peer } = await pair(t)
  peer.write('unread')
  await until('readable', () => (rig.seen(5) & READABLE) !== 0)
  peer.resetAndDestroy()
  await until('reset', () => (rig.seen(5) & (ERROR | HANGUP)) === (ERROR | HANGUP))
  t.is(addon.errnoName(addon.socketError(fd)), 'ECONNRESET')
})

test('tcp: a reset is seen after the FIN of the peer', async t => {
  const { rig, fd, peer } = await pair(t)
  peer.end()
  await until('FIN', () => (rig.seen(5) & READ_HANGUP) !== 0)
  t.is(rig.seen(5) & HANGUP, 0)
  peer.resetAndDestroy()
  await until('reset', () => (rig.seen(5) & HANGUP) !== 0)
  t.is(addon.errnoName(rig.io.writev(fd, ...rig.iovecs(Buffer.from('x')))), 'EPIPE')
})

test('tcp: close with reset sends RST, close without sends FIN', async t => {
  for (const reset of [true, false]) {
    const { fd, peer } = await pair(t)
    const how = Promise.race([
      once(peer, 'end').then(() => 'FIN'),
      new Promise(resolve => peer.on('error', error => resolve((error as NodeJS.ErrnoException).code))),
    ])
    peer.resume()
    addon.close(fd, reset)
    t.is(await how, reset ? 'ECONNRESET' : 'FIN')
  }
})

test('tcp: a full socket says EAGAIN, and is reported when it has room again', async t => {
  const { rig, fd, peer } = await pair(t)
  const chunk = rig.iovecs(500_000)
  let sent = 0
  for (let taken = 0; taken >= 0; sent += Math.max(taken, 0)) taken = rig.io.writev(fd, ...chunk)
  t.is(rig.io.writev(fd, ...chunk), EAGAIN)
  rig.events.length = 0
  peer.resume()
  await until('writable', () => (rig.seen(5) & WRITABLE) !== 0)
  await until('all arrived', () => peer.bytesRead === sent)
  t.true(sent > 500_000)
})

test('tcp: what cannot be started is a negative errno, and nothing stays open', t => {
  const before = addon.openDescriptors()
  t.is(addon.errnoName(addon.connectTcp(Uint8Array.of(1, 2, 3), 80, 0, '')), 'EINVAL')
  t.is(addon.errnoName(addon.connectTcp(loopback, 65536, 0, '')), 'EINVAL')
  t.is(addon.errnoName(addon.connectTcp(loopback, 80, 0, 'none0')), 'ENODEV')
  t.is(addon.errnoName(addon.connectTcp(loopback, 80, 0, 'a-name-that-is-too-long')), 'ENODEV')
  t.true(addon.connectTcp(Uint8Array.of(255, 255, 255, 255), 80, 0, '') < 0)
  t.is(addon.errnoName(addon.connectUnix('/nowhere/socket')), 'ENOENT')
  t.is(addon.errnoName(addon.connectUnix('x'.repeat(200))), 'ENAMETOOLONG')
  t.is(addon.openDescriptors(), before)
})

const rootTest = isRoot ? test : test.skip
rootTest('tcp: a mark and a device are set before connect', async t => {
  const { port, accepted } = await listen(t, { host: '127.0.0.1', port: 0 })
  owned(t, addon.connectTcp(loopback, port, 0x1234, 'lo'))
  await until('accepted', () => accepted.length === 1)
  const line = execFileSync('ss', ['-HtneO', 'dport', '=', `:${port}`], { encoding: 'utf8' })
  t.regex(line, /127\.0\.0\.1%lo:/)
  t.regex(line, /fwmark:0x1234/)
})

test('unix: bytes go both ways', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const rig = openRig(t)
  // Node 20 binds an abstract name with NULs up to the end of sun_path, 108 bytes.
  for (const path of [join(folder, 's'), `\0${folder}`.padEnd(108, '\0')]) {
    const { accepted } = await listen(t, { path: path.replace(/\0+$/, '') })
    const fd = owned(t, addon.connectUnix(path))
    await until('accepted', () => accepted.length === 1)
    t.is(rig.io.writev(fd, ...rig.iovecs(Buffer.from('ping'))), 4)
    accepted[0]!.pipe(accepted[0]!)
    await until('an answer', () => rig.io.readv(fd, ...rig.iovecs(16)) === 4)
    t.is(Buffer.from(rig.part(0).subarray(0, 4)).toString(), 'ping')
  }
})

test('unix: the two ends of a pair are streams, and end apart', t => {
  const rig = openRig(t)
  const [left, right] = pairOf(t)
  t.is(addon.writeBytes(left, Buffer.from('to the right')), 12)
  t.is(rig.io.readv(right, ...rig.iovecs(64)), 12)
  t.is(Buffer.from(rig.part(0).subarray(0, 12)).toString(), 'to the right')
  t.is(addon.shutdownWrite(left), 0)
  t.is(rig.io.readv(right, ...rig.iovecs(64)), 0)
  t.is(rig.io.writev(right, ...rig.iovecs(Buffer.from('back'))), 4)
  const bytes = new Uint8Array(16)
  t.is(addon.readBytes(left, bytes), 4)
  t.is(Buffer.from(bytes.subarray(0, 4)).toString(), 'back')
  t.is(addon.readBytes(left, bytes), EAGAIN)
})

test('unix: a pair holds a bounded number of bytes, and says when it has room again', async t => {
  const rig = openRig(t)
  const [left, right] = pairOf(t)
  const chunk = Buffer.alloc(65_536, 7)
  let sent = 0
  for (let taken = 0; taken >= 0; sent += Math.max(taken, 0)) taken = addon.writeBytes(left, chunk)
  t.true(sent >= 65_536 && sent < 4 << 20, `${sent}`)
  rig.io.watch(left, 6, true)
  rig.events.length = 0
  let got = 0
  for (let taken = 1; taken > 0; got += Math.max(taken, 0)) taken = addon.readBytes(right, new Uint8Array(100_000))
  t.is(got, sent)
  await until('writable', () => (rig.seen(6) & WRITABLE) !== 0)
})

test('unix: what is asked of a pair wrongly is a negative errno, and nothing stays open', t => {
  const before = addon.openDescriptors()
  for (const wrong of [new Int32Array(1), new Uint8Array(2), undefined]) {
    t.is(addon.errnoName(addon.socketPair(wrong as Int32Array)), 'EINVAL')
  }
  t.is(addon.errnoName(addon.readBytes(-1, new Uint8Array(1))), 'EBADF')
  t.is(addon.errnoName(addon.writeBytes(0, new Int32Array(1) as unknown as Uint8Array)), 'EINVAL')
  t.is(addon.openDescriptors(), before)
})

/** Closed at the end of the test. */
function pairOf(t: ExecutionContext): [number, number] {
  const ends = new Int32Array(2)
  t.is(addon.socketPair(ends), 0)
  return [owned(t, ends[0]!), owned(t, ends[1]!)]
}

test('udp: datagrams go out and come in by batches, the empty one and the too long one told', async t => {
  const rig = openRig(t)
  const { socket, port, received } = await bindUdp(t)
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  rig.io.watch(fd, 3, true)
  t.is(rig.io.recvDatagrams(fd, ...rig.landing(8)), EAGAIN)
  const batch = rig.messages([Buffer.from('on'), Buffer.from('e')], [], [Buffer.from('three')])
  t.is(rig.io.sendDatagrams(fd, ...batch), 3)
  await until('three arrived', () => received.length === 3)
  t.deepEqual(received.map(String), ['one', '', 'three'])

  const own = await ownPort(fd, rig, socket)
  const sizes = [5, 0, SLOT_BYTES, SLOT_BYTES + 1, 7]
  for (const size of sizes) socket.send(Buffer.alloc(size, 0x61), own, '127.0.0.1')
  const lengths: number[] = []
  await until('all came', () => {
    const count = rig.io.recvDatagrams(fd, ...rig.landing(3))
    for (let at = 0; at < count; at++) lengths.push(rig.foundLength(at))
    return lengths.length === sizes.length
  })
  t.deepEqual(lengths, [5, 0, SLOT_BYTES, 0xffffffff, 7])
})

/** The port from which `fd` sends, as its peer sees it. */
async function ownPort(fd: number, rig: ReturnType<typeof openRig>, socket: UdpSocket): Promise<number> {
  const message = once(socket, 'message')
  rig.io.sendDatagrams(fd, ...rig.messages([Buffer.from('who')]))
  const [, from] = (await message) as [Buffer, { port: number }]
  return from.port
}

test('udp: more datagrams than one system call takes are all sent', async t => {
  const rig = openRig(t)
  const { port, received } = await bindUdp(t)
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  const many = Array.from({ length: 150 }, (_, at) => [Uint8Array.of(at)])
  t.is(rig.io.sendDatagrams(fd, ...rig.messages(...many)), 150)
  await until('all arrived', () => received.length === 150)
  t.deepEqual(
    received.map(datagram => datagram[0]),
    many.map((_, at) => at),
  )
})

test('udp: neighbours of one size and of others arrive whole and in order', async t => {
  const rig = openRig(t)
  const { port, received } = await bindUdp(t)
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  const few = [100, 100, 40, 100, 0, 7, 9000, 9000, 9000, 20_000, 20_000]
  const sizes = [...few, ...Array.from({ length: 70 }, () => 500)]
  const sent = sizes.map((size, at) => Buffer.alloc(size, at + 1))
  t.is(rig.io.sendDatagrams(fd, ...rig.messages(...sent.map(bytes => [bytes.subarray(0, 3), bytes.subarray(3)]))), 81)
  await until('all arrived', () => received.length === sizes.length)
  t.deepEqual(received.map(String), sent.map(String))
})

test('udp: what the kernel has merged is told apart', async t => {
  const rig = openRig(t)
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  const own = await ownPort(fd, rig, socket)
  await new Promise<void>(resolve => socket.close(resolve))
  // 17 is SOL_UDP, 103 UDP_SEGMENT: ten datagrams of 300 bytes and one of 50 leave as one
  const program = `use Socket; socket(S, PF_INET, SOCK_DGRAM, 0) && bind(S, sockaddr_in(${port}, INADDR_LOOPBACK))
    && setsockopt(S, 17, 103, pack("i", 300)) && send(S, join("", map { chr(65 + $_) x 300 } 0..9) . "z" x 50, 0,
    sockaddr_in(${own}, INADDR_LOOPBACK)) or die $!`
  execFileSync('perl', ['-e', program])
  const got: string[] = []
  let calls = 0
  await until('all came', () => {
    const count = rig.io.recvDatagrams(fd, ...rig.landing(1))
    for (let at = 0; at < count; at++) got.push(Buffer.from(rig.found(at)).toString())
    if (count > 0) calls++
    return got.length >= 11
  })
  t.is(calls, 1, 'one message')
  t.deepEqual(got, [...Array.from({ length: 10 }, (_, at) => String.fromCharCode(65 + at).repeat(300)), 'z'.repeat(50)])
})

test('udp: only the peer is heard', async t => {
  const rig = openRig(t)
  const { socket, port } = await bindUdp(t)
  const stranger = await bindUdp(t)
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  const own = await ownPort(fd, rig, socket)
  stranger.socket.send('stranger', own, '127.0.0.1')
  await new Promise(resolve => stranger.socket.send('again', own, '127.0.0.1', resolve))
  socket.send('peer', own, '127.0.0.1')
  let count = 0
  await until('a datagram', () => {
    count = rig.io.recvDatagrams(fd, ...rig.landing(8))
    return count > 0
  })
  t.is(count, 1)
  t.is(Buffer.from(rig.found(0)).toString(), 'peer')
})

test('udp: a closed port is an error of the socket', async t => {
  const rig = openRig(t)
  const { port } = await listen(t, { host: '127.0.0.1', port: 0 })
  const fd = owned(t, addon.connectUdp(loopback, port, 0, ''))
  rig.io.watch(fd, 4, true)
  t.is(rig.io.sendDatagrams(fd, ...rig.messages([Buffer.from('x')])), 1)
  await until('an error', () => (rig.seen(4) & ERROR) !== 0)
  t.is(addon.errnoName(rig.io.recvDatagrams(fd, ...rig.landing(1))), 'ECONNREFUSED')
})

test('tcp: the own end of a connection that is being made, by its family', async t => {
  const { port, accepted } = await listen(t, { host: '127.0.0.1', port: 0 })
  const fd = owned(t, addon.connectTcp(loopback, port, 0, ''))
  const address = new Uint8Array(4)
  const own = addon.localEndpoint(fd, address)
  t.deepEqual(address, loopback)
  await until('accepted', () => accepted.length === 1)
  t.is(own, accepted[0]!.remotePort!)
  t.is(addon.errnoName(addon.localEndpoint(fd, new Uint8Array(16))), 'EINVAL')
  t.is(addon.errnoName(addon.localEndpoint(-1, address)), 'EBADF')
})

test('udp: a socket that has sent nothing has no port', t => {
  const fd = owned(t, addon.openUdp(6, 0, ''))
  t.is(addon.localEndpoint(fd, new Uint8Array(16)), 0)
})
