import { udp } from '../helpers/packets.ts'
import { answer, forget, takeDatagrams } from './datagrams.ts'
import { Client, pattern, type Rig, stackTest, V4 } from './rig.ts'

/** What the host does about once a second; the memory is spoiled instead of given back. The bytes. */
function trim(rig: Rig): number {
  const { abi, words, bytes, exports } = rig.stack
  let total = 0
  for (let rows = exports.tg_trim(); rows > 0; rows = exports.tg_trim())
    for (let row = 0; row < rows; row++) {
      const [offset, length] = words.subarray(abi.iovecs / 4 + 2 * row)
      bytes.fill(0xa5, offset, offset! + length!)
      total += length!
    }
  return total
}

/** Sends `data` to the client, which acknowledges it as it comes; what the client got. */
function stream(rig: Rig, client: Client, data: Buffer): Buffer {
  const got: Buffer[] = []
  for (let sent = 0; sent < data.length; ) {
    const { written, out } = rig.write(client.id, data.subarray(sent))
    sent += written
    let packets = out
    do {
      const { data: taken, answers } = client.take(packets)
      got.push(taken)
      packets = answers
    } while (packets.length > 0)
  }
  return Buffer.concat(got)
}

stackTest('trim: memory that a stream needed is given back when it was not needed for a while', {}, (t, rig) => {
  const client = new Client(rig).open()
  const data = pattern(400_000)
  t.true(stream(rig, client, data).equals(data))
  trim(rig)
  t.true(trim(rig) >= 64 << 10)
  t.is(trim(rig), 0, 'once')
  t.true(stream(rig, client, data).equals(data), 'and serves again')
  client.close()
})

stackTest('trim: what is on its way is not touched', {}, (t, rig) => {
  const clients = [10_000, 10_001, 10_002].map(port => new Client(rig, undefined, port).open())
  const sizes = [100, 5_000, 40_000]
  stream(rig, clients[0]!, pattern(600_000))
  const outs = clients.map((client, at) => rig.write(client.id, pattern(sizes[at]!, at)))
  trim(rig)
  trim(rig)
  for (const [at, client] of clients.entries()) {
    const got: Buffer[] = []
    let { out } = outs[at]!
    for (let turn = 0; turn < 50 && Buffer.concat(got).length < sizes[at]!; turn++) {
      // what was sent already is lost: the stack must have it still
      if (turn === 0) out = rig.tick(3_000).filter(({ tcp }) => tcp!.toPort === client.port)
      const { data, answers } = client.take(out)
      got.push(data)
      out = answers.length > 0 ? answers : rig.tick(1_000).filter(({ tcp }) => tcp!.toPort === client.port)
    }
    t.true(Buffer.concat(got).equals(pattern(sizes[at]!, at)), `${sizes[at]} bytes`)
  }
  for (const client of clients) client.close()
})

stackTest('trim: landing places are given back when all is quiet, not while packets come', {}, (t, rig) => {
  const { abi } = rig.stack
  const slots = abi.slots * abi.slotBytes
  const landing = abi.landingSlots * abi.landingBytes
  const ask = () => rig.send([udp(V4, 1000, 53, Buffer.from('?'))])
  ask()
  const asked = takeDatagrams(rig)
  answer(t, rig, asked[0]!.endpoint, Buffer.from([192, 0, 2, 1]), 53, Buffer.from('!'))
  t.is(trim(rig), 0)
  t.is(trim(rig), slots + landing)
  t.is(trim(rig), 0)
  ask()
  trim(rig)
  t.is(trim(rig), 0, 'a slot is in use')
  takeDatagrams(rig)
  t.is(trim(rig), slots)
  forget(rig, asked)
})
