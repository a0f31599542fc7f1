import { createSocket } from 'node:dgram'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import type { Decoded } from '../dns/messages.ts'
import { endOfQuestion, makeAnswer } from '../dns/messages.ts'
import { until } from '../helpers/sockets.ts'
import { framed, openLive, type Script, startHttpResolver, startResolver } from './live-rig.ts'
import { a } from './rig.ts'

const data = ({ rcode, answers }: Decoded) => [rcode, ...answers!.map(each => 'data' in each && each.data)]
const nameIn = (query: Buffer) => {
  const labels: string[] = []
  for (let at = 12; query[at] !== 0; at += 1 + query[at]!)
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!))
  return labels.join('.').toLowerCase()
}
const right = (query: Buffer, address = '192.0.2.80') => makeAnswer(query, a(address, 60, nameIn(query)))

test('ways: datagrams by one association, whoever is asked', async t => {
  const one = await startResolver(t, { udp: (query, reply) => reply(right(query, '192.0.2.1')) })
  const other = await startResolver(t, { udp: (query, reply) => reply(right(query, '192.0.2.2')) })
  const { ask, socks, lines } = await openLive(t, { clock: () => 0 })
  for (const name of ['a', 'b', 'c']) {
    t.deepEqual(data(await ask(one.port, `${name}.example.org`)), ['NOERROR', '192.0.2.1'])
    t.deepEqual(data(await ask(other.port, `${name}.example.org`)), ['NOERROR', '192.0.2.2'])
  }
  t.is(socks.counters.associates, 1)
  t.is(socks.counters.connects, 0)
  t.deepEqual(
    lines.map(({ fields }) => fields),
    [
      { resolver: `127.0.0.1:${one.port}`, by: 'udp' },
      { resolver: `127.0.0.1:${other.port}`, by: 'udp' },
    ],
  )
})

test('ways: a proxy without UDP: all by one TCP connection, pipelined, answers in any order', async t => {
  const held: (() => void)[] = []
  const resolver = await startResolver(t, { tcp: (query, reply) => void held.push(() => reply(right(query))) })
  const { ask, socks, lines } = await openLive(t, { udp: false })
  const answers = Promise.all(['a', 'b', 'c'].map(name => ask(resolver.port, `${name}.example.org`)))
  await until(() => held.length === 3, 'all three')
  for (const reply of [...held].reverse()) reply()
  t.deepEqual((await answers).map(data), Array(3).fill(['NOERROR', '192.0.2.80']))
  t.is(resolver.seen.connections, 1)
  const before = socks.counters.connections
  const last = ask(resolver.port, 'd.example.org')
  await until(() => held.length === 4, 'the last one')
  held[3]!()
  await last
  t.is(socks.counters.connections, before, 'that the proxy refuses datagrams is remembered')
  t.deepEqual(
    lines.map(({ fields }) => fields?.by),
    ['tcp'],
  )
})

test('ways: a stream in any pieces, and messages behind each other in one', async t => {
  const held: Buffer[] = []
  const resolver = await startResolver(t, {
    tcp: async (query, _, socket) => {
      const bytes = framed(right(query))
      if (nameIn(query) !== 'slow.example.org') {
        held.push(bytes)
        if (held.length === 3) socket.write(Buffer.concat(held.splice(0)))
        return
      }
      for (const byte of bytes) {
        socket.write(Uint8Array.of(byte))
        await delay(1)
      }
    },
  })
  const { ask } = await openLive(t, { udp: false })
  t.deepEqual(data(await ask(resolver.port, 'slow.example.org')), ['NOERROR', '192.0.2.80'])
  const answers = await Promise.all(['a', 'b', 'c'].map(name => ask(resolver.port, `${name}.example.org`)))
  t.deepEqual(answers.map(data), Array(3).fill(['NOERROR', '192.0.2.80']))
  t.is(resolver.seen.connections, 1)
})

test('ways: a connection that the resolver closes is replaced, and what it owed is asked once more', async t => {
  let closed = 0
  const resolver = await startResolver(t, {
    tcp: (query, reply, socket) => {
      if (nameIn(query) === 'b.example.org' && closed++ === 0) socket.destroy()
      else reply(right(query))
    },
  })
  const { ask } = await openLive(t, { udp: false })
  await ask(resolver.port, 'a.example.org')
  t.deepEqual(data(await ask(resolver.port, 'b.example.org')), ['NOERROR', '192.0.2.80'])
  t.is(resolver.seen.connections, 2)
  for (const socket of resolver.open) socket.destroy()
  t.deepEqual(data(await ask(resolver.port, 'c.example.org')), ['NOERROR', '192.0.2.80'])
})

test('ways: a resolver that ends each connection after three answers: all are answered, and nothing is told', async t => {
  const answered = new Map<Socket, number>()
  const resolver = await startResolver(t, {
    tcp: (query, reply, socket) => {
      const count = (answered.get(socket) ?? 0) + 1
      answered.set(socket, count)
      if (count <= 3) reply(right(query))
      if (count === 3) socket.end()
    },
  })
  const { ask, lines } = await openLive(t, { udp: false })
  const answers = await Promise.all(Array.from({ length: 30 }, (_, at) => ask(resolver.port, `n${at}.example.org`)))
  t.deepEqual(answers.map(data), Array(30).fill(['NOERROR', '192.0.2.80']))
  t.true(resolver.seen.connections >= 10)
  t.is(lines.length, 1)
})

test('ways: that a way fails is told once, whatever number of questions it fails', async t => {
  let isSound = true
  const tcp: Script['tcp'] = (query, reply, socket) => (isSound ? reply(right(query)) : void socket.destroy())
  const resolver = await startResolver(t, { tcp })
  const { ask, lines } = await openLive(t, { udp: false })
  await ask(resolver.port, 'a.example.org')
  isSound = false
  for (const name of ['b', 'c', 'd']) t.deepEqual(data(await ask(resolver.port, `${name}.example.org`)), ['SERVFAIL'])
  t.deepEqual(
    lines.map(({ message }) => message),
    ['names are resolved', 'names cannot be resolved as before'],
  )
})

test('ways: a resolver that closes always: SERVFAIL, and no storm of connections', async t => {
  const resolver = await startResolver(t, { tcp: (_query, _reply, socket) => void socket.destroy() })
  const { ask } = await openLive(t, { udp: false })
  t.deepEqual(data(await ask(resolver.port, 'a.example.org')), ['SERVFAIL'])
  t.is(resolver.seen.connections, 2)
})

test('ways: a truncated datagram goes by TCP', async t => {
  const resolver = await startResolver(t, {
    udp: (query, reply) => {
      const answer = Buffer.from(query)
      answer[2] = 0x83
      reply(answer)
    },
    tcp: (query, reply) => reply(right(query)),
  })
  const { ask } = await openLive(t)
  t.deepEqual(data(await ask(resolver.port, 'a.example.org')), ['NOERROR', '192.0.2.80'])
  t.is(resolver.seen.streamed, 1)
})

test.serial('ways: of 10,000 forged answers none is accepted, and the right one is', async t => {
  const forger = createSocket('udp4')
  t.teardown(() => forger.close())
  let forged = 0
  let isAnswered = false
  const resolver = await startResolver(t, {
    udp: async (query, reply, from) => {
      if (forged++ > 0) return
      const truth = right(query)
      for (let at = 0; at < 10_000; at++) {
        const answer = right(query, '203.0.113.66')
        const kind = at % 4
        // another ID, other letters, another question, another source
        if (kind === 0) answer.writeUInt16BE((query.readUInt16BE(0) + 1 + (at % 65_000)) & 0xffff, 0)
        else if (kind === 1) swapCase(answer, at)
        else if (kind === 2) answer[endOfQuestion(answer) - 3] = 28
        if (kind === 3) forger.send(answer, from.port, from.address)
        else resolver.datagrams.send(answer, from.port, from.address)
        forged = at + 1
        if (at % 64 === 63) await new Promise(setImmediate)
      }
      // the path may have lost some
      for (; !isAnswered; await delay(20)) reply(truth)
    },
    // whoever asks because of wrong letters gets no answer here
    tcp: () => {},
  })
  t.teardown(() => {
    isAnswered = true
  })
  // nothing ends for want of time, however long it takes to forge
  const { ask, service } = await openLive(t, { clock: () => 0 })
  t.deepEqual(data(await ask(resolver.port, 'www.example.org')), ['NOERROR', '192.0.2.80'])
  t.is(forged, 10_000)
  t.true(service.counters.dns_foreign_answers > 2_000, String(service.counters.dns_foreign_answers))
})

/** At least one letter of the name in another case. */
function swapCase(message: Buffer, at: number): void {
  const letters: number[] = []
  for (let label = 12; message[label] !== 0; label += 1 + message[label]!)
    for (let letter = label + 1; letter <= label + message[label]!; letter++) letters.push(letter)
  message[letters[at % letters.length]!]! ^= 0x20
}

test('ways: a resolver that writes letters as it likes is asked by TCP', async t => {
  const resolver = await startResolver(t, {
    udp: (query, reply) => {
      const answer = right(query)
      answer.set(Buffer.from(nameIn(query).slice(0, 3)), 13)
      answer.set(Buffer.from('example'), 17)
      answer.set(Buffer.from('org'), 25)
      reply(answer)
    },
    tcp: (query, reply) => reply(right(query, '192.0.2.81')),
  })
  const { ask } = await openLive(t)
  t.deepEqual(data(await ask(resolver.port, 'www.example.org')), ['NOERROR', '192.0.2.81'])
})

test('ways: the resolvers of the configuration answer where the one that was asked does not', async t => {
  const silent = await startResolver(t, {})
  const good = await startResolver(t, { tcp: (query, reply) => reply(right(query)) })
  const { ask } = await openLive(t, { common: [{ protocol: 'tcp', host: '127.0.0.1', port: good.port }] })
  t.deepEqual(data(await ask(silent.port, 'a.example.org')), ['NOERROR', '192.0.2.80'])
  const before = silent.seen.datagrams
  await ask(silent.port, 'b.example.org')
  t.true(silent.seen.datagrams - before <= 1)
})

for (const chunks of [false, true])
  test(`ways: a resolver that speaks HTTP${chunks ? ', in chunks' : ''}`, async t => {
    const silent = await startResolver(t, {})
    const http = await startHttpResolver(t, right, chunks)
    const { ask, lines } = await openLive(t, {
      common: [{ protocol: 'https', host: '127.0.0.1', port: http.port, path: '/q' }],
    })
    t.deepEqual(data(await ask(silent.port, 'a.example.org')), ['NOERROR', '192.0.2.80'])
    const names = ['b', 'c', 'd'].map(name => ask(silent.port, `${name}.example.org`))
    t.deepEqual((await Promise.all(names)).map(data), Array(3).fill(['NOERROR', '192.0.2.80']))
    t.is(http.requests[0], `POST /q application/dns-message 127.0.0.1:${http.port}`)
    t.deepEqual(lines.at(-1)!.fields!.by, `https://127.0.0.1:${http.port}/q`)
  })

test('ways: HTTP that is no answer is a failure, and the next resolver is asked', async t => {
  const silent = await startResolver(t, {})
  const bad = await startHttpResolver(t, () => new Uint8Array())
  const good = await startHttpResolver(t, right)
  const common = [bad, good].map(({ port }) => ({ protocol: 'https' as const, host: '127.0.0.1', port, path: '/q' }))
  const { ask } = await openLive(t, { common })
  t.deepEqual(data(await ask(silent.port, 'a.example.org')), ['NOERROR', '192.0.2.80'])
})

test('ways: a suffix is asked directly, by UDP and what is truncated by TCP, and never through the proxy', async t => {
  const inner = await startResolver(t, {
    udp: (query, reply) => {
      const answer = right(query, '10.0.0.1')
      if (nameIn(query).startsWith('big')) answer[2]! |= 2
      reply(answer)
    },
    tcp: (query, reply) => reply(right(query, '10.0.0.2')),
  })
  const { ask, split, resolvers, socks } = await openLive(t)
  split.set('cluster.local', resolvers.direct({ protocol: 'udp', host: '127.0.0.1', port: inner.port }))
  t.deepEqual(data(await ask(1, 'db.cluster.local')), ['NOERROR', '10.0.0.1'])
  t.deepEqual(data(await ask(1, 'big.cluster.local')), ['NOERROR', '10.0.0.2'])
  t.is(socks.counters.connections, 0)
})

test('ways: nobody listens where a suffix leads: SERVFAIL at once', async t => {
  const { ask, split, resolvers } = await openLive(t)
  split.set('cluster.local', resolvers.direct({ protocol: 'udp', host: '127.0.0.1', port: 1 }))
  const start = performance.now()
  t.deepEqual(data(await ask(1, 'db.cluster.local')), ['SERVFAIL'])
  t.true(performance.now() - start < 1_500)
})

test('ways: who asks hears of no other question within that call, whatever the connection does then', async t => {
  const heard: string[] = []
  let within = ''
  let last: Promise<Decoded> | undefined
  const resolver = await startResolver(t, {
    tcp: (query, reply, socket) => {
      reply(right(query))
      if (last !== undefined) return
      socket.resetAndDestroy()
      within = 'within the call'
      last = ask(1, 'b.example.org')
      within = 'later'
    },
  })
  const { ask, split, resolvers } = await openLive(t)
  split.set('example.org', resolvers.direct({ protocol: 'tcp', host: '127.0.0.1', port: resolver.port }))
  const first = ask(1, 'a.example.org', false, () => void heard.push(within))
  t.deepEqual(data(await first), ['NOERROR', '192.0.2.80'])
  t.deepEqual(data(await last!), ['NOERROR', '192.0.2.80'])
  t.deepEqual(heard, ['later'])
})
