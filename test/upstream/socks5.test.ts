import test, { type ExecutionContext } from 'ava'
import { formatEndpoint, parseAddress } from '../../src/endpoint.ts'
import { addon } from '../../src/io/addon.ts'
import { Poller } from '../../src/io/poller.ts'
import type { ProxyOptions } from '../../src/options.ts'
import type { Association, Connected, DatagramFields, DialError } from '../../src/upstream/dialer.ts'
import { Socks5Dialer } from '../../src/upstream/socks5.ts'
import { type Step, startBadSocks } from '../helpers/bad-socks.ts'
import { closedPort, udpEnd, until } from '../helpers/sockets.ts'

const MEMORY = 1 << 20
const SCRATCH = 4096
const DATA = 65_536

const silent = { info() {}, warn() {} }
const DEST = { address: parseAddress('203.0.113.7')!, port: 443 }
const DEST6 = { address: parseAddress('2001:db8::7')!, port: 443 }
const OK = [5, 0, 0, 1, 10, 0, 0, 1, 0x1f, 0x90]
const GREETED: readonly Step[] = [{ expect: 3 }, { send: [5, 0] }, { expect: 10 }]

function open(t: ExecutionContext, port: number, more: Partial<ProxyOptions> = {}, log = silent) {
  const memory = new ArrayBuffer(MEMORY)
  const bytes = new Uint8Array(memory)
  const words = new Uint32Array(memory)
  const failures: unknown[] = []
  const poller = new Poller(
    memory,
    () => {},
    error => failures.push(error),
  )
  const arena = { bytes, words, scratch: SCRATCH, scratchBytes: 4096 }
  const options = { host: '127.0.0.1', port, ...more }
  const dialer = new Socks5Dialer(poller, arena, options, { interface: '', mark: 0 }, log)
  t.teardown(() => {
    poller.close()
    if (failures.length > 0) throw failures[0]
  })
  return { dialer, poller, bytes, words }
}

type Rig = ReturnType<typeof open>
type Outcome = { connected?: Connected; error?: DialError; calls: number }

function dial(t: ExecutionContext, { dialer }: Rig, destination = DEST) {
  const outcome: Outcome = { calls: 0 }
  const started = dialer.connect(destination, {
    onConnected(connected) {
      outcome.calls++
      outcome.connected = connected
      connected.socket.handOver({ onReady() {} })
      t.teardown(() => connected.socket.close())
    },
    onFailed(error) {
      outcome.calls++
      outcome.error = error
    },
  })
  return { outcome, dial: started }
}

async function outcomeOf(t: ExecutionContext, rig: Rig, destination = DEST): Promise<Outcome> {
  const { outcome } = dial(t, rig, destination)
  await until(() => outcome.calls > 0, 'an outcome')
  t.is(outcome.calls, 1)
  return outcome
}

/** Bytes that the upstream sent behind the handshake, `early` ones included. */
async function read(rig: Rig, { socket, early }: Connected, length: number): Promise<string> {
  let text = Buffer.from(early ?? []).toString()
  await until(() => {
    rig.words.set([DATA, 1000], SCRATCH / 4)
    const got = rig.poller.io.readv(socket.fd, SCRATCH, 1)
    if (got > 0) text += Buffer.from(rig.bytes.slice(DATA, DATA + got)).toString()
    return text.length >= length
  }, 'the bytes')
  return text
}

const replies: readonly [string, number[]][] = [
  ['IPv4', OK],
  ['IPv6', [5, 0, 0, 4, ...parseAddress('2001:db8::1')!, 1, 2]],
  ['name', [5, 0, 0, 3, 5, ...Buffer.from('a.org'), 1, 2]],
]

for (const [name, reply] of replies)
  for (let piece = 1; piece <= reply.length; piece++)
    test(`socks5: a reply with an ${name} address, in pieces of ${piece}`, async t => {
      const script = [{ expect: 3 }, { send: [5, 0], piece }, { expect: 10 }, { send: reply, piece }]
      const bad = await startBadSocks(script)
      t.teardown(() => bad.close())
      const { connected, error } = await outcomeOf(t, open(t, bad.port))
      t.is(error, undefined)
      t.truthy(connected)
      t.deepEqual([...bad.received[0]!], [5, 1, 0, 5, 1, 0, 1, 203, 0, 113, 7, 1, 0xbb])
    })

for (const piece of [1, 3, 7, 11, 100])
  test(`socks5: bytes behind the reply are the client's first, in pieces of ${piece}`, async t => {
    const words = 'SSH-2.0-server'
    const bad = await startBadSocks([...GREETED, { send: [...OK, ...Buffer.from(words)], piece }])
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { connected } = await outcomeOf(t, rig)
    t.is(await read(rig, connected!, words.length), words)
  })

test('socks5: an IPv6 destination', async t => {
  const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 22 }, { send: OK }])
  t.teardown(() => bad.close())
  const { connected } = await outcomeOf(t, open(t, bad.port), DEST6)
  t.truthy(connected)
  t.deepEqual([...bad.received[0]!.subarray(3)], [5, 1, 0, 4, ...DEST6.address, 1, 0xbb])
})

for (const [username, password] of [
  ['u', 'p'],
  ['user', 'pä ss:@/'],
  ['u'.repeat(255), 'p'.repeat(255)],
] as const)
  test(`socks5: user and password of ${username.length} and ${password.length} characters`, async t => {
    const [u, p] = [Buffer.from(username), Buffer.from(password)]
    const auth = 3 + u.length + p.length
    const script: Step[] = [
      { expect: 4 },
      { send: [5, 2] },
      { expect: auth },
      { send: [1, 0], piece: 1 },
      { expect: 10 },
      { send: OK },
    ]
    const bad = await startBadSocks(script)
    t.teardown(() => bad.close())
    const { connected } = await outcomeOf(t, open(t, bad.port, { username, password }))
    t.truthy(connected)
    const sent = bad.received[0]!
    t.deepEqual([...sent.subarray(0, 2)], [5, 2])
    t.deepEqual([...sent.subarray(2, 4)].sort(), [0, 2])
    t.deepEqual([...sent.subarray(4, 4 + auth)], [1, u.length, ...u, p.length, ...p])
  })

const user = { username: 'me', password: 's3cret-w0rd' }
const failing: readonly [string, readonly Step[], DialError['failure'], Partial<ProxyOptions>?][] = [
  ['a proxy that wants a password and gets none', [{ expect: 3 }, { send: [5, 0xff] }, 'end'], 'authentication'],
  ['a proxy that accepts no method', [{ expect: 4 }, { send: [5, 0xff] }, 'end'], 'authentication', user],
  ['a method that was not offered', [{ expect: 3 }, { send: [5, 0x80] }], 'authentication'],
  ['the password method although no password is known', [{ expect: 3 }, { send: [5, 2] }], 'authentication'],
  [
    'a wrong password',
    [{ expect: 4 }, { send: [5, 2] }, { expect: 16 }, { send: [1, 1] }, 'end'],
    'authentication',
    user,
  ],
  ['SOCKS4', [{ expect: 3 }, { send: [4, 0] }], 'upstream-down'],
  [
    'an HTTP server',
    [{ expect: 3 }, { send: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }, 'end'],
    'upstream-down',
  ],
  ['the end before the method', ['end'], 'upstream-down'],
  ['the end within the method', [{ expect: 3 }, { send: [5] }, 'end'], 'upstream-down'],
  ['the end before the reply', [...GREETED, 'end'], 'upstream-down'],
  ['the end within the reply', [...GREETED, { send: OK.slice(0, 9) }, 'end'], 'upstream-down'],
  ['a reset before the method', [{ expect: 3 }, 'reset'], 'upstream-down'],
  ['a reset before the reply', [...GREETED, 'reset'], 'upstream-down'],
  ['a reply of another version', [...GREETED, { send: [4, 0, 0, 1, 0, 0, 0, 0, 0, 0] }], 'upstream-down'],
  ['an address type that is none', [...GREETED, { send: [5, 0, 0, 9, 0, 0, 0, 0, 0, 0] }], 'upstream-down'],
  ['a reply before the request', [{ expect: 3 }, { send: [5, 0, ...OK] }], 'upstream-down'],
]

for (const [name, script, failure, more] of failing)
  test(`socks5: fails, with its reason and without secrets: ${name}`, async t => {
    const bad = await startBadSocks(script)
    t.teardown(() => bad.close())
    const { error, connected } = await outcomeOf(t, open(t, bad.port, more))
    t.is(connected, undefined)
    t.is(error!.failure, failure)
    t.true(error!.message.length > 10)
    t.false(error!.message.includes(user.password))
    await until(() => bad.left() === 1, 'the end of the connection')
  })

for (const [reply, failure] of [
  [1, 'general'],
  [2, 'prohibited'],
  [3, 'net-unreachable'],
  [4, 'host-unreachable'],
  [5, 'refused'],
  [6, 'ttl-expired'],
  [7, 'unsupported'],
  [8, 'unsupported'],
  [9, 'general'],
  [255, 'general'],
] as const)
  for (const [form, bytes] of [
    ['whole', [5, reply, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['cut after its code', [5, reply]],
  ] as const)
    test(`socks5: reply ${reply} is ${failure}, ${form}`, async t => {
      const bad = await startBadSocks([...GREETED, { send: bytes }, 'end'])
      t.teardown(() => bad.close())
      const { error } = await outcomeOf(t, open(t, bad.port))
      t.is(error!.failure, failure)
      t.true(error!.message.includes(String(reply)))
    })

test('socks5: nobody listens', async t => {
  const { error } = await outcomeOf(t, open(t, await closedPort()))
  t.is(error!.failure, 'upstream-down')
  t.regex(error!.message, /ECONNREFUSED/)
})

for (const [name, script] of [
  ['before the method', ['silence']],
  ['before the reply', [...GREETED, 'silence']],
] as const)
  test(`socks5: cancel ${name}: the connection ends, nothing is called`, async t => {
    const bad = await startBadSocks(script)
    t.teardown(() => bad.close())
    const { outcome, dial: started } = dial(t, open(t, bad.port))
    await until(() => bad.live() === 1, 'the connection')
    await until(() => (bad.received[0]?.length ?? 0) >= (name === 'before the reply' ? 13 : 3), 'its bytes')
    started.cancel()
    started.cancel()
    await until(() => bad.left() === 1, 'the end')
    t.is(outcome.calls, 0)
  })

test('socks5: up and down are each told once a change', async t => {
  const told: string[] = []
  const log = { info: (text: string) => told.push(text), warn: (text: string) => told.push(text) }
  const bad = await startBadSocks(n => (n < 2 || n > 3 ? [...GREETED, { send: OK }] : [{ expect: 3 }, 'reset']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, log as never)
  for (let count = 0; count < 6; count++) await outcomeOf(t, rig)
  t.deepEqual(told, ['upstream up', 'upstream down', 'upstream up'])
  t.deepEqual(rig.dialer.counters(), { handshakes: 6, handshake_failures: 2 })
})

test('socks5: isUpstream knows the proxy by address and port', t => {
  const { dialer } = open(t, 1080)
  t.true(dialer.isUpstream({ address: parseAddress('127.0.0.1')!, port: 1080 }))
  t.false(dialer.isUpstream({ address: parseAddress('127.0.0.1')!, port: 1081 }))
  t.false(dialer.isUpstream({ address: parseAddress('127.0.0.2')!, port: 1080 }))
  t.false(dialer.isUpstream({ address: parseAddress('::1')!, port: 1080 }))
})

test('socks5: a name is looked up before the first dial', async t => {
  const bad = await startBadSocks([...GREETED, { send: OK }])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, { host: 'localhost' })
  await rig.dialer.ready()
  // localhost may be ::1 first, where nobody listens: then the next address is tried by the next dial
  const first = await outcomeOf(t, rig)
  const connected = first.connected ?? (await outcomeOf(t, rig)).connected
  t.truthy(connected)
})

test('socks5: a name that does not exist is a proxy that is down, not a crash', async t => {
  const rig = open(t, 1080, { host: 'no-such-host.invalid' })
  await rig.dialer.ready()
  const { error } = await outcomeOf(t, rig)
  t.is(error!.failure, 'upstream-down')
})

// ---- UDP ASSOCIATE ----

type Heard = { associated: number; failed: DialError[]; datagrams: number }

function associate(t: ExecutionContext, { dialer }: Rig) {
  const heard: Heard = { associated: 0, failed: [], datagrams: 0 }
  const association: Association = dialer.associate({
    onAssociated: () => heard.associated++,
    onAssociationFailed: error => heard.failed.push(error),
    onDatagrams: () => heard.datagrams++,
  })
  t.teardown(() => association.close())
  return { association, heard }
}

const relayReply = (address: Uint8Array, port: number) => [
  5,
  0,
  0,
  address.length === 4 ? 1 : 4,
  ...address,
  port >> 8,
  port & 255,
]

const relays: readonly [string, (port: number) => number[], string, number][] = [
  ['its own address', port => relayReply(parseAddress('127.0.0.1')!, port), '127.0.0.1', 65_507],
  ['0.0.0.0: the address of the proxy', port => relayReply(new Uint8Array(4), port), '127.0.0.1', 65_507],
  [':: : the address of the proxy', port => relayReply(new Uint8Array(16), port), '127.0.0.1', 65_507],
  ['another address', port => relayReply(parseAddress('127.0.0.9')!, port), '127.0.0.9', 65_507],
  ['an IPv6 address', port => relayReply(parseAddress('::1')!, port), '::1', 65_527],
  ['a name', port => [5, 0, 0, 3, 9, ...Buffer.from('127.0.0.1'), port >> 8, port & 255], '127.0.0.1', 65_507],
]

for (const [name, reply, host, maxBytes] of relays)
  test(`socks5: the relay is at ${name}`, async t => {
    const relay = await udpEnd(t, host)
    const bad = await startBadSocks([...GREETED, { send: reply(relay.port) }, 'silence'])
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { association, heard } = associate(t, rig)
    await until(() => heard.associated === 1, 'the association')
    t.is(association.maxBytes, maxBytes)
    t.deepEqual([...bad.received[0]!.subarray(3)], [5, 3, 0, 1, 0, 0, 0, 0, 0, 0])

    rig.bytes.set(DEST.address, SCRATCH)
    const header = association.writeHeader(DATA, SCRATCH, 4, 443)
    t.is(header, 10)
    rig.bytes.set(Buffer.from('hi'), DATA + header)
    rig.words.set([0, 1, 0, DATA, header + 2], SCRATCH / 4)
    t.is(rig.poller.io.sendDatagrams(association.socket!.fd, SCRATCH, SCRATCH + 12, 1), 1)
    const { message, peer } = await relay.next()
    t.deepEqual([...message], [0, 0, 0, 1, 203, 0, 113, 7, 1, 0xbb, ...Buffer.from('hi')])

    relay.send(message, peer.port)
    await until(() => heard.datagrams > 0, 'the answer')
    if (host !== '127.0.0.1') return
    const stranger = await udpEnd(t)
    const before = receive(rig, association)
    t.is(before, message.length)
    stranger.send(Uint8Array.of(0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 9), peer.port)
    relay.send(Uint8Array.of(0, 0, 0, 1, 2, 2, 2, 2, 0, 1), peer.port)
    const got: number[] = []
    await until(() => got.push(receive(rig, association)) > 0 && got.at(-1)! > 0, 'the next answer')
    t.is(got.at(-1), 10, 'the stranger is not heard')
  })

/** The length of the next datagram from the relay, 0 when there is none. */
function receive(rig: Rig, association: Association): number {
  rig.words.set([DATA, 0], SCRATCH / 4)
  const got = rig.poller.io.recvDatagrams(association.socket!.fd, SCRATCH, 1, 65_536)
  return got === 1 ? rig.words[SCRATCH / 4 + 1]! : 0
}

test('socks5: datagrams from the relay: IPv4, IPv6, and what is dropped', async t => {
  const relay = await udpEnd(t)
  const bad = await startBadSocks([...GREETED, { send: relayReply(parseAddress('127.0.0.1')!, relay.port) }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const { association, heard } = associate(t, rig)
  await until(() => heard.associated === 1, 'the association')
  const fields: DatagramFields = { family: 0 as 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  const parse = (...bytes: number[]) => {
    rig.bytes.set(bytes, DATA)
    return association.parseDatagram(DATA, bytes.length, fields)
  }
  t.true(parse(0, 0, 0, 1, 192, 0, 2, 1, 0, 53, 7, 8))
  t.deepEqual(fields, { family: 4, sourceAt: DATA + 4, port: 53, payloadAt: DATA + 10, payloadBytes: 2 })
  t.true(parse(0, 0, 0, 4, ...DEST6.address, 1, 0))
  t.deepEqual(fields, { family: 6, sourceAt: DATA + 4, port: 256, payloadAt: DATA + 22, payloadBytes: 0 })
  t.false(parse(0, 0, 1, 1, 192, 0, 2, 1, 0, 53, 7), 'FRAG')
  t.false(parse(0, 0, 0, 3, 1, 97, 0, 53, 7), 'a name')
  t.false(parse(0, 0, 0, 2, 192, 0, 2, 1, 0, 53), 'no address type')
  for (let length = 0; length < 10; length++) t.false(parse(...[0, 0, 0, 1, 192, 0, 2, 1, 0, 53].slice(0, length)))
  for (let length = 0; length < 22; length++) t.false(parse(...[0, 0, 0, 4, ...DEST6.address, 1, 0].slice(0, length)))
})

for (const [name, last] of [
  ['its end', 'end'],
  ['its reset', 'reset'],
] as const)
  test(`socks5: the association ends with its control connection: ${name}`, async t => {
    const relay = await udpEnd(t)
    const reply = relayReply(parseAddress('127.0.0.1')!, relay.port)
    const bad = await startBadSocks([...GREETED, { send: reply }, { waitMs: 30 }, last])
    t.teardown(() => bad.close())
    const { association, heard } = associate(t, open(t, bad.port))
    await until(() => heard.failed.length === 1, 'the end')
    t.is(heard.associated, 1)
    t.is(heard.failed[0]!.failure, 'upstream-down')
    t.false(association.socket!.open)
  })

test('socks5: bytes on the control connection mean nothing', async t => {
  const relay = await udpEnd(t)
  const reply = relayReply(parseAddress('127.0.0.1')!, relay.port)
  const bad = await startBadSocks([
    ...GREETED,
    { send: reply },
    { waitMs: 10 },
    { send: [1, 2, 3] },
    { waitMs: 30 },
    'end',
  ])
  t.teardown(() => bad.close())
  const { heard } = associate(t, open(t, bad.port))
  await until(() => heard.failed.length === 1, 'the end')
  t.is(heard.associated, 1)
})

test('socks5: an association that the proxy refuses', async t => {
  const bad = await startBadSocks([...GREETED, { send: [5, 7, 0, 1, 0, 0, 0, 0, 0, 0] }, 'end'])
  t.teardown(() => bad.close())
  const { heard } = associate(t, open(t, bad.port))
  await until(() => heard.failed.length === 1, 'the refusal')
  t.is(heard.failed[0]!.failure, 'unsupported')
  t.is(heard.associated, 0)
})

test('socks5: close of an association closes both its sockets, and calls nothing', async t => {
  const relay = await udpEnd(t)
  const bad = await startBadSocks([...GREETED, { send: relayReply(parseAddress('127.0.0.1')!, relay.port) }, 'silence'])
  t.teardown(() => bad.close())
  const { association, heard } = associate(t, open(t, bad.port))
  await until(() => heard.associated === 1, 'the association')
  association.close()
  association.close()
  await until(() => bad.left() === 1, 'the end of the control connection')
  t.deepEqual(heard.failed, [])
  t.false(association.socket!.open)
})

test.after('socks5: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0, formatEndpoint(DEST))
})
