/** Uploads that their upstreams do not take, and those beside them. */
import { Flag } from '../helpers/packets.ts'
import { Client, pattern, type Rig, stackTest, V4 } from './rig.ts'

const OPTIONS = { mtu: 65_535, vnetHdr: true, maxFlows: 4_000 }
const DATA = pattern(60_000)
const SOME = pattern(1_400)

/** One host sends `segments` on one connection; they are left where they are. */
function upload(rig: Rig, at: number, segments: number): number {
  const client = new Client(rig, { from: '198.18.0.2', to: V4.to }, 1_000 + at).open()
  for (let count = 0; count < segments; count++)
    client.send(Flag.ack, { payload: DATA, seq: client.seq + count * DATA.length })
  rig.flows.clear()
  return client.id
}

stackTest(
  'receive-budget: a host whose uploads nobody takes gives way to others, and they lose nothing',
  OPTIONS,
  (t, rig) => {
    const { abi, exports } = rig.stack
    rig.reading = false
    const others = Array.from({ length: 40 }, (_, at) =>
      new Client(rig, { from: '198.18.0.9', to: V4.to }, 1_000 + at).open(),
    )
    const hogs: number[] = []
    const half = exports.tg_memory_size() / 2
    while (exports.tg_receive_held() < half - (2 << 20)) hogs.push(upload(rig, hogs.length, 17))
    t.is(rig.counter('drop_receive_budget'), 0)
    while (rig.counter('drop_memory') === 0) hogs.push(upload(rig, hogs.length, 2))
    t.true(rig.counter('drop_receive_budget') > 0, 'above three quarters who holds something gets no more')
    t.true(exports.tg_receive_held() > 1.8 * half)

    for (const other of others) {
      other.data(SOME)
      hogs.push(upload(rig, hogs.length, 2))
    }
    for (const other of others) {
      t.is(rig.state(other.id), abi.stateOpen)
      t.true(rig.read(other.id).equals(SOME))
      rig.tell('release', other.id)
    }
    const gone = hogs.filter(id => rig.state(id) !== abi.stateOpen)
    t.true(gone.length > 0 && gone.length < hogs.length / 10, `${gone.length} of ${hogs.length} were reset`)
    for (const id of gone) t.is(rig.error(id), abi.errorMemory)
    for (const id of hogs) rig.tell('release', id)
  },
)
