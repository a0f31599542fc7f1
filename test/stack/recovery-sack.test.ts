/** Clients whose selective acknowledgements lie, are malformed, or are taken back. */
import { Flag } from '../helpers/packets.ts'
import { Line } from './line.ts'
import { Client, pattern, stackTest } from './rig.ts'

const MSS = 1460

/** The option with these edges of blocks (RFC 2018 §3). */
function sack(edges: readonly number[]): number[] {
  const bytes = edges.flatMap(edge => [24, 16, 8, 0].map(shift => (edge >>> shift) & 255))
  return [1, 1, 5, 2 + bytes.length, ...bytes]
}

for (const vnetHdr of [false, true]) {
  const mode = vnetHdr ? 'offload' : 'plain'

  stackTest(`recovery: a client that takes back what it had SACKed gets it again (${mode})`, { vnetHdr }, (t, rig) => {
    const client = new Client(rig).open()
    const out = rig.write(client.id, pattern(8 * MSS)).out
    t.true(out.length > 0)
    client.send(Flag.ack, { options: sack([client.ack + 2 * MSS, client.ack + 8 * MSS]) })
    client.ack = (client.ack + 2 * MSS) >>> 0
    client.send(Flag.ack) // and forgets the rest
    const got: Buffer[] = []
    for (let rounds = 0; rounds < 100 && Buffer.concat(got).length < 6 * MSS; rounds++) {
      for (let next = rig.tick(40); next.length > 0; ) {
        const taken = client.take(next)
        got.push(taken.data)
        next = taken.answers
      }
    }
    t.true(Buffer.concat(got).equals(pattern(6 * MSS, 2 * MSS)))
    client.close()
  })
}

const BAD_BLOCKS: readonly (readonly [string, (una: number, nxt: number) => readonly number[]])[] = [
  ['beyond what was sent', (una, nxt) => [una + MSS, nxt + 1]],
  ['inverted', (una, nxt) => [nxt, una + MSS]],
  ['empty', una => [una + MSS, una + MSS]],
  ['below what is acknowledged', una => [una - 3000, una - 1]],
  ['across what is acknowledged', una => [una - 1, una + MSS]],
  ['four of garbage', () => [1, 2, 0xffff_ffff, 0, 0x8000_0000, 0x7fff_ffff, 77, 3]],
  ['half the number space away', una => [una + 0x8000_0000, una + 0x8000_0001]],
]

for (const [name, blocks] of BAD_BLOCKS)
  stackTest(`recovery: SACK blocks ${name} change nothing`, {}, (t, rig) => {
    const line = Line.open(rig)
    const data = pattern(10 * MSS)
    const client = line.client
    const out = rig.write(client.id, data).out
    const options = sack(blocks(client.ack, client.ack + data.length))
    for (let times = 0; times < 5; times++) t.deepEqual(client.send(Flag.ack, { options }), [])
    t.deepEqual(rig.tick(40), [])
    t.true(client.take(out).data.equals(data))
    client.close()
  })

const BAD_OPTIONS: readonly (readonly [string, readonly number[]])[] = [
  ['a length of 0', [5, 0, 1, 1]],
  ['a length of 1', [5, 1, 1, 1]],
  ['a length beyond the header', [1, 1, 5, 34]],
  ['a block cut short', [1, 1, 5, 6, 0, 0, 0, 1]],
  ['nothing behind the kind', [1, 1, 1, 5]],
]

for (const [name, options] of BAD_OPTIONS)
  stackTest(`recovery: a SACK option with ${name} changes nothing`, {}, (t, rig) => {
    const client = new Client(rig).open()
    const out = rig.write(client.id, pattern(8 * MSS)).out
    for (let times = 0; times < 5; times++) t.deepEqual(client.send(Flag.ack, { options }), [])
    t.true(client.take(out).data.equals(pattern(8 * MSS)))
    client.close()
  })
