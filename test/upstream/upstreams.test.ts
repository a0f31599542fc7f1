/** Chains of real and scripted proxies, by the options of a gateway; direct and reject. */
import type { Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { type SocksServer, type SocksServerOptions, startSocksServer } from '../../src/demo/socks-server.ts'
import { type Destination, parseAddress } from '../../src/endpoint.ts'
import { addon } from '../../src/io/addon.ts'
import { startBadSocks } from '../helpers/bad-socks.ts'
import { closedPort, tcpServer, udpEnd, until } from '../helpers/sockets.ts'
import { scriptOf } from '../helpers/socks-faults.ts'
import { associated, CLIENT, DATA, DEST, dial, openInput, outcomeOf, read, SCRATCH } from './rig.ts'

const LOOPBACK = parseAddress('127.0.0.1')!

async function socks(t: ExecutionContext, options: SocksServerOptions = {}): Promise<SocksServer> {
  const server = await startSocksServer(options)
  t.teardown(() => server.close())
  return server
}

/** Says hello to each. */
const greeter = (t: ExecutionContext, greet = 'hello') => tcpServer(t, socket => void socket.write(greet))

/** An HTTP proxy of loopback: connects to whatever port is asked for. */
async function httpProxy(t: ExecutionContext, requests: string[] = []): Promise<number> {
  const { connect } = await import('node:net')
  return tcpServer(t, socket => {
    socket.once('data', head => {
      requests.push(head.toString('latin1'))
      const port = Number(/^CONNECT \S+:(\d+) /.exec(head.toString('latin1'))![1])
      const onward: Socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      onward.on('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n'))
      onward.on('connect', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.pipe(onward).pipe(socket)
      })
      t.teardown(() => onward.destroy())
    })
  })
}

for (const last of ['socks5', 'http'])
  test(`upstreams: a chain of socks5 and ${last} carries bytes both ways`, async t => {
    const a = await socks(t, { username: 'a', password: 'x' })
    const seen: string[] = []
    const bPort = last === 'http' ? await httpProxy(t, seen) : (await socks(t, { username: 'b', password: 'y' })).port
    const echo = await tcpServer(t, socket => void socket.pipe(socket))
    const rig = openInput(t, { proxy: [`socks5://a:x@127.0.0.1:${a.port}`, `${last}://b:y@127.0.0.1:${bPort}`] })
    const { connected } = await outcomeOf(t, rig, { address: LOOPBACK, port: echo })
    t.is(a.counters.connects, 1, 'one connection through A, to B')
    rig.bytes.set(Buffer.from('ping'), 70_000)
    rig.words.set([70_000, 4], 4096 / 4)
    t.is(rig.poller.io.writev(connected!.socket.fd, 4096, 1), 4)
    t.is(await read(rig, connected!, 4), 'ping')
  })

test('upstreams: three hops, each asked for the next, the last for the destination', async t => {
  const asked: Destination[] = []
  const note = (destination: Destination) => {
    asked.push(destination)
    return undefined
  }
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => socks(t, { rewrite: note })))
  const target = await greeter(t)
  const url = ({ port }: SocksServer) => `socks5://localhost:${port}`
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${a!.port}`, url(b!), url(c!)] })
  const { connected } = await outcomeOf(t, rig, { address: LOOPBACK, port: target })
  t.is(await read(rig, connected!, 5), 'hello')
  t.deepEqual(asked, [
    { name: 'localhost', port: b!.port },
    { name: 'localhost', port: c!.port },
    { address: LOOPBACK, port: target },
  ])
})

test('upstreams: bytes of the destination that come with the answer of the last hop are the client’s first', async t => {
  const a = await socks(t)
  const reply = [5, 0, 0, 1, 10, 0, 0, 1, 0, 80, ...Buffer.from('early')]
  const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 10 }, { send: reply }])
  t.teardown(() => bad.close())
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${bad.port}`] })
  const { connected } = await outcomeOf(t, rig)
  t.is(await read(rig, connected!, 5), 'early')
})

test('upstreams: which hop failed is told, and that of the destination is told as such', async t => {
  const a = await socks(t)
  const dead = await closedPort()
  const first = await outcomeOf(t, openInput(t, { proxy: [`socks5://127.0.0.1:${dead}`, 'socks5://127.0.0.1:9'] }))
  t.is(first.error?.failure, 'upstream-down')
  t.regex(first.error!.message, new RegExp(`^through 127.0.0.1:${dead}: the proxy cannot be reached: ECONNREFUSED`))
  const said: string[] = []
  const tell = (line: string, fields?: object) => said.push(`${line} ${JSON.stringify(fields)}`)
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${dead}`] }, {
    info: tell,
    warn: tell,
  } as never)
  const second = await outcomeOf(t, rig)
  t.is(second.error?.failure, 'upstream-down', 'it is the second proxy, not the destination, that refuses')
  t.regex(second.error!.message, new RegExp(`^through 127.0.0.1:${a.port}: the proxy answered 5 `))
  t.deepEqual(
    said.map(line => line.replace(/:\d+/g, '').slice(0, 40)),
    ['upstream up {"upstream":"127.0.0.1"}', 'upstream down {"upstream":"127.0.0.1","r'],
  )
  const b = await socks(t)
  const third = openInput(t, { proxy: [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${b.port}`] })
  t.is((await outcomeOf(t, third, { address: LOOPBACK, port: dead })).error?.failure, 'refused')
})

test('upstreams: a password that the first hop refuses is told as such', async t => {
  const a = await socks(t, { username: 'a', password: 'x' })
  const rig = openInput(t, { proxy: [`socks5://a:wrong@127.0.0.1:${a.port}`, 'socks5://127.0.0.1:9'] })
  const { error } = await outcomeOf(t, rig)
  t.is(error?.failure, 'authentication')
  t.false(error!.message.includes('wrong'))
})

test('upstreams: a second hop that speaks first is no proxy', async t => {
  const port = await greeter(t, 'SSH-2.0')
  const reply = [5, 0, 0, 1, 10, 0, 0, 1, 0, 80, ...Buffer.from('SSH')]
  const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 10 }, { send: reply }])
  t.teardown(() => bad.close())
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${bad.port}`, `socks5://127.0.0.1:${port}`] })
  const { error } = await outcomeOf(t, rig)
  t.is(error?.message, 'the proxy spoke before it was asked')
})

test('upstreams: a dial through a chain that is given up leaves nothing; its time-out names the hop', async t => {
  const mute = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, 'silence'])
  t.teardown(() => mute.close())
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${mute.port}`, 'socks5://127.0.0.1:9'] })
  const given = dial(t, rig)
  await until(() => mute.received[0]?.length === 13, 'the request')
  given.dial.cancel()
  await until(() => mute.left() === 1, 'the end')
  t.is(given.outcome.calls, 0)
  const late = dial(t, rig)
  await until(() => mute.received[1]?.length === 13, 'the request')
  const { failure, message } = late.dial.expire()
  t.is(failure, 'timeout')
  t.regex(message, /^through 127\.0\.0\.1:\d+: the proxy has not answered the request/)
})

test('upstreams: connections through a chain are made in advance, end to end', async t => {
  const a = await socks(t)
  const b = await socks(t)
  const target = await greeter(t)
  const proxy = [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${b.port}`]
  const rig = openInput(t, { proxy, upstream: { handshake: 'auto', pool: 1 } })
  const to = { address: LOOPBACK, port: target }
  t.truthy((await outcomeOf(t, rig, to)).connected)
  await until(() => rig.dialer.counters().pool_ready === 1 && b.counters.connections === 2, 'one in advance')
  const { connected } = await outcomeOf(t, rig, to)
  t.is(await read(rig, connected!, 5), 'hello')
  t.is(rig.dialer.counters().pool_hits, 1)
  rig.dialer.close()
})

test('upstreams: where a client has its own user nothing is made in advance', async t => {
  const a = await socks(t, { username: '198.18.0.2', password: 'x' })
  const b = await socks(t)
  const proxy = [`socks5://{source}:x@127.0.0.1:${a.port}`, `socks5://127.0.0.1:${b.port}`]
  const rig = openInput(t, { proxy, upstream: { handshake: 'auto', pool: 4 } })
  const to = { address: LOOPBACK, port: await greeter(t) }
  for (let dials = 0; dials < 3; dials++) t.truthy((await outcomeOf(t, rig, to)).connected)
  t.is(a.counters.connections, 3)
  t.deepEqual(CLIENT.address, parseAddress('198.18.0.2'))
})

test('upstreams: what is asked for goes to the first hop alone: its address is the gateway’s own traffic', t => {
  const { dialer } = openInput(t, { proxy: ['socks5://192.0.2.1:1', 'socks5://192.0.2.2:2'] })
  t.true(dialer.isUpstream({ address: parseAddress('192.0.2.1')!, port: 1 }))
  t.false(dialer.isUpstream({ address: parseAddress('192.0.2.2')!, port: 2 }))
})

test('upstreams: behind direct:// it is the address of the proxy that packets go to', async t => {
  const b = await socks(t)
  const here = { address: LOOPBACK, port: b.port }
  for (const server of ['127.0.0.1', 'localhost']) {
    const rig = openInput(t, { proxy: ['direct://', `socks5://${server}:${b.port}`] })
    await outcomeOf(t, rig)
    t.true(rig.dialer.isUpstream(here), server)
    t.false(rig.dialer.isUpstream({ ...here, port: 1 }))
  }
  const direct = openInput(t, { proxy: 'direct://' })
  t.truthy((await outcomeOf(t, direct, here)).connected)
  t.false(direct.dialer.isUpstream(here))
})

for (const behind of [false, true])
  test(`upstreams: a member of a group that refuses one client's own user is there for others${behind ? ', also behind a hop' : ''}`, async t => {
    const a = await socks(t, { username: '198.18.0.2', password: 'x' })
    const b = await socks(t)
    const to = { address: LOOPBACK, port: await greeter(t) }
    const own = `socks5://{source}:x@127.0.0.1:${a.port}`
    const upstreams = {
      a: behind ? [own, `socks5://127.0.0.1:${b.port}`] : own,
      b: `socks5://127.0.0.1:${b.port}`,
      g: { group: 'failover', members: ['a', 'b'] },
    }
    const said: string[] = []
    const tell = (line: string) => void said.push(line)
    const rig = openInput(t, { proxy: 'g', upstreams } as never, { info: tell, warn: tell } as never)
    const stranger = { address: parseAddress('198.18.0.9')!, port: 1 }
    let served = 0
    rig.dialer.connect(to, stranger, {
      onConnected: ({ socket }) => {
        served++
        socket.close()
      },
      onFailed: error => t.fail(error.message),
    })
    await until(() => served === 1, 'the other member')
    t.is(a.counters.connects, 0)
    t.truthy((await outcomeOf(t, rig, to)).connected)
    t.is(a.counters.connects, 1, 'whose user it takes')
    t.false(said.includes('upstream down'))
  })

test('upstreams: through a proxy without UDP datagrams go to the next in TCP, and nothing leaves beside it', async t => {
  const a = await socks(t, { udp: false })
  const b = await startBadSocks(scriptOf(['udp in tcp', 'full cone']))
  t.teardown(() => b.close())
  const end = await udpEnd(t)
  const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${b.port}`] })
  const association = await associated(t, rig)
  t.deepEqual(
    b.received.map(bytes => bytes[4]),
    [3, 5],
  )
  t.is(rig.poller.used, 1, 'the connection to the first')
  rig.bytes.set([127, 0, 0, 1], DATA)
  const header = association.writeHeader(DATA + 64, DATA, 4, end.port, 2)
  rig.bytes.set(Buffer.from('hi'), DATA + 64 + header)
  rig.words.set([0, 1, 0, DATA + 64, header + 2], SCRATCH / 4)
  t.is(association.send(SCRATCH, SCRATCH + 12, 1), 1)
  t.is((await end.next()).message.toString(), 'hi')
})

for (const [query, commands] of [
  ['', [3, 5]],
  ['?udp=associate', [3]],
  ['?udp=tcp', [5]],
  ['?udp=off', []],
] as const)
  test(`upstreams: behind a proxy without UDP one without UDP in TCP has none${query && `, with ${query}`}`, async t => {
    const a = await socks(t, { udp: false })
    const b = await startBadSocks(scriptOf(['relay', 'echo']))
    t.teardown(() => b.close())
    const failures: string[] = []
    const rig = openInput(t, { proxy: [`socks5://127.0.0.1:${a.port}`, `socks5://127.0.0.1:${b.port}${query}`] })
    rig.dialer.associate(CLIENT, {
      onAssociated: () => t.fail(),
      onAssociationFailed: ({ failure }) => failures.push(failure),
      onDatagrams() {},
    })
    await until(() => failures.length === 1, 'the refusal')
    t.deepEqual(failures, ['unsupported'])
    t.deepEqual(
      b.received.map(bytes => bytes[4]),
      [...commands],
    )
  })

for (const [mode, query, command] of [
  ['auto', '', 3],
  ['tcp', '', 5],
  ['tcp', '?udp=associate', 3],
  ['associate', '?udp=tcp', 5],
] as const)
  test(`upstreams: udp.mode ${mode}${query && ` and ${query}`}: command ${command} comes first`, async t => {
    const proxy = await startBadSocks(scriptOf(['silent after the request']))
    t.teardown(() => proxy.close())
    const rig = openInput(t, { proxy: `socks5://127.0.0.1:${proxy.port}${query}`, udp: { mode } })
    const associating = rig.dialer.associate(CLIENT, { onAssociated() {}, onAssociationFailed() {}, onDatagrams() {} })
    t.teardown(() => associating.close())
    await until(() => proxy.received[0] !== undefined && proxy.received[0].length >= 13, 'the request')
    t.is(proxy.received[0]![4], command)
  })

test('upstreams: direct, by address and by name', async t => {
  const port = await greeter(t)
  const rig = openInput(t, { proxy: 'direct://' })
  t.is(await read(rig, (await outcomeOf(t, rig, { address: LOOPBACK, port })).connected!, 5), 'hello')
  t.is(await read(rig, (await outcomeOf(t, rig, { name: 'localhost', port })).connected!, 5), 'hello')
})

test('upstreams: direct as the first hop', async t => {
  const b = await socks(t)
  const port = await greeter(t)
  const rig = openInput(t, { proxy: ['direct://', `socks5://localhost:${b.port}`] })
  t.is(await read(rig, (await outcomeOf(t, rig, { address: LOOPBACK, port })).connected!, 5), 'hello')
})

test('upstreams: direct tells why not', async t => {
  const rig = openInput(t, { proxy: 'direct://' })
  const refused = await outcomeOf(t, rig, { address: LOOPBACK, port: await closedPort() })
  t.is(refused.error?.failure, 'refused')
  const everybody = await outcomeOf(t, rig, { address: parseAddress('255.255.255.255')!, port: 80 })
  t.regex(everybody.error!.failure, /unreachable|prohibited/)
  const unknown = await outcomeOf(t, rig, { name: 'no-such-host.invalid', port: 80 })
  t.is(unknown.error?.failure, 'host-unreachable')
  t.regex(unknown.error!.message, /^the name cannot be looked up/)
})

test('upstreams: a direct dial that is given up while its name is looked up calls nobody', async t => {
  const port = await greeter(t)
  const rig = openInput(t, { proxy: 'direct://' })
  const { outcome, dial: started } = dial(t, rig, { name: 'localhost', port })
  t.is(started.expire().message, 'the name is still being looked up')
  const after = await outcomeOf(t, rig, { name: 'localhost', port })
  t.truthy(after.connected)
  t.is(outcome.calls, 0)
})

test('upstreams: reject, at once', t => {
  const rig = openInput(t, { proxy: 'reject://' })
  const { outcome } = dial(t, rig, DEST)
  t.is(outcome.error?.failure, 'refused')
  const failures: string[] = []
  rig.dialer.associate(CLIENT, {
    onAssociated: () => t.fail(),
    onAssociationFailed: ({ failure }) => failures.push(failure),
    onDatagrams() {},
  })
  t.deepEqual(failures, ['refused'])
})

test.after.always('upstreams: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})

test('upstreams: a group of proxies: when the first is gone the second serves, and the first again when it is back', async t => {
  const lines: string[] = []
  const log = {
    info: (line: string, { member, serves }: Record<string, unknown> = {}) =>
      void lines.push([line, member, serves].join(' ').trim()),
    warn: (line: string, { member, serves }: Record<string, unknown> = {}) =>
      void lines.push([line, member, serves].join(' ').trim()),
  }
  const [a, b] = [await socks(t), await socks(t)]
  const echo = await greeter(t)
  const rig = openInput(
    t,
    {
      proxy: 'any',
      upstreams: {
        any: { group: 'failover', members: ['a', 'b'], probeMs: 500 },
        a: `socks5://127.0.0.1:${a.port}`,
        b: `socks5://127.0.0.1:${b.port}`,
      },
      upstream: { pool: 4 },
    },
    log as never,
  )
  const one = async () => {
    const { connected, error } = await outcomeOf(t, rig, { address: LOOPBACK, port: echo })
    t.is(error, undefined)
    t.is(await read(rig, connected!, 5), 'hello')
  }
  await one()
  await a.close()
  for (let round = 0; round < 10; round++) await one()
  t.is(b.counters.connects, 10)
  await until(() => lines.includes('group member down a b'), 'its line')
  const again = await startSocksServer({ port: a.port })
  t.teardown(() => again.close())
  await until(() => lines.includes('group member up a a'), 'the first again')
  await one()
  t.is(again.counters.connects, 1)
  t.is(lines.filter(line => line.startsWith('group')).length, 2)
})
