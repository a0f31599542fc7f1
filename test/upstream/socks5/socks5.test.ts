import test from 'ava'
import { formatEndpoint, parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { ProxyOptions } from '../../../src/options.ts'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { closedPort, until } from '../../helpers/sockets.ts'
import { DEST, DEST6, dial, GREETED, OK, open, outcomeOf, REFUSALS, read } from '../rig.ts'

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

test('socks5: a name goes to the proxy as it is', async t => {
  const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 18 }, { send: OK }])
  t.teardown(() => bad.close())
  const { connected } = await outcomeOf(t, open(t, bad.port), { name: 'example.org', port: 443 })
  t.truthy(connected)
  t.deepEqual([...bad.received[0]!.subarray(3)], [5, 1, 0, 3, 11, ...Buffer.from('example.org'), 1, 0xbb])
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

for (const [reply, failure] of REFUSALS)
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
  const bad = await startBadSocks(n => (n < 2 || n > 5 ? [...GREETED, { send: OK }] : [{ expect: 3 }, 'reset']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, log as never)
  for (let count = 0; count < 8; count++) await outcomeOf(t, rig)
  t.deepEqual(told, ['upstream up', 'upstream down', 'upstream up'])
  const { handshakes, handshake_failures, handshake_fallbacks } = rig.dialer.counters()
  t.deepEqual([handshakes, handshake_failures, handshake_fallbacks], [8, 4, 0])
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
  await rig.proxy.ready()
  // localhost may be ::1 first, where nobody listens: then the next address is tried by the next dial
  const first = await outcomeOf(t, rig)
  const connected = first.connected ?? (await outcomeOf(t, rig)).connected
  t.truthy(connected)
})

test('socks5: a name that does not exist is a proxy that is down, not a crash', async t => {
  const rig = open(t, 1080, { host: 'no-such-host.invalid' })
  await rig.proxy.ready()
  const { error } = await outcomeOf(t, rig)
  t.is(error!.failure, 'upstream-down')
})

test.after('socks5: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0, formatEndpoint(DEST))
})
