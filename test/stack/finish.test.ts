import type { ExecutionContext } from 'ava'
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, LINUX_OPTIONS, pattern, type Rig, stackTest } from './rig.ts'

const UNSCALED = LINUX_OPTIONS.slice(0, -3)

/** Lets the client take what comes, with the window that it has, until the FIN is among it. */
function takeAll(rig: Rig, client: Client, first: readonly Packet[]): { data: Buffer; fin: boolean } {
  const got: Buffer[] = []
  let fin = false
  for (let next = first, turns = 0; !fin && turns < 200; turns++) {
    const taken = client.take(next)
    got.push(taken.data)
    fin = taken.fin
    next = taken.answers.length > 0 ? taken.answers : rig.tick(32)
  }
  return { data: Buffer.concat(got), fin }
}

/** Half-closed by us, the client goes on talking, a byte in each tick of the timers, and ends. */
function talksOn(t: ExecutionContext, rig: Rig, client: Client, before = ''): void {
  for (let turn = 0; turn < 20; turn++) {
    client.data(Buffer.from('x'))
    rig.tick(32)
  }
  t.is(rig.received(client.id).toString(), before + 'x'.repeat(20))
  client.data(new Uint8Array(), Flag.ack | Flag.fin)
  t.is(rig.error(client.id), rig.stack.abi.errorNone)
  rig.tell('release', client.id)
}

const hasFin = (packets: readonly Packet[]): boolean => packets.some(({ tcp }) => (tcp!.flags & Flag.fin) !== 0)

for (const waits of [0, 32])
  stackTest(
    `finish: no end leaves into a window that was taken back, and none that never left is acknowledged, ${waits} ms`,
    {},
    (t, rig) => {
      const client = new Client(rig).open(UNSCALED)
      t.is(rig.write(client.id, pattern(5000)).written, 5000)
      client.ack = (client.ack + 2000) >>> 0
      client.window = 0
      client.send(Flag.ack)
      t.false(hasFin(rig.tell('finish', client.id)))
      rig.tick(waits)
      t.false(hasFin(rig.tick(400)))
      client.window = 65_535
      client.send(Flag.ack, { ack: (client.ack + 3001) >>> 0 })
      client.data(Buffer.from('first'))
      rig.tick(1000)
      const { data, fin } = takeAll(rig, client, client.send(Flag.ack))
      t.true(data.equals(pattern(3000, 2000)))
      t.true(fin)
      talksOn(t, rig, client, 'first')
    },
  )

stackTest('finish: an end that is beyond the window waits for it', {}, (t, rig) => {
  const client = new Client(rig).open(UNSCALED)
  rig.write(client.id, pattern(5000))
  client.ack = (client.ack + 2000) >>> 0
  client.window = 2999
  client.send(Flag.ack)
  t.false(hasFin(rig.tell('finish', client.id)))
  const out = rig.tick(100)
  t.false(hasFin(out))
  client.window = 3000
  t.true(hasFin(client.send(Flag.ack)), 'as soon as there is room')
  client.ack = (client.ack + 3001) >>> 0
  client.send(Flag.ack)
  talksOn(t, rig, client)
})

stackTest('finish: the end waits behind a window of 65,536 bytes that was taken back', { vnetHdr: true }, (t, rig) => {
  const client = new Client(rig).open()
  const sent: Packet[] = []
  let written = 0
  for (let turn = 0; turn < 4; turn++) {
    const { written: part, out } = rig.write(client.id, pattern(25_000, written))
    written += part
    sent.push(...out)
  }
  t.is(
    sent.reduce((sum, { tcp }) => sum + tcp!.payload.length, 0),
    written,
    'all is in flight',
  )
  client.window = 512
  const { data: first } = client.take(sent.splice(0, 1))
  t.true(written - first.length > 65_536)
  t.false(hasFin(rig.tell('finish', client.id)))
  t.false(hasFin(rig.tick(400)))
  client.window = 65_535
  const { data, fin } = takeAll(rig, client, [...sent, ...client.send(Flag.ack)])
  t.true(Buffer.concat([first, data]).equals(pattern(written)))
  t.true(fin)
  talksOn(t, rig, client)
})

stackTest('finish: an end after a rest is sent once, and again when its time has come', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.tick(5000)
  t.is(rig.tell('finish', client.id).length, 1)
  t.deepEqual(rig.tick(100), [])
  t.true(hasFin(rig.tick(1000)))
  client.ack = (client.ack + 1) >>> 0
  client.send(Flag.ack)
  talksOn(t, rig, client)
})
