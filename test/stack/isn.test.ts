/** Initial sequence numbers: RFC 6528. */
import { Flag } from '../helpers/packets.ts'
import { Client, forBoth, LINUX_OPTIONS, type Rig, Rig as Stack, stackTest, V4, V6 } from './rig.ts'

/** Of the SYN-ACK to a new connection, which is forgotten then. */
function isnOf(rig: Rig, client: Client): number {
  const id = client.knock(LINUX_OPTIONS)
  const [answer] = rig.tell('accept', id)
  if (answer?.tcp?.flags !== (Flag.syn | Flag.ack)) throw new Error('no SYN-ACK')
  rig.tell('abort', id)
  rig.tell('release', id)
  return answer.tcp.seq
}

forBoth('isn: of the same names it moves with the clock, 250 each millisecond', {}, (t, rig, pair) => {
  const first = isnOf(rig, new Client(rig, pair))
  for (const ms of [40, 1_000, 60_000]) {
    const before = { isn: isnOf(rig, new Client(rig, pair)), now: rig.now }
    rig.tick(ms)
    t.is((isnOf(rig, new Client(rig, pair)) - before.isn) >>> 0, (rig.now - before.now) * 250)
  }
  t.is((isnOf(rig, new Client(rig, pair)) - first) >>> 0, (rig.now - 1_000) * 250)
})

stackTest('isn: of other names it has nothing to do with that', {}, (t, rig) => {
  const found: number[] = []
  for (let port = 0; port < 500; port++) found.push(isnOf(rig, new Client(rig, V4, 1_024 + port)))
  for (let port = 0; port < 250; port++) found.push(isnOf(rig, new Client(rig, V4, 40_000, 1 + port)))
  for (let host = 0; host < 250; host++)
    found.push(isnOf(rig, new Client(rig, { from: V6.from, to: `2001:db8::${host.toString(16)}` })))
  const steps = found.slice(1).map((isn, at) => (isn - found[at]!) >>> 0)
  t.is(new Set(found).size, 1_000)
  t.is(new Set(steps).size, 999)
  // 16 bins of 62.5: the bound is beyond five standard deviations
  for (const values of [found, steps]) {
    const bins = new Array<number>(16).fill(0)
    for (const value of values) bins[value >>> 28]!++
    t.true(Math.min(...bins) >= 24 && Math.max(...bins) <= 101, bins.join(' '))
  }
})

stackTest('isn: another stack has another key', {}, (t, rig) => {
  const others = Array.from({ length: 8 }, () => new Stack())
  const found = [rig, ...others].map(one => isnOf(one, new Client(one)))
  t.is(new Set(found).size, found.length)
})
