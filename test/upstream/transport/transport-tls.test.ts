import { once } from 'node:events'
import { connect } from 'node:net'
import { mock } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { tcpServer, until } from '../../helpers/sockets.ts'
import { pattern } from '../../stack/rig.ts'
import { openTls, pair, readAll, serverOf, sha256, tlsServer, untilStill } from './tls-rig.ts'
import { connected, NOBODY, User } from './transport-rig.ts'

test('tls: bytes go both ways, and the peer is that of the connection below', async t => {
  const { user, peer, transport } = await pair(t)
  t.is(user.peer, transport.peer)
  peer.pipe(peer)
  await user.send('ping')
  await until(() => user.text === 'ping', 'the answer')
})

test('tls: what the server says first is the first', async t => {
  const { port } = await tlsServer(t, socket => void socket.write('welcome'))
  const user = await connected(t, openTls(t, port).transport)
  await until(() => user.text === 'welcome', 'the welcome')
})

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  const title = (text: string) => `tls: ${maxVersion}: ${text}`

  test.serial(title('the end of the user is a close_notify, and what comes back still comes'), async t => {
    const before = addon.openDescriptors()
    const { user, peer, raw } = await pair(t, { maxVersion })
    const received = readAll(peer)
    const data = pattern(300_000)
    await user.send(data)
    user.socket!.end()
    t.true((await received).equals(data))
    const rawEnded = once(raw, 'close')
    peer.end('still')
    await until(() => user.ended !== undefined, 'the end')
    t.is(user.text, 'still')
    t.is(user.ended, 'FIN')
    t.is(user.socket!.fault, undefined)
    await rawEnded
    user.socket!.close()
    t.is(addon.openDescriptors(), before)
  })

  test.serial(title('a close_notify is an end of stream, and what is sent still goes'), async t => {
    const before = addon.openDescriptors()
    const { user, peer } = await pair(t, { maxVersion })
    const received = readAll(peer)
    const data = pattern(300_000)
    peer.end(data)
    await until(() => user.ended !== undefined, 'the end')
    t.true(Buffer.concat(user.received).equals(data))
    t.is(user.socket!.fault, undefined)
    await user.send('still')
    user.socket!.end()
    t.is((await received).toString(), 'still')
    t.is(user.socket!.fault, undefined)
    await until(() => addon.openDescriptors() === before + 1, 'the connection closed')
  })

  for (const how of ['end', 'resetAndDestroy'] as const)
    test.serial(title(`a cut (${how}) without close_notify is a fault, behind all that came before`), async t => {
      const before = addon.openDescriptors()
      const { user, peer, raw } = await pair(t, { maxVersion })
      const data = pattern(1_000_000)
      peer.write(data)
      await until(() => user.receivedBytes === data.length, 'the bytes')
      user.isReading = false
      await new Promise(resolve => peer.write('last', resolve))
      raw[how]()
      await until(() => user.socket!.fault !== undefined, 'the fault')
      t.regex(
        user.socket!.fault!,
        how === 'end' ? /was cut inside of TLS .*close_notify/ : /inside of TLS \(ECONNRESET\)/,
      )
      user.isReading = true
      user.read()
      t.is(Buffer.concat(user.received).subarray(data.length).toString(), 'last')
      t.is(user.ended, 'FIN')
      t.is(addon.openDescriptors(), before + 1, 'the user has its own alone')
    })

  test.serial(title('a second handshake needs no certificate'), async t => {
    const reused: boolean[] = []
    const { port } = await tlsServer(t, socket => reused.push(socket.isSessionReused()) && socket.write('x'), {
      maxVersion,
    })
    const { transport, server } = openTls(t, port)
    for (let at = 0; at < 3; at++) {
      const user = await connected(t, transport)
      await until(() => user.text === 'x' && server.session !== undefined, 'a ticket')
      user.socket!.close(true)
    }
    t.deepEqual(reused, [false, true, true])
  })
}

for (const bytes of [50_000, 300_000, 1_000_000])
  test.serial(`tls: ${bytes} bytes and a cut, before the user reads, all reach it before the fault`, async t => {
    const { user, peer, raw } = await pair(t)
    user.isReading = false
    const data = pattern(bytes)
    peer.write(data)
    await untilStill(() => raw.bytesWritten)
    raw.end()
    await delay(20)
    user.isReading = true
    user.read()
    await until(() => user.ended !== undefined, 'the end')
    t.is(sha256(user.received), sha256([data]))
    t.regex(user.socket!.fault!, /cut inside of TLS/)
  })

test.serial('tls: a FIN follows the close_notify, and a ticket is forgotten where TLS fails', async t => {
  const { port } = await tlsServer(t, socket => socket.resume().write('x'))
  let ended = false
  const relay = await tcpServer(t, client => {
    const server = connect({ port, allowHalfOpen: true }).on('error', () => client.destroy())
    client.on('end', () => {
      ended = true
    })
    client.pipe(server).pipe(client)
  })
  const { transport, server } = openTls(t, relay)
  const user = await connected(t, transport)
  await until(() => server.session !== undefined, 'a ticket')
  user.socket!.end()
  await until(() => ended, 'FIN')
  const alien = await tcpServer(t, socket => socket.end('SSH-2.0-x\r\n'))
  t.is((await connected(t, openTls(t, alien, server).transport)).end, 'alien')
  t.is(server.session, undefined)
})

test.serial('tls: a reset of the user is one for the proxy, and nothing stays open', async t => {
  const before = addon.openDescriptors()
  const { user, peer } = await pair(t)
  const failed = new Promise(resolve => peer.resume().once('error', resolve))
  await user.send('half of a mess')
  user.socket!.close(true)
  t.like(await failed, { code: 'ECONNRESET' })
  t.is(addon.openDescriptors(), before)
})

test.serial('tls: a user that closes in order leaves nothing behind, and all that it has sent arrives', async t => {
  const before = addon.openDescriptors()
  const { user, peer } = await pair(t)
  peer.write('not read by the user')
  const data = pattern(100_000)
  await user.send(data)
  user.socket!.close()
  t.true((await readAll(peer)).equals(data))
  await until(() => addon.openDescriptors() === before, 'all closed')
})

test.serial('tls: a proxy that does not take the last bytes of a user that has closed is reset after 10 s', async t => {
  const before = addon.openDescriptors()
  const { user, peer } = await pair(t)
  peer.pause()
  const sent = user.send(pattern(30_000_000))
  await untilStill(() => user.unsentBytes, 1_000)
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  user.socket!.close()
  user.push()
  await sent
  const turns = async () => {
    for (let at = 0; at < 50; at++) await new Promise(resolve => setImmediate(resolve))
  }
  await turns()
  mock.timers.tick(9_999)
  await turns()
  t.is(addon.openDescriptors(), before + 2)
  mock.timers.tick(1)
  t.is(addon.openDescriptors(), before)
})

test.serial('tls: who closes both directions before is not told of a cut behind them', async t => {
  const { user, peer, raw } = await pair(t)
  user.socket!.end()
  peer.resume().end('bye')
  await until(() => user.ended !== undefined, 'the end')
  raw.resetAndDestroy()
  await until(() => raw.destroyed, 'the reset')
  t.is(user.socket!.fault, undefined)
})

test.serial('tls: given up at any moment, nothing is called and nothing stays open', async t => {
  const { port } = await tlsServer(t)
  const { transport } = openTls(t, port)
  const before = addon.openDescriptors()
  for (let delayMs = 0; delayMs < 12; delayMs++) {
    const user = new User()
    const connecting = transport.connect(user, NOBODY)
    await delay(delayMs / 2)
    if (user.calls > 0) user.socket!.close(true)
    else {
      connecting.cancel()
      connecting.cancel()
      await delay(20)
      t.is(user.calls, 0)
    }
    t.is(addon.openDescriptors(), before)
  }
})

test.serial(
  'tls: without a descriptor for the pair the dial fails for this machine, and nothing stays open',
  async t => {
    const { port } = await tlsServer(t)
    const { transport, poller } = openTls(t, port)
    const before = addon.openDescriptors()
    Object.assign(poller, { capacity: 2 })
    const user = await connected(t, transport)
    t.like(user.error, { failure: 'no-resources' })
    t.is(user.end, 'local')
    t.is(addon.openDescriptors(), before)
  },
)

test.serial('tls: the close of the transport is no end in order', async t => {
  const before = addon.openDescriptors()
  const { user, transport } = await pair(t)
  const late = new User()
  transport.connect(late, NOBODY)
  transport.close()
  await until(() => user.ended !== undefined, 'the end')
  t.regex(user.socket!.fault!, /gateway/)
  t.is(addon.openDescriptors(), before + 1)
  t.is(late.calls, 0)
})

test('tls: TLS inside of TLS, with a cut of the outer one', async t => {
  const inner = await tlsServer(t, socket => socket.pipe(socket))
  const outer = await tlsServer(t, socket => {
    inner.forward(socket)
  })
  const below = serverOf().server
  const { transport } = openTls(
    t,
    0,
    serverOf().server,
    poller => openTls(t, outer.port, below, undefined, poller).transport,
  )
  const user = await connected(t, transport)
  t.is(user.error, undefined)
  const data = pattern(500_000)
  await user.send(data)
  await until(() => user.receivedBytes === data.length, 'the answer')
  t.true(Buffer.concat(user.received).equals(data))
  outer.raw[0]!.end()
  await until(() => user.ended !== undefined, 'the end')
  t.regex(user.socket!.fault!, /was cut inside of TLS/)
})
