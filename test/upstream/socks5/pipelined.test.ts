import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { ProxyOptions } from '../../../src/options.ts'
import { type BadSocks, type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { associated, dial, GREETED, OK, open, outcomeOf, REFUSALS, REQUEST, read, silent } from '../rig.ts'

const USER = { username: 'me', password: 's3cret-w0rd' }
const AUTH = [1, 2, ...Buffer.from('me'), 11, ...Buffer.from('s3cret-w0rd')]
const STRICT_OK: readonly Step[] = [...GREETED, { send: OK }]
const USER_OK: readonly Step[] = [
  { expect: 4 },
  { send: [5, 2] },
  { expect: AUTH.length },
  { send: [1, 0] },
  { expect: 10 },
  { send: OK },
]
/** Answers when everything has come, and not before. */
const PIPELINED_OK: readonly Step[] = [{ expect: 13 }, { send: [5, 0, ...OK] }]
const PIPELINED_USER_OK: readonly Step[] = [{ expect: 13 + AUTH.length }, { send: [5, 2, 1, 0, ...OK] }]

/** A proxy that plays one script for each connection, the last for all further ones, and a dialer in `auto`. */
async function play(t: ExecutionContext, scripts: readonly (readonly Step[])[], more: Partial<ProxyOptions> = {}) {
  const bad = await startBadSocks(n => scripts[n] ?? scripts.at(-1)!)
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, more, silent, { handshake: 'auto' })
  return { bad, rig }
}

const sent = (bad: BadSocks) => bad.received.map(bytes => [...bytes])
const METHODS_STRICT = [5, 1, 0]

for (const [what, more, first, second, together] of [
  ['no password', {}, STRICT_OK, PIPELINED_OK, [5, 1, 0, ...REQUEST]],
  ['a password', USER, USER_OK, PIPELINED_USER_OK, [5, 1, 2, ...AUTH, ...REQUEST]],
  [
    'a password that the proxy does not ask for',
    USER,
    [{ expect: 4 }, ...STRICT_OK.slice(1)],
    PIPELINED_OK,
    [5, 1, 0, ...REQUEST],
  ],
] as const)
  test(`socks5 auto: strict first, then all in one write, with ${what}`, async t => {
    const { bad, rig } = await play(t, [first, second], more)
    for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
    t.is(bad.received.length, 3)
    t.deepEqual(sent(bad)[1], together)
    t.deepEqual(sent(bad)[2], together)
    t.is(rig.dialer.counters().handshake_fallbacks, 0)
  })

test('socks5 auto: a reply of many messages may be cut anywhere, with early data behind it', async t => {
  const words = 'SSH-2.0'
  for (const [more, first, head] of [
    [{}, STRICT_OK, [5, 0]],
    [USER, USER_OK, [5, 2, 1, 0]],
  ] as const) {
    const answer = [...head, ...OK, ...Buffer.from(words)]
    const wanted = 13 + ('username' in more ? AUTH.length : 0)
    const cuts = Array.from({ length: answer.length }, (_, cut): Step[] => [
      { expect: wanted },
      { send: answer.slice(0, cut) },
      { waitMs: 5 },
      { send: answer.slice(cut) },
    ])
    const { rig } = await play(t, [first, ...cuts, [{ expect: wanted }, { send: answer, piece: 1 }]], more)
    await outcomeOf(t, rig)
    for (let count = 0; count <= cuts.length; count++) {
      const { connected, error } = await outcomeOf(t, rig)
      t.is(error, undefined, `cut ${count}`)
      t.is(await read(rig, connected!, words.length), words, `cut ${count}`)
    }
    t.is(rig.dialer.counters().handshake_fallbacks, 0)
  }
})

const unfit: readonly [string, readonly Step[]][] = [
  ['closes', [{ expect: 13 }, 'end']],
  ['closes behind its method', [{ expect: 13 }, { send: [5, 0] }, { waitMs: 5 }, 'end']],
  ['closes within its reply', [{ expect: 13 }, { send: [5, 0, 5] }, 'end']],
  ['resets', [{ expect: 13 }, 'reset']],
  ['answers rubbish', [{ expect: 13 }, { send: Buffer.from('HTTP/1.1 400\r\n\r\n') }]],
  ['answers its method and then rubbish', [{ expect: 13 }, { send: [5, 0, 9, 9, 9, 9] }]],
  ['accepts no method', [{ expect: 13 }, { send: [5, 0xff] }, 'end']],
  ['throws away what follows the greeting', [{ expect: 3 }, 'forget', { send: [5, 0] }, { expect: 10 }, { send: OK }]],
  ['says nothing at all', ['silence']],
]

for (const [what, script] of unfit)
  test(`socks5 auto: a proxy that ${what}: strictly within the same dial, and from then on`, async t => {
    const { bad, rig } = await play(t, [STRICT_OK, script, STRICT_OK])
    for (let count = 0; count < 3; count++) {
      const { connected, error } = await outcomeOf(t, rig)
      t.is(error, undefined)
      t.true(connected!.socket.open)
    }
    t.is(bad.received.length, 4)
    t.is(rig.dialer.counters().handshake_fallbacks, 1)
    t.is(rig.dialer.counters().handshake_failures, 0)
    await until(() => bad.left() >= 1, 'the end of the one that failed')
  })

test('socks5 auto: a proxy that does not answer pipelined authentication', async t => {
  const refusing: readonly Step[] = [{ expect: 13 + AUTH.length }, { send: [5, 2, 1, 1] }, 'end']
  const { bad, rig } = await play(t, [USER_OK, refusing, USER_OK], USER)
  for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
  t.is(bad.received.length, 4)
})

for (const [what, first, other, otherOk, together] of [
  ['wants a password from now on', [{ expect: 4 }, ...STRICT_OK.slice(1)], USER_OK, PIPELINED_USER_OK, 2],
  ['wants no password any more', USER_OK, [{ expect: 4 }, ...STRICT_OK.slice(1)], PIPELINED_OK, 0],
] as const)
  test(`socks5 auto: a proxy that ${what}: its other method is learned`, async t => {
    const denied: readonly Step[] = [{ expect: 13 }, { send: [5, 0xff] }, 'end']
    const { bad, rig } = await play(t, [first, denied, other, otherOk], USER)
    for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
    t.deepEqual(sent(bad)[3]!.slice(0, 3), [5, 1, together])
  })

for (const [reply, failure] of REFUSALS)
  for (const handshake of ['auto', 'pipelined'] as const)
    test(`socks5 ${handshake}: reply ${reply} to all in one write is an answer: ${failure}`, async t => {
      const refusal: readonly Step[] = [{ expect: 13 }, { send: [5, 0, 5, reply] }, 'end']
      const scripts = handshake === 'auto' ? [STRICT_OK, refusal] : [refusal]
      const bad = await startBadSocks(n => scripts[n] ?? scripts.at(-1)!)
      t.teardown(() => bad.close())
      const rig = open(t, bad.port, {}, silent, { handshake })
      if (handshake === 'auto') await outcomeOf(t, rig)
      for (let count = 0; count < 2; count++) {
        const { error } = await outcomeOf(t, rig)
        t.is(error!.failure, failure)
        t.true(error!.message.includes(String(reply)))
      }
      t.is(bad.received.length, scripts.length + 1)
    })

test('socks5 auto: a slow destination is no proof: the first reply is taken, and the proxy stays as it is', async t => {
  const slow: readonly Step[] = [{ expect: 13 }, { send: [5, 0] }, { waitMs: 1_800 }, { send: OK }]
  const { bad, rig } = await play(t, [STRICT_OK, slow, [...GREETED, 'silence'], PIPELINED_OK])
  for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
  t.deepEqual(sent(bad)[3], [5, 1, 0, ...REQUEST])
  t.is(rig.dialer.counters().handshake_fallbacks, 1)
  await until(() => bad.left() === 1, 'the end of the strict one')
})

test('socks5 auto: while others have their replies, one that waits is not dialed again', async t => {
  const { bad, rig } = await play(t, [
    STRICT_OK,
    PIPELINED_OK,
    [{ expect: 13 }, { send: [5, 0] }, 'silence'],
    PIPELINED_OK,
  ])
  for (let count = 0; count < 2; count++) await outcomeOf(t, rig)
  const { outcome, dial: waiting } = dial(t, rig)
  await until(() => bad.received.length === 3, 'the one that waits')
  for (const until = Date.now() + 2_500; Date.now() < until; ) await outcomeOf(t, rig)
  t.is(rig.dialer.counters().handshake_fallbacks, 0)
  t.is(outcome.calls, 0)
  waiting.cancel()
})

test('socks5 auto: a proxy that has coped is not asked twice for a slow destination', async t => {
  const slow: readonly Step[] = [{ expect: 13 }, { send: [5, 0] }, { waitMs: 2_500 }, { send: OK }]
  const { bad, rig } = await play(t, [STRICT_OK, PIPELINED_OK, slow, PIPELINED_OK])
  for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
  t.is(bad.received.length, 3, 'the destination saw one connection')
  t.is(rig.dialer.counters().handshake_fallbacks, 0)
})

test('socks5 auto: when the strict one fails too its reason is told, and nothing is learned', async t => {
  const closing: readonly Step[] = [{ expect: 13 }, 'end']
  const { bad, rig } = await play(t, [STRICT_OK, PIPELINED_OK, closing, [{ expect: 3 }, 'end'], PIPELINED_OK])
  for (let count = 0; count < 2; count++) await outcomeOf(t, rig)
  const { error } = await outcomeOf(t, rig)
  t.is(error!.failure, 'upstream-down')
  t.truthy((await outcomeOf(t, rig)).connected)
  t.deepEqual(sent(bad)[4], [5, 1, 0, ...REQUEST])
})

test('socks5 auto: a wrong password is told, and stands in no message and no log line', async t => {
  const said: unknown[] = []
  const log = { info: (...line: unknown[]) => said.push(line), warn: (...line: unknown[]) => said.push(line) }
  const refusing = (offer: number): readonly Step[] => [{ expect: offer + AUTH.length }, { send: [5, 2, 1, 1] }, 'end']
  const strictly: readonly Step[] = [{ expect: 4 }, { send: [5, 2] }, { expect: AUTH.length }, { send: [1, 1] }, 'end']
  const bad = await startBadSocks(n => [USER_OK, refusing(13), strictly][n] ?? strictly)
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, USER, log as never, { handshake: 'auto' })
  await outcomeOf(t, rig)
  const { error } = await outcomeOf(t, rig)
  t.is(error!.failure, 'authentication')
  t.false(JSON.stringify([said, error]).includes(USER.password))
  t.is(said.length, 2, 'up and down')
})

test('socks5 auto: cancel ends both connections, and nothing is called', async t => {
  const { bad, rig } = await play(t, [STRICT_OK, [{ expect: 13 }, 'silence'], ['silence']])
  await outcomeOf(t, rig)
  const { outcome, dial: started } = dial(t, rig)
  await until(() => bad.received.length === 3, 'the strict one beside it')
  started.cancel()
  started.cancel()
  await until(() => bad.left() === 2, 'the end of both')
  t.is(outcome.calls, 0)
})

test('socks5 pipelined: always, and what fails is told', async t => {
  const bad = await startBadSocks([{ expect: 13 + AUTH.length }, 'end'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, USER, silent, { handshake: 'pipelined' })
  for (let count = 0; count < 2; count++) t.is((await outcomeOf(t, rig)).error!.failure, 'upstream-down')
  t.deepEqual(sent(bad), [
    [5, 1, 2, ...AUTH, ...REQUEST],
    [5, 1, 2, ...AUTH, ...REQUEST],
  ])
})

test('socks5 strict: never in one write, however often it went well', async t => {
  const bad = await startBadSocks([{ expect: 3 }, 'forget', { send: [5, 0] }, { expect: 10 }, { send: OK }])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  for (let count = 0; count < 3; count++) t.truthy((await outcomeOf(t, rig)).connected)
  t.deepEqual(sent(bad)[2]!.slice(0, 3), METHODS_STRICT)
})

test('socks5 auto: associations learn, go in one write, and fall back', async t => {
  const relay = await udpEnd(t)
  const reply = [5, 0, 0, 1, 127, 0, 0, 1, relay.port >> 8, relay.port & 255]
  const strictly: readonly Step[] = [...GREETED, { send: reply }, 'silence']
  const together: readonly Step[] = [{ expect: 13 }, { send: [5, 0, ...reply] }, 'silence']
  const { bad, rig } = await play(t, [strictly, together, [{ expect: 13 }, 'end'], strictly])
  for (let count = 1; count <= 3; count++) {
    const association = await associated(t, rig)
    association.close()
  }
  t.is(bad.received.length, 4)
  t.deepEqual(sent(bad)[1], [5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
})

test.after.always('socks5 pipelined: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
