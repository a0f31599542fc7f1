/** A password that the proxy refuses is not shown to it again and again; docs/truthful-connect.md says what clients get. */
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { type Asker, Authentication, authenticationCells } from '../../../src/upstream/proxy/authentication.ts'
import { type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { CLIENT, DEST, dial, OK, open, outcomeOf, SCRATCH, silent } from '../rig.ts'

const USER = { username: 'me', password: 's3cret-w0rd' }
const PROXY = { host: '192.0.2.1', port: 1080, ...USER, isPerSource: false }

class Dialing implements Asker {
  readonly #laterTurns: (() => void)[]
  said: 'waits' | 'started' | DialError = 'waits'
  constructor(laterTurns: (() => void)[]) {
    this.#laterTurns = laterTurns
  }
  start() {
    this.said = 'started'
  }
  refuse(error: DialError) {
    this.said = error
  }
  later(work: () => void) {
    this.#laterTurns.push(work)
  }
}

/** Half a second before the clock of the cells begins anew. */
const START = 2 ** 31 - 500

function rig(proxy = PROXY, cells = authenticationCells(), clock = { now: START }) {
  const authentication = new Authentication(proxy, cells, () => clock.now)
  const laterTurns: (() => void)[] = []
  const admit = () => {
    const one = new Dialing(laterTurns)
    authentication.admit(one)
    return one
  }
  const turn = () => {
    for (const work of laterTurns.splice(0)) work()
  }
  return { clock, authentication, admit, turn }
}

const messageOf = ({ said }: Dialing) => (typeof said === 'string' ? said : said.message)

test('authentication: until it was accepted one shows the password, and the others wait', t => {
  const { authentication, admit, turn } = rig()
  const [first, ...others] = [admit(), admit(), admit()]
  t.is(first!.said, 'started')
  authentication.accepted()
  for (const other of others) t.is(other.said, 'waits', 'for a turn of its own')
  turn()
  for (const other of others) t.is(other.said, 'started')
  t.is(admit().said, 'started')
})

test('authentication: a denial is the answer to all that wait, and to those of the pause', t => {
  const { authentication, clock, admit, turn } = rig()
  const [first, second] = [admit(), admit()]
  authentication.denied()
  authentication.left(first)
  t.is(second.said, 'waits', 'for a turn of its own')
  turn()
  t.is((second.said as DialError).failure, 'authentication')
  t.is(messageOf(second), 'the proxy has not accepted user name and password; it is asked again in 1 s')
  clock.now = START + 999
  t.is(messageOf(admit()), messageOf(second))
  clock.now = START + 1000
  t.is(admit().said, 'started', 'one asks again')
  t.regex(messageOf(admit()), /it is being asked again/)
})

test('authentication: pauses grow from 1 s to 30 s, and one that is accepted ends them', t => {
  const { authentication, clock, admit } = rig()
  const pauses: number[] = []
  while (pauses.length < 8) {
    const asker = admit()
    t.is(asker.said, 'started')
    authentication.denied()
    authentication.denied() // of a dial that was under way
    authentication.left(asker)
    const from = clock.now
    for (let next = admit(); ; next = admit()) {
      authentication.left(next)
      if (next.said === 'started') break
      clock.now += 500
    }
    pauses.push(clock.now - from)
  }
  t.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000])
  authentication.accepted()
  t.is(admit().said, 'started')
  t.is(admit().said, 'started')
  authentication.denied()
  clock.now += 1000
  t.is(admit().said, 'started', 'the next pause is the first again')
})

test('authentication: nobody waits longer than a second for one that hears nothing', t => {
  const { authentication, clock, admit, turn } = rig()
  admit()
  const second = admit()
  authentication.tick()
  turn()
  t.is(second.said, 'waits')
  clock.now = START + 1000
  authentication.tick()
  turn()
  t.is(second.said, 'started')
})

test('authentication: one that ends without a verdict leaves it to the others; one that leaves is not started', t => {
  const { authentication, admit, turn } = rig()
  const [first, second, third] = [admit(), admit(), admit()]
  authentication.left(second)
  authentication.left(first)
  turn()
  t.is(second.said, 'waits')
  t.is(third.said, 'started')
})

test('authentication: an end instead of the verdict is a denial, until it was accepted; then sixteen in a row are', t => {
  const { authentication, clock, admit, turn } = rig()
  const [first, second] = [admit(), admit()]
  authentication.ended()
  authentication.left(first)
  turn()
  t.is((second.said as DialError).failure, 'authentication')
  clock.now = START + 1000
  t.is(admit().said, 'started')
  authentication.accepted()
  for (let ends = 1; ends <= 40; ends++) {
    authentication.ended()
    t.is(admit().said, 'started', `${ends}`)
    if (ends % 15 === 0) authentication.accepted()
  }
  for (let ends = 11; ends <= 16; ends++) authentication.ended()
  t.regex(messageOf(admit()), /has not accepted .* in 1 s/)
})

/** Those of several threads, with one clock. */
function threads() {
  const cells = authenticationCells()
  const clock = { now: START }
  return { clock, one: rig(PROXY, cells, clock), other: rig(PROXY, cells, clock) }
}

for (const [verdict, said] of [
  ['accepted', /^started$/],
  ['denied', /has not accepted .* in 1 s$/],
] as const)
  test(`authentication: one of all threads shows the password, and it is ${verdict} for all`, t => {
    const { one, other } = threads()
    t.is(one.admit().said, 'started')
    const waits = other.admit()
    other.authentication.tick()
    other.turn()
    t.is(waits.said, 'waits')
    one.authentication[verdict]()
    other.authentication.tick()
    other.turn()
    for (const asker of [waits, one.admit(), other.admit()]) t.regex(messageOf(asker), said)
  })

test('authentication: after a pause one of all threads shows it again, and the next pause is twice as long, however many deny', t => {
  const { clock, one, other } = threads()
  const both = [one, other]
  const firsts = both.map(({ authentication, admit }) => ({ authentication, asker: admit() }))
  for (let pause = 1000; pause <= 8000; pause *= 2) {
    for (const { authentication } of both) authentication.denied()
    for (const { authentication, asker } of firsts) authentication.left(asker)
    clock.now += pause - 1
    for (const { admit } of both) t.regex(messageOf(admit()), /in 1 s$/)
    clock.now += 1
    const first = both[(pause / 1000) % 3 === 1 ? 0 : 1]!
    firsts.splice(0, 2, { authentication: first.authentication, asker: first.admit() })
    t.is(firsts[0]!.asker.said, 'started')
    for (const { admit } of both) t.regex(messageOf(admit()), /it is being asked again$/)
  }
})

test('authentication: one that ends without a verdict leaves it to those of other threads', t => {
  const { one, other } = threads()
  const first = one.admit()
  const waits = other.admit()
  one.authentication.left(first)
  other.authentication.tick()
  other.turn()
  t.is(waits.said, 'started')
})

test('authentication: a pause of weeks ago is over', t => {
  const { clock, admit, authentication } = rig()
  const first = admit()
  authentication.denied()
  authentication.left(first)
  for (const days of [1, 20, 30, 45]) {
    clock.now = START + days * 86_400_000
    const asker = admit()
    t.is(asker.said, 'started', `${days} days`)
    authentication.left(asker)
  }
})

test('authentication: where the user name carries the client, each has its own verdict', t => {
  const authentication = new Authentication({ username: 'u-{source}', password: 'p', isPerSource: true })
  const client = (last: number, port = 1) => ({ address: Uint8Array.of(10, 0, last >> 8, last & 255), port })
  const one = authentication.of(client(1))
  t.is(authentication.of(client(1, 2)), one, 'whatever its port')
  t.is(Buffer.from(one.username).toString(), 'u-10.0.0.1')
  t.is(Buffer.from(authentication.of(client(2)).username).toString(), 'u-10.0.0.2')
  const dialing = new Dialing([])
  one.admit(dialing)
  one.denied()
  t.true(one.isDenied)
  t.false(authentication.of(client(2)).isDenied)
  t.false(authentication.isDenied)
  // at the bound those go that were asked for least lately, and whose dials are over
  for (let last = 3; last < 4_200; last++) authentication.of(client(last))
  t.is(authentication.of(client(1)), one)
  one.left(dialing)
  for (let last = 4_200; last < 8_400; last++) authentication.of(client(last))
  t.not(authentication.of(client(1)), one)
})

test('authentication: without a password nobody waits', t => {
  const { admit } = rig({ isPerSource: false } as typeof PROXY)
  t.is(admit().said, 'started')
  t.is(admit().said, 'started')
})

const DENIED: readonly Step[] = [{ expect: 4 }, { send: [5, 2] }, { expect: 16 }, { send: [1, 1] }, 'end']
const ACCEPTED: readonly Step[] = [
  { expect: 4 },
  { send: [5, 2] },
  { expect: 16 },
  { send: [1, 0] },
  { expect: 10 },
  { send: OK },
]

const ENDED: readonly Step[] = ['greeting', { send: [5, 2] }, 'auth', 'end']
const RESET: readonly Step[] = ['greeting', { send: [5, 2] }, 'auth', 'reset']
const ENDED_AT_ONCE: readonly Step[] = [{ expect: 29 }, { send: [5, 2] }, 'end']
const DENIED_AT_ONCE: readonly Step[] = [{ expect: 29 }, { send: [5, 2, 1, 1] }, 'end']

/** A proxy that denies until it is told otherwise. */
async function proxy(t: ExecutionContext, denial = DENIED) {
  const state = { denies: true }
  const bad = await startBadSocks(() => (state.denies ? denial : ACCEPTED))
  t.teardown(() => bad.close())
  return { bad, state }
}

for (const handshake of ['strict', 'auto', 'pipelined'] as const)
  test(`authentication: a wrong password is shown once to the proxy, whatever 50 dials want (${handshake})`, async t => {
    const { bad } = await proxy(t, handshake === 'pipelined' ? DENIED_AT_ONCE : DENIED)
    const rig = open(t, bad.port, USER, silent, { handshake, pool: 4 })
    const outcomes = Array.from({ length: 50 }, () => dial(t, rig).outcome)
    await until(() => outcomes.every(({ calls }) => calls === 1), 'an answer to all')
    t.deepEqual(new Set(outcomes.map(({ error }) => error?.failure)), new Set(['authentication']))
    t.is((await outcomeOf(t, rig)).error!.failure, 'authentication')
    t.is(bad.received.length, 1)
  })

for (const [how, handshake, script, message] of [
  ['closes', 'strict', ENDED, /^the proxy closed the connection before its answer to user name and password$/],
  ['closes', 'auto', ENDED, /^the proxy closed the connection before its answer/],
  ['closes', 'pipelined', ENDED_AT_ONCE, /^the proxy closed the connection before its answer/],
  ['resets', 'auto', RESET, /^the proxy broke off the connection \(ECONNRESET\) before its answer/],
] as const)
  test(`authentication: a proxy that ${how} for a wrong password is shown it once, too (${handshake})`, async t => {
    const { bad } = await proxy(t, script)
    const rig = open(t, bad.port, USER, silent, { handshake, pool: 4 })
    const outcomes = Array.from({ length: 50 }, () => dial(t, rig).outcome)
    await until(() => outcomes.every(({ calls }) => calls === 1), 'an answer to all')
    const [first, ...others] = outcomes
    t.is(first!.error!.failure, 'upstream-down')
    t.regex(first!.error!.message, message)
    for (const { error } of others) t.is(error!.failure, 'authentication')
    t.is((await outcomeOf(t, rig)).error!.failure, 'authentication')
    t.is(bad.received.length, 1)
  })

test('authentication: a password that was right, and for which the proxy closes now, is shown sixteen times, then after pauses', async t => {
  const { bad, state } = await proxy(t, ENDED)
  state.denies = false
  const rig = open(t, bad.port, USER)
  t.truthy((await outcomeOf(t, rig)).connected)
  state.denies = true
  for (let count = 0; count < 100; count++) t.truthy((await outcomeOf(t, rig)).error)
  t.true(bad.received.length >= 17)
  t.true(bad.received.length <= 20, `${bad.received.length}`)
})

test('authentication: a password that is right again serves the next dial after the pause', async t => {
  const { bad, state } = await proxy(t)
  const said: string[] = []
  const log = { info: (text: string) => said.push(text), warn: (text: string) => said.push(text) }
  const rig = open(t, bad.port, USER, log as never)
  await outcomeOf(t, rig)
  state.denies = false
  let dials = 0
  for (let connected = false; !connected; dials++) {
    connected = (await outcomeOf(t, rig)).connected !== undefined
    await delay(5)
  }
  t.is(bad.received.length, 2)
  t.true(dials > 2)
  t.deepEqual(said, ['upstream down', 'upstream up'])
})

test('authentication: one that is given up between the verdict and its own turn is not started', async t => {
  const bad = await startBadSocks([{ expect: 29 }, { send: [5, 2, 1, 0, ...OK] }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, USER, silent, { handshake: 'pipelined' })
  const other: { dial?: ReturnType<typeof dial> } = {}
  let connected = false
  rig.dialer.connect(DEST, CLIENT, {
    onConnected({ socket }) {
      connected = true
      socket.close()
      other.dial!.dial.cancel()
    },
    onFailed: ({ message }) => t.fail(message),
  })
  other.dial = dial(t, rig)
  await until(() => connected, 'the first')
  await until(() => bad.left() === 1, 'its end')
  t.is(bad.received.length, 1)
  t.is(other.dial.outcome.calls, 0)
})

for (const [what, verdict] of [
  ['accepted', 0],
  ['denied', 1],
] as const)
  test(`authentication: ${what}: what others do then is no part of the handshake that has brought the verdict`, async t => {
    const relay = await udpEnd(t)
    const reply = [5, 0, 0, 1, 127, 0, 0, 1, relay.port >> 8, relay.port & 255]
    const bad = await startBadSocks([{ expect: 29 }, { send: [5, 2, 1, verdict, ...reply] }, 'silence'])
    t.teardown(() => bad.close())
    const rig = open(t, bad.port, USER, silent, { handshake: 'pipelined' })
    const heard: string[] = []
    const association = rig.dialer.associate(CLIENT, {
      onAssociated: () => heard.push('associated'),
      onAssociationFailed: ({ failure }) => heard.push(failure),
      onDatagrams() {},
    })
    t.teardown(() => association.close())
    const other = rig.dialer.connect(DEST, CLIENT, {
      onConnected: () => t.fail('it has no reply of its own'),
      onFailed: ({ failure }) => {
        heard.push(`the other: ${failure}`)
        rig.bytes.fill(0xee, SCRATCH, SCRATCH + 4096)
      },
    })
    t.teardown(() => other.cancel())
    await until(() => heard.length === 1 + verdict, 'what is told')
    t.deepEqual(heard, verdict === 0 ? ['associated'] : ['authentication', 'the other: authentication'])
    if (verdict !== 0) return
    t.true(rig.dialer.isUpstream({ address: Uint8Array.of(127, 0, 0, 1), port: relay.port }), 'where the relay is')
    await until(() => bad.received.length === 2, 'the other')
  })

test.after.always('authentication: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
