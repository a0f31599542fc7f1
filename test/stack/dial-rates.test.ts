/** How many dials a second strangers may begin, and how many sources are remembered. */
import { Flag, type Pair, udp } from '../helpers/packets.ts'
import { Client, type Rig, stackTest, V4 } from './rig.ts'
import { connects, flood, isHeld, MAX_KNOWN, pass, ROOM, releaseAll, sourceOf } from './strangers.ts'

/** MAX_SOURCES of dials.c */
const MAX_SOURCES = 65_536 + MAX_KNOWN

/** `begin` is called each millisecond, and says how many have begun; their sum. */
function begunInTwoSeconds(rig: Rig, begin: (ms: number) => number): number {
  let begun = 0
  for (let ms = 0; ms < 2_000; ms++) {
    pass(rig, 1)
    begun += begin(ms)
  }
  return begun
}

stackTest(
  'dials: strangers begin about as many a second as there are places, whatever becomes of them',
  ROOM,
  (t, rig) => {
    const { abi, exports } = rig.stack
    exports.tg_limit_dials(100, 100)
    connects(rig, V4)
    const knock = (pair: Pair, port: number) => {
      const held = isHeld(rig, new Client(rig, pair, port))
      for (const id of rig.flows.keys()) {
        rig.refuse(id, abi.answerReset)
        rig.tell('release', id)
      }
      rig.flows.clear()
      return held
    }
    const begun = begunInTwoSeconds(rig, ms => (knock(sourceOf(ms), 1_000 + ms) ? 1 : 0))
    t.true(begun > 290 && begun <= 301, `${begun} in two seconds`)
    for (let count = 0; count < 200; count++) t.true(knock(V4, 10_000 + count), 'one that is known is not limited')
  },
)

stackTest('dials: strangers that connect are not limited', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(100, 100)
  for (let count = 0; count < 1_000; count++) new Client(rig, sourceOf(count)).open().close()
  t.is(rig.counter('tcp_opened'), 1_000)
})

/** The dial of the flow that was begun last ends without the client: the proxy has refused it. */
function refuseLast(rig: Rig): void {
  const id = [...rig.flows.keys()].at(-1)!
  rig.refuse(id, rig.stack.abi.answerReset)
  rig.tell('release', id)
  rig.flows.delete(id)
}

stackTest('dials: few places do not bound what strangers begin below 64 a second', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(8, 8)
  for (let number = 0; number < 64; number++) {
    t.true(isHeld(rig, new Client(rig, sourceOf(number), 1_000 + number)), `the ${number + 1}.`)
    refuseLast(rig)
  }
  t.false(isHeld(rig, new Client(rig, sourceOf(64), 2_000)))
})

stackTest('dials: what is refused and what gives way have one bound', ROOM, (t, rig) => {
  rig.stack.exports.tg_limit_dials(128, 128)
  const begun = begunInTwoSeconds(rig, ms => {
    const before = rig.counter('dial_limit')
    flood(rig, ms, ms + 1)
    const limited = rig.counter('dial_limit') - before
    if (ms % 7 === 0) refuseLast(rig)
    return 1 - limited
  })
  t.true(begun > 370 && begun <= 385, `${begun} in two seconds`)
  releaseAll(rig)
})

stackTest('dials: datagrams of strangers begin half as many a second as there are places', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(256, 256)
  const begun = begunInTwoSeconds(rig, ms => {
    rig.send([udp(sourceOf(ms), 5_000, 53, Buffer.from('?'))])
    exports.tg_udp_release()
    const used = exports.tg_endpoints_used()
    exports.tg_udp_forget(0)
    return used
  })
  t.true(begun > 370 && begun <= 385, `${begun} in two seconds`)
})

/** As many packets as the host reads at once, each of a stranger from number `from` on; behind them more wait. */
function fullBatch(rig: Rig, from: number): Buffer[] {
  const syn = (_: unknown, at: number) => new Client(rig, sourceOf(from + at)).segment(Flag.syn, { ack: 0 })
  return Array.from({ length: rig.stack.exports.tg_prepare() }, syn)
}

stackTest('dials: strangers begin none while the host is behind with reading them', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(64, 64)
  connects(rig, V4)
  let next = 0
  const wait = (batches: number, change?: (batch: Buffer[]) => void) => {
    for (let count = 0; count < batches; count++, next += 64) {
      pass(rig, 20)
      const batch = fullBatch(rig, next)
      change?.(batch)
      rig.send(batch)
    }
  }
  wait(100, batch => batch.pop())
  const displaced = rig.counter('dials_displaced')
  t.true(displaced > 40, `${displaced} in two seconds, while the device is emptied each time`)
  wait(10)
  const before = rig.counter('dials_displaced')
  wait(100)
  t.is(rig.counter('dials_displaced'), before, 'more than 512 waited')
  const dials = exports.tg_dials()
  wait(1, batch => {
    batch[10] = new Client(rig, V4, 77).segment(Flag.syn, { ack: 0 })
    for (let at = 11; at < 20; at++) batch[at] = udp(sourceOf(100_000 + at), 5_000, 53, Buffer.from('?'))
  })
  exports.tg_udp_release()
  t.is(exports.tg_dials(), dials + 1, 'a known one does')
  t.is(exports.tg_endpoints_used(), 0)
  pass(rig, 20)
  rig.send(Array.from({ length: 20 }, (_, at) => udp(sourceOf(110_000 + at), 5_000, 53, Buffer.from('?'))))
  exports.tg_udp_release()
  t.is(exports.tg_endpoints_used(), 1, 'they begin again, and not all at once')
  exports.tg_udp_forget(0)
  rig.send([new Client(rig, sourceOf(200_000)).segment(Flag.syn, { ack: 0 })])
  t.is(rig.counter('dials_displaced'), before + 1, 'the last of them')
  releaseAll(rig)
})

stackTest('dials: sources that are forgotten leave room for others', ROOM, (t, rig) => {
  const { exports } = rig.stack
  exports.tg_limit_dials(100_000, 100)
  for (let number = 0; number < MAX_SOURCES; number++) {
    rig.send([udp(sourceOf(number), 5_000, 53, Buffer.from('?'))])
    exports.tg_udp_release()
    exports.tg_udp_forget(0)
    if (number % 100 === 0) pass(rig, 10)
  }
  t.true(isHeld(rig, new Client(rig, sourceOf(MAX_SOURCES), 1)))
  releaseAll(rig)
})
