/** Each fault of a proxy ends a dial with its own reason, which tells what to do where that is known. */
import test from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { ProxyOptions } from '../../../src/options.ts'
import type { DialFailure } from '../../../src/upstream/dialer.ts'
import { startBadSocks } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { type Fault, filler, REPLIES, scriptOf } from '../../helpers/socks-faults.ts'
import { dial, open, outcomeOf, read, silent } from '../rig.ts'

const USER = { username: 'me', password: 's3cret-w0rd' }
const NOT_SOCKS5 = 'the proxy does not speak SOCKS5 (its first byte is'

const ends: readonly (readonly [Fault, DialFailure, string, Partial<ProxyOptions>?])[] = [
  [['accept and close'], 'upstream-down', 'the proxy closed the connection before its choice of a method'],
  [
    ['accept and reset'],
    'upstream-down',
    'the proxy broke off the connection (ECONNRESET) before its choice of a method',
  ],
  [['http'], 'upstream-down', `${NOT_SOCKS5} 0x48): this is an HTTP proxy, or a web server?`],
  [['ssh'], 'upstream-down', `${NOT_SOCKS5} 0x53): this is an SSH server?`],
  [['tls'], 'upstream-down', `${NOT_SOCKS5} 0x15): it wants TLS?`],
  [['socks4'], 'upstream-down', `${NOT_SOCKS5} 0x00): it speaks SOCKS4 alone?`],
  [['version of the method', 0], 'upstream-down', `${NOT_SOCKS5} 0x00): is this the right port?`],
  [['version of the method', 4], 'upstream-down', `${NOT_SOCKS5} 0x04): is this the right port?`],
  [['version of the verdict', 5], 'upstream-down', "the proxy's answer is malformed (it begins with 0500)", USER],
  [['version of the reply', 4], 'upstream-down', "the proxy's answer is malformed (it begins with 0400"],
  [['address type of the reply', 2], 'upstream-down', "the proxy's answer is malformed (it begins with 05000002"],
  [['method', 2], 'authentication', 'the proxy wants a user name and a password: none is configured'],
  [['method', 255], 'authentication', 'the proxy wants a user name and a password: none'],
  [['method', 255], 'authentication', 'the proxy accepts neither user name and password nor a client without', USER],
  [['method', 1], 'authentication', 'the proxy chose a method that was not offered to it (1)'],
  [['method', 128], 'authentication', 'the proxy chose a method that was not offered to it (128)', USER],
  [
    ['password refused'],
    'authentication',
    'the proxy refused the user name or the password: check both in the configuration',
    USER,
  ],
  [['reset before the reply'], 'upstream-down', 'the proxy broke off the connection (ECONNRESET) before its reply'],
]

for (const [fault, failure, message, more] of ends)
  for (const handshake of ['strict', 'auto'] as const)
    test(`faults: ${handshake}: ${fault.join(' ')}${more ? ', with a password' : ''}: its own reason`, async t => {
      const bad = await startBadSocks(scriptOf(fault))
      t.teardown(() => bad.close())
      const rig = open(t, bad.port, more, silent, { handshake })
      const { error } = await outcomeOf(t, rig)
      t.is(error!.failure, failure)
      t.true(error!.message.startsWith(message), error!.message)
      t.false(error!.message.includes(USER.password))
      await until(() => bad.left() === bad.received.length, 'the end of its connections')
    })

const messages: readonly (readonly [string, number, (bytes: number) => Fault, Partial<ProxyOptions>?])[] = [
  ['choice of a method', 2, bytes => ['end in the method', bytes]],
  ['answer to user name and password', 2, bytes => ['end in the verdict', bytes], USER],
  ...(['IPv4', 'IPv6', 'name'] as const).map(form => {
    const fault = (bytes: number): Fault => ['end in the reply', form, bytes]
    return ['reply to the request', REPLIES[form].length, fault] as const
  }),
]

for (const [what, length, fault, more] of messages)
  for (let bytes = 0; bytes < length; bytes++)
    test(`faults: ${fault(bytes).join(' ')}: its own reason`, async t => {
      const bad = await startBadSocks(scriptOf(fault(bytes)))
      t.teardown(() => bad.close())
      const { error } = await outcomeOf(t, open(t, bad.port, more))
      t.is(error!.failure, 'upstream-down')
      t.is(error!.message, `the proxy closed the connection ${bytes === 0 ? 'before' : 'within'} its ${what}`)
      await until(() => bad.left() === 1, 'the end of its connection')
    })

const silences: readonly (readonly [Fault, RegExp, boolean, Partial<ProxyOptions>?])[] = [
  [['silent'], /accepted the connection and says nothing: is it a SOCKS5 proxy/, true],
  [['silent after the greeting'], /accepted the connection and says nothing/, true],
  [['silent after the password'], /does not say whether it accepts user name and password/, true, USER],
  [['silent after the request'], /has not answered the request: its destination does not answer, perhaps/, false],
  [['drip', 200], /has not answered the request/, false],
]

for (const [fault, reason, isDown, more] of silences)
  test(`faults: ${fault.join(' ')}: what it waited for is told when the time is over`, async t => {
    const told: string[] = []
    const log = { info: (text: string) => told.push(text), warn: (text: string) => told.push(text) }
    const bad = await startBadSocks(scriptOf(fault))
    t.teardown(() => bad.close())
    const { outcome, dial: started } = dial(t, open(t, bad.port, more, log as never))
    const wanted = { silent: 3, drip: 13, 'silent after the greeting': 3 }[fault[0] as string] ?? (more ? 20 : 13)
    await until(() => (bad.received[0]?.length ?? 0) >= wanted, 'what it is asked')
    const { failure, message } = started.expire()
    t.is(failure, 'timeout')
    t.regex(message, reason)
    await until(() => bad.left() === 1, 'the end of its connection')
    t.is(outcome.calls, 0)
    t.deepEqual(told, isDown ? ['upstream down'] : [])
  })

test('faults: one that is mute towards one dial and answers others is not down', async t => {
  const told: string[] = []
  const log = { info: (text: string) => told.push(text), warn: (text: string) => told.push(text) }
  const bad = await startBadSocks(n => scriptOf(n === 0 ? ['silent'] : ['sound']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, log as never)
  const mute = dial(t, rig)
  await until(() => bad.received.length === 1, 'the first')
  t.truthy((await outcomeOf(t, rig)).connected)
  mute.dial.expire()
  t.deepEqual(told, ['upstream up'])
})

for (const form of ['IPv4', 'IPv6', 'name'] as const)
  test(`faults: BND.ADDR of a stream may be anything: ${form}`, async t => {
    const bad = await startBadSocks(scriptOf(['bound', form]))
    t.teardown(() => bad.close())
    t.truthy((await outcomeOf(t, open(t, bad.port))).connected)
  })

for (const last of ['silence', 'end', 'reset'] as const)
  test(`faults: ${last} glued behind data that is glued behind the reply: the data comes first`, async t => {
    const bad = await startBadSocks(scriptOf(['glued', 3_000, last]))
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { connected, error } = await outcomeOf(t, rig)
    t.is(error, undefined)
    t.is(await read(rig, connected!, 3_000), Buffer.from(filler(3_000)).toString())
  })

for (const code of [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x80, 0xff])
  test(`faults: a hundred replies ${code}: each with its number, one log line`, async t => {
    const told: string[] = []
    const log = { info: (text: string) => told.push(text), warn: (text: string) => told.push(text) }
    const bad = await startBadSocks(scriptOf(['reply', code]))
    t.teardown(() => bad.close())
    const rig = open(t, bad.port, {}, log as never, { handshake: 'auto', pool: 16 })
    for (let done = 0; done < 100; done += 20) {
      const outcomes = Array.from({ length: 20 }, () => dial(t, rig).outcome)
      await until(() => outcomes.every(({ calls }) => calls === 1), 'an answer to all')
      for (const { error } of outcomes) t.regex(error!.message, new RegExp(`answered ${code} \\(`))
    }
    t.deepEqual(told, ['upstream up'])
  })

for (const fault of [['accept and close'], ['accept and reset'], ['reset before the reply']] as const)
  test(`faults: ${fault}, for every second dial: no line but the first`, async t => {
    const told: string[] = []
    const log = { info: (text: string) => told.push(text), warn: (text: string) => told.push(text) }
    const bad = await startBadSocks(n => scriptOf(n % 2 === 0 ? ['sound'] : [...fault]))
    t.teardown(() => bad.close())
    const rig = open(t, bad.port, {}, log as never)
    for (let count = 0; count < 40; count++) {
      const { connected, error } = await outcomeOf(t, rig)
      t.is(connected === undefined, count % 2 === 1)
      t.is(error?.failure, count % 2 === 1 ? 'upstream-down' : undefined)
    }
    t.deepEqual(told, ['upstream up'])
  })

test.after.always('faults: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
