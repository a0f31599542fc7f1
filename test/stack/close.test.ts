import { Flag } from '../helpers/packets.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern, stackTest } from './rig.ts'

forBoth('close: after the FIN of the client data still flows to it', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const { abi } = rig.stack
  client.data(Buffer.from('question'), Flag.ack | Flag.fin)
  t.true(rig.has(client.id, abi.eventFin))
  t.false(rig.has(client.id, abi.eventGone))
  const { out } = rig.write(client.id, Buffer.from('answer'))
  t.is(client.take(out).data.toString(), 'answer')
  const { fin } = client.take(rig.tell('finish', client.id))
  t.true(fin)
  t.true(rig.has(client.id, abi.eventGone))
  t.is(rig.error(client.id), abi.errorNone)
  rig.tell('release', client.id)
})

forBoth('close: after the FIN to the client data still comes from it', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const { abi } = rig.stack
  const { fin } = client.take(rig.tell('finish', client.id))
  t.true(fin)
  t.false(rig.has(client.id, abi.eventGone))
  client.data(Buffer.from('late '))
  client.data(Buffer.from('words'), Flag.ack | Flag.fin)
  t.is(rig.received(client.id).toString(), 'late words')
  t.true(rig.has(client.id, abi.eventFin))
  t.true(rig.has(client.id, abi.eventGone))
  t.is(rig.error(client.id), abi.errorNone)
  rig.tell('release', client.id)
})

forBoth('close: both FINs at once', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const out = rig.tell('finish', client.id)
  client.send(Flag.fin | Flag.ack) // it does not acknowledge ours
  client.seq++
  client.take(out)
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorNone)
  rig.tell('release', client.id)
})

stackTest('close: data and then FIN, all behind what the client has not acknowledged yet', {}, (t, rig) => {
  const client = new Client(rig).open()
  const data = pattern(5000)
  const out = [...rig.write(client.id, data).out, ...rig.tell('finish', client.id)]
  const got: Buffer[] = []
  let ended = false
  for (let next = out; next.length > 0; ) {
    t.false(ended, 'nothing comes behind the FIN')
    const taken = client.take(next)
    got.push(taken.data)
    ended ||= taken.fin
    next = taken.answers
  }
  t.true(data.equals(Buffer.concat(got)))
  t.true(ended)
  client.data(Buffer.alloc(0), Flag.ack | Flag.fin)
  rig.tell('release', client.id)
})

forBoth('close: RST from the client', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  t.deepEqual(client.send(Flag.rst), [])
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorReset)
  t.is(rig.held().pcbs, 0)
  rig.tell('release', client.id)
})

stackTest('close: RST from the client after its FIN, and after both', {}, (t, rig) => {
  const a = new Client(rig, undefined, 1001).open()
  a.data(Buffer.alloc(0), Flag.ack | Flag.fin)
  a.send(Flag.rst)
  t.true(rig.has(a.id, rig.stack.abi.eventGone))
  t.is(rig.error(a.id), rig.stack.abi.errorReset)
  rig.tell('release', a.id)
})

stackTest('close: RST from the client while its data waits unread', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.reading = false
  client.data(pattern(10_000))
  client.send(Flag.rst)
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  rig.tell('release', client.id)
  t.is(rig.held().receiveBytes, 0)
})

stackTest('close: a RST outside of the window does nothing (RFC 9293 3.5.3)', {}, (t, rig) => {
  const client = new Client(rig).open()
  client.send(Flag.rst, { seq: client.seq - 1 })
  client.send(Flag.rst, { seq: client.seq + (1 << 21) })
  t.false(rig.has(client.id, rig.stack.abi.eventGone))
  client.data(Buffer.from('alive'))
  t.is(rig.received(client.id).toString(), 'alive')
  client.close()
})

forBoth('close: abort sends RST at once, and nothing else', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  rig.write(client.id, pattern(1000))
  const out = rig.tell('abort', client.id)
  t.true(out.length > 0)
  t.true(out.every(packet => (packet.tcp!.flags & Flag.rst) !== 0))
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorAborted)
  rig.tell('release', client.id)
})

// RFC 5961 3.2: a client takes a RST at once only when its number is exactly the next one that it expects.
forBoth('close: the RST of an abort is exact for a client that got the last segments', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  rig.write(client.id, pattern(1000))
  const numbers = rig.tell('abort', client.id).map(packet => packet.tcp!.seq)
  t.true(numbers.includes((client.ack + 1000) >>> 0))
  rig.tell('release', client.id)
})

forBoth('close: the RST of an abort is exact for a client that dropped the last segments', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  rig.write(client.id, pattern(1000)) // its receive buffer is full
  const numbers = rig.tell('abort', client.id).map(packet => packet.tcp!.seq)
  t.true(numbers.includes(client.ack), `${client.ack} is not one of ${numbers}`)
  rig.tell('release', client.id)
})

stackTest('close: abort after FIN to the client sends RST too', {}, (t, rig) => {
  const client = new Client(rig).open()
  client.take(rig.tell('finish', client.id))
  const out = rig.tell('abort', client.id)
  t.is((out.at(-1)?.tcp?.flags ?? 0) & Flag.rst, Flag.rst)
  rig.tell('release', client.id)
})

stackTest('close: release of an open flow resets it', {}, (t, rig) => {
  const client = new Client(rig).open()
  const out = rig.tell('release', client.id)
  t.is(out.length, 1)
  t.is(out[0]!.tcp!.flags & Flag.rst, Flag.rst)
  t.deepEqual(rig.tell('release', client.id), [], 'idempotent')
})

for (const newer of [true, false])
  stackTest(`close: TIME_WAIT ${newer ? 'gives way to a newer SYN' : 'stays for an older SYN'}`, {}, (t, rig) => {
    const first = new Client(rig).open()
    first.take(rig.tell('finish', first.id)) // the side that closes first waits
    first.data(Buffer.alloc(0), Flag.ack | Flag.fin)
    rig.tell('release', first.id)
    t.is(rig.held().pcbs, 1, 'TIME_WAIT')
    const isn = newer ? first.seq + 1000 : first.isn - 1000
    const again = new Client(rig, undefined, first.port, first.toPort, isn)
    if (newer) {
      again.open()
      again.data(Buffer.from('anew'))
      t.is(rig.received(again.id).toString(), 'anew')
      again.close()
      return
    }
    const out = rig.send([again.segment(Flag.syn, { ack: 0, options: LINUX_OPTIONS })])
    t.true(
      out.every(packet => packet.tcp!.flags === Flag.ack),
      'at most an ACK',
    )
    t.is(rig.held().flows, 1)
  })

stackTest('close: a client that answers nothing any more is given up', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.write(client.id, pattern(1000))
  rig.tick(1_000_000)
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorTimeout)
  rig.tell('release', client.id)
})

stackTest('close: with keep-alive a client that is gone is seen', { keepAliveMs: 5000 }, (t, rig) => {
  const client = new Client(rig).open()
  const probes = rig.tick(6000)
  t.is(probes.length, 1)
  t.is(probes[0]!.tcp!.seq, client.ack - 1)
  client.send(Flag.ack)
  t.false(rig.has(client.id, rig.stack.abi.eventGone))
  rig.tick(20_000)
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorTimeout)
  rig.tell('release', client.id)
})

stackTest('close: without keep-alive an idle client is left alone', { keepAliveMs: 0 }, (t, rig) => {
  const client = new Client(rig).open()
  t.deepEqual(rig.tick(60_000), [])
  client.close()
})

stackTest('close: 500 flows one after another leave nothing', {}, (t, rig) => {
  for (let round = 0; round < 500; round++) {
    const client = new Client(rig, undefined, 10_000 + round).open()
    client.data(Buffer.from('ping'))
    client.take(rig.write(client.id, Buffer.from('pong')).out)
    client.close()
    if (round % 40 === 0) rig.tick(2000)
  }
  t.is(rig.counter('tcp_opened'), 500)
})
