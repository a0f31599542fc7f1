/** Who may have a dial made, while others ask for more than there are. */
import { Flag, udp } from '../helpers/packets.ts'
import { takeDatagrams } from './datagrams.ts'
import { Client, stackTest, V4, V6 } from './rig.ts'
import { connects, flood, isHeld, MAX_KNOWN, pass, ROOM, releaseAll, sourceOf } from './strangers.ts'

stackTest('dials: the bound of one source leaves room for another', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(100, 2)
  t.deepEqual(
    [1, 2, 3].map(port => isHeld(rig, new Client(rig, V4, port))),
    [true, true, false],
  )
  t.true(isHeld(rig, new Client(rig, V6, 4)))
  t.is(rig.stack.exports.tg_dials(), 3)
  t.is(rig.counter('dial_limit'), 1)
  rig.refuse(0, rig.stack.abi.answerReset)
  rig.tell('release', 0)
  t.true(isHeld(rig, new Client(rig, V4, 5)))
  releaseAll(rig)
  t.is(rig.stack.exports.tg_dials(), 0)
})

stackTest('dials: a place is kept until the client has answered', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(100, 100)
  const client = new Client(rig, V4)
  const [answer] = rig.tell('accept', client.knock())
  t.is(rig.stack.exports.tg_dials(), 1)
  client.seq++
  client.ack = answer!.tcp!.seq + 1
  client.send(Flag.ack)
  t.is(rig.stack.exports.tg_dials(), 0)
  client.close()
})

stackTest('dials: strangers leave a quarter of the places to those that have connected before', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(16, 16)
  for (const pair of [V4, V6]) connects(rig, pair)
  flood(rig, 0, 30)
  t.is(rig.stack.exports.tg_dials(), 9, 'of 12 a quarter is left to datagrams')
  t.is(rig.counter('dial_limit'), 21)
  for (const [at, pair] of [V4, V6, V4, V6].entries()) t.true(isHeld(rig, new Client(rig, pair, 100 + at)))
  t.is(rig.counter('dials_displaced'), 0)
  releaseAll(rig)
})

stackTest(
  'dials: where all places are taken, strangers give way to those that have connected before',
  ROOM,
  (t, rig) => {
    rig.stack.exports.tg_limit_dials(16, 16)
    connects(rig, V4)
    flood(rig, 0, 30)
    for (let port = 1; port <= 20; port++) new Client(rig, V4, port).send(Flag.syn, { ack: 0 })
    t.is(rig.stack.exports.tg_dials(), 16)
    t.is(rig.counter('dials_displaced'), 9)
    t.is(rig.counter('dial_limit'), 21 + 4, 'those that are there do not give way to each other')
    releaseAll(rig)
  },
)

stackTest('dials: the oldest stranger gives way to a new one, so that each has about a second', ROOM, (t, rig) => {
  const { abi, exports } = rig.stack
  exports.tg_limit_dials(128, 128)
  const [first, second] = [new Client(rig, sourceOf(0)), new Client(rig, sourceOf(1))]
  const id = first.knock()
  const opening = second.knock()
  t.is(rig.tell('accept', opening).length, 1)
  flood(rig, 2, 72)
  t.is(exports.tg_dials(), 72)
  pass(rig, 400)
  flood(rig, 100, 101)
  t.is(rig.counter('dials_displaced'), 0, 'too young')
  pass(rig, 200)
  t.is(rig.send([new Client(rig, sourceOf(101)).segment(Flag.syn, { ack: 0 })]).length, 0)
  t.is(rig.counter('dials_displaced'), 1)
  t.is(rig.error(id), abi.errorDisplaced)
  t.is(exports.tg_dials(), 72)
  for (let ms = 0; ms < 2_000; ms++) {
    pass(rig, 1)
    flood(rig, 1_000 + ms, 1_001 + ms)
  }
  const displaced = rig.counter('dials_displaced')
  t.true(displaced > 130 && displaced < 160, `${displaced} in two seconds`)
  t.is(exports.tg_dials(), 72)
  releaseAll(rig)
})

stackTest('dials: a displaced flow is over, and its client hears nothing', ROOM, (t, rig) => {
  const { abi, exports } = rig.stack
  exports.tg_limit_dials(1, 1)
  const first = new Client(rig, sourceOf(0))
  const id = first.knock()
  t.is(rig.tell('accept', id).length, 1)
  pass(rig, 600)
  t.deepEqual(new Client(rig, sourceOf(1)).send(Flag.syn, { ack: 0 }), [])
  t.true(rig.has(id, abi.eventGone))
  t.is(rig.error(id), abi.errorDisplaced)
  t.is(exports.tg_pcbs(), 0)
  first.seq++
  t.is(first.send(Flag.ack)[0]!.tcp!.flags & Flag.rst, Flag.rst, 'until it speaks')
  releaseAll(rig)
})

stackTest('dials: datagrams of strangers leave places to their connections', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(64, 64)
  connects(rig, V4)
  for (let number = 0; number < 60; number++) rig.send([udp(sourceOf(number), 5_000, 53, Buffer.from('?'))])
  exports.tg_udp_release()
  t.is(exports.tg_dials(), 24)
  t.is(rig.counter('dial_limit'), 36)
  t.is(exports.tg_endpoints_used(), 24, 'what is refused takes no number')
  flood(rig, 100, 200)
  t.is(exports.tg_dials(), 48)
  rig.send([udp(V4, 5_000, 53, Buffer.from('?'))])
  const [known] = takeDatagrams(rig)
  t.is(exports.tg_dials(), 49)
  t.is(exports.tg_udp_dial(known!.endpoint), 1, 'it has its place already')
  t.is(exports.tg_dials(), 49)
  exports.tg_udp_dial_end(known!.endpoint)
  exports.tg_udp_dial_end(known!.endpoint)
  t.is(exports.tg_dials(), 48)
  releaseAll(rig)
  for (let id = 0; id < 25; id++) exports.tg_udp_forget(id)
  t.is(exports.tg_dials(), 0)
})

stackTest('dials: where those that have connected hold all places, strangers get none', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(16, 16)
  connects(rig, V4)
  for (let port = 1; port <= 16; port++) new Client(rig, V4, port).send(Flag.syn, { ack: 0 })
  t.is(exports.tg_dials(), 16)
  flood(rig, 0, 10)
  t.is(exports.tg_dials(), 16)
  releaseAll(rig)
})

stackTest('dials: a stranger gives way to himself', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(1, 2)
  for (let port = 1; port <= 3; port++) {
    t.true(isHeld(rig, new Client(rig, V4, port)))
    t.is(exports.tg_dials(), 1)
    pass(rig, 2_000)
  }
  releaseAll(rig)
  t.is(exports.tg_dials(), 0)
  t.true(isHeld(rig, new Client(rig, V4, 4)), 'his own dials are counted no more')
  releaseAll(rig)
})

stackTest(`dials: of those that have connected the last ${MAX_KNOWN} are known`, ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(8, 8)
  for (let number = 0; number <= MAX_KNOWN + 1; number++) {
    new Client(rig, sourceOf(number)).open().close()
    if (number % 500 === 0) new Client(rig, sourceOf(1), 50_000 + number).open().close() // in use again and again
  }
  rig.tick(1_100)
  flood(rig, 10_000, 10_100)
  t.false(isHeld(rig, new Client(rig, sourceOf(0), 60_001)), 'the first was forgotten')
  t.true(isHeld(rig, new Client(rig, sourceOf(1), 60_002)))
  t.true(isHeld(rig, new Client(rig, sourceOf(MAX_KNOWN + 1), 60_003)))
  releaseAll(rig)
})
