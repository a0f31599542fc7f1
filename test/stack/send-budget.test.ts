/** Clients that do not take what is sent to them, and those beside them. */
import { Client, pattern, type Rig, stackTest, V4 } from './rig.ts'

const MANY = { maxFlows: 30_000 }
const DATA = pattern(1 << 20)
/** Whole segments of 1,460 bytes in 4 and in 64 KiB. */
const SMALL = 2_920
const LARGE = 64_240

/** A connection of one host, whose window is closed when its upstream sends. */
function stalled(rig: Rig, at: number): Client {
  const pair = { from: `198.18.7.${1 + Math.floor(at / 60_000)}`, to: V4.to }
  const client = new Client(rig, pair, 1_000 + (at % 60_000))
  client.window = 0
  client.open()
  return client
}

/** What an upstream that sends on and on has got rid of. */
function pour(rig: Rig, id: number): number {
  let total = 0
  for (let written = -1; written !== 0; total += written) written = rig.write(id, DATA).written
  return total
}

/** One host fills what it can: its flows, by number, and how much each holds. */
function flood(rig: Rig, until: (held: number) => boolean): Map<number, number> {
  const flows = new Map<number, number>()
  for (let at = 0; at < MANY.maxFlows - 100; at++) {
    const { id } = stalled(rig, at)
    const held = pour(rig, id)
    rig.flows.clear()
    flows.set(id, held)
    if (until(held)) break
  }
  return flows
}

function release(rig: Rig, ids: Iterable<number>): void {
  for (const id of ids) rig.tell('release', id)
}

stackTest(
  'send-budget: a client with a closed window has 68 KiB read for it, one with an open window more',
  {},
  (t, rig) => {
    const closed = stalled(rig, 0)
    t.is(pour(rig, closed.id), SMALL + LARGE)
    const open = new Client(rig).open()
    open.window = 65_535
    t.true(pour(rig, open.id) > 1_000_000)
    release(rig, [closed.id, open.id])
  },
)

stackTest(
  'send-budget: a host whose windows are closed leaves others theirs, and gives way after 10 s',
  MANY,
  (t, rig) => {
    const { abi } = rig.stack
    const paused = new Client(rig).open()
    paused.window = 0
    pour(rig, paused.id)
    rig.tick(100)
    const hogs = flood(rig, held => held <= SMALL)
    t.true(hogs.size > 1_000, `${hogs.size} connections`)

    const fresh = new Client(rig, V4, 40_001).open()
    for (let round = 0; round < 100; round++) {
      const { written, out } = rig.write(fresh.id, DATA)
      t.is(written, SMALL, 'what is left for those who hold nothing')
      fresh.take(out)
      if (round % 10 === 0) rig.tick(32)
    }
    rig.tick(10_000)
    rig.write(fresh.id, pattern(1))
    rig.tick(500)
    const gone = [...hogs.keys()].filter(id => rig.has(id, abi.eventGone))
    t.true(gone.length > 0 && gone.length < hogs.size / 2, `${gone.length} were reset`)
    for (const id of gone) t.is(rig.error(id), abi.errorMemory)
    t.is(rig.state(paused.id), abi.stateOpen, 'another host, which holds little')
    const next = new Client(rig, V4, 40_002).open()
    t.true(rig.write(next.id, DATA).written > LARGE)
    release(rig, [...hogs.keys(), paused.id, fresh.id, next.id])
  },
)

stackTest(
  'send-budget: when all of it is out, a flow that holds nothing has some within two seconds',
  MANY,
  (t, rig) => {
    const hogs = flood(rig, held => held === 0)
    const fresh = new Client(rig, V4, 40_001).open()
    let waited = 0
    for (; waited < 3_000 && rig.write(fresh.id, DATA).written === 0; waited += 32) rig.tick(32)
    t.true(waited < 2_000, `${waited} ms`)
    release(rig, [...hogs.keys(), fresh.id])
  },
)
