/** What is known of what is in flight, when a client says more of it than is kept. Its segments are small. */
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, pattern, type Rig, stackTest } from './rig.ts'

const MSS = 48
const OPTIONS = [2, 4, 0, MSS, 4, 2, 1, 3, 3, 7]

type Block = readonly [left: number, right: number]

/** Acknowledgements that say `blocks`, four in each. */
function sacks(client: Client, blocks: readonly Block[]): Buffer[] {
  const packets: Buffer[] = []
  for (let at = 0; at < blocks.length; at += 4) {
    const edges = blocks.slice(at, at + 4).flat()
    const bytes = edges.flatMap(edge => [edge >>> 24, edge >>> 16, edge >>> 8, edge].map(byte => byte & 255))
    packets.push(client.segment(Flag.ack, { options: [1, 1, 5, 2 + bytes.length, ...bytes] }))
  }
  return packets
}

const length = (packets: readonly Packet[]): number => packets.reduce((sum, { tcp }) => sum + tcp!.payload.length, 0)

/** Sends `bytes` from the pattern's place `from` on, and takes none of it back. How many left at once. */
function fly(rig: Rig, client: Client, from: number, bytes: number): { written: number; out: Packet[] } {
  const out: Packet[] = []
  let written = 0
  while (written < bytes) {
    const part = rig.write(client.id, pattern(Math.min(bytes - written, 60_000), from + written))
    written += part.written
    out.push(...part.out)
    if (part.written === 0) break
  }
  return { written, out }
}

/** The client takes `first`, and what comes then, up to so many bytes. */
function takeAll(rig: Rig, client: Client, first: readonly Packet[], bytes: number): Buffer {
  const got: Buffer[] = []
  let left = bytes
  for (let next = first, turns = 0; left > 0 && turns < 600; turns++) {
    const { data, answers } = client.take(next)
    got.push(data)
    left -= data.length
    next = answers.length > 0 ? answers : rig.tick(32)
  }
  return Buffer.concat(got)
}

for (const last of ['arrived', 'is missing'])
  stackTest(
    `spans: a client tells of more holes than are kept, and the last byte ${last}`,
    { vnetHdr: true },
    (t, rig) => {
      const client = new Client(rig).open(OPTIONS)
      const before = fly(rig, client, 0, 120_000)
      rig.tick(400) // a time-out: from now on the congestion window grows slowly
      takeAll(rig, client, before.out, before.written)
      const first = client.ack
      const { written, out } = fly(rig, client, 0, 51_000)
      t.is(length(out), 51_000)
      const edge = first + written
      const blocks: Block[] = last === 'arrived' ? [[edge - MSS, edge]] : []
      for (let at = MSS; at < written - 2 * MSS; at += 2 * MSS) blocks.push([first + at, first + at + MSS])
      rig.send(sacks(client, blocks.slice(0, 1)))
      rig.send(sacks(client, blocks.slice(1)))
      const more = fly(rig, client, written, 200_000)
      t.true(length(more.out) > 0, 'at the bound there is room for more')
      client.ack = (edge + length(more.out)) >>> 0
      const taken = client.ack - first
      const rest = takeAll(rig, client, client.send(Flag.ack), written + more.written - taken)
      t.true(rest.equals(pattern(written + more.written).subarray(taken)))
      const again = fly(rig, client, 0, 50_000)
      t.is(length(again.out), 50_000, 'nothing is taken for being on its way')
      t.true(client.take(again.out).data.equals(pattern(50_000)))
      t.deepEqual(rig.tick(60_000), [], 'nothing waits')
      client.close()
    },
  )

const FLOWS = 780
const MIB = 1 << 20

stackTest(
  'spans: their memory is bounded for all flows together, and each still has some',
  { vnetHdr: true, maxFlows: FLOWS },
  (t, rig) => {
    const bytes = 49_200
    const clients = Array.from({ length: FLOWS }, (_, at) => new Client(rig, undefined, 1000 + at).open(OPTIONS))
    const flights: Packet[][] = []
    for (const client of clients) {
      const { out } = fly(rig, client, 0, bytes)
      flights.push(out)
      const blocks: Block[] = []
      for (let at = MSS; at < length(out) - 2 * MSS; at += 2 * MSS)
        blocks.push([client.ack + at, client.ack + at + MSS])
      rig.send(sacks(client, blocks))
    }
    const held = rig.stack.exports.tg_spans_held()
    t.true(held > 7 * MIB, `${held} bytes`)
    t.true(held <= 8 * MIB + FLOWS * 64 * 12, `${held} bytes`)
    const last = clients.at(-1)!
    t.true(takeAll(rig, last, flights.at(-1)!, bytes).equals(pattern(bytes)))
    for (const client of clients) rig.tell('abort', client.id)
    for (const client of clients) rig.tell('release', client.id)
  },
)

for (const size of [1, MSS - 1])
  stackTest(`spans: blocks of ${size} bytes, less than a segment, make none`, {}, (t, rig) => {
    const client = new Client(rig).open(OPTIONS)
    const { out } = fly(rig, client, 0, 400)
    const blocks: Block[] = []
    for (let at = 1; at + size < 400; at += size + 1) blocks.push([client.ack + at, client.ack + at + size])
    rig.send(sacks(client, blocks))
    t.is(rig.stack.exports.tg_spans_held(), 0, 'what each flow has of its own is enough')
    t.true(takeAll(rig, client, out, 400).equals(pattern(400)))
    client.close()
  })
