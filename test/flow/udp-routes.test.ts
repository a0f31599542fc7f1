/** Datagrams that something is decided about: which way each destination goes. */
import test, { type ExecutionContext } from 'ava'
import { formatEndpoint } from '../../src/endpoint.ts'
import type { DatagramClient, DatagramService } from '../../src/flow/datagram-service.ts'
import type { Decision, RoutedFlow, Router } from '../../src/flow/router.ts'
import { addon } from '../../src/io/addon.ts'
import type { Stack } from '../../src/stack/stack.ts'
import type { Association } from '../../src/upstream/dialer.ts'
import { type Packet, udp } from '../helpers/packets.ts'
import { until } from '../helpers/sockets.ts'
import { OPTIONS, open, type TestDialer } from './rig.ts'

const CLIENT = '198.18.0.1'
const to = (address: string, port = 500, fromPort = 7000, text = 'x') =>
  udp({ from: CLIENT, to: address }, fromPort, port, Buffer.from(text))
const isPortUnreachable = ({ protocol, payload }: Packet) => protocol === 1 && payload[0] === 3 && payload[1] === 3

/** An association that notes where datagrams go, and gives back what the test puts into `inbox`. */
class TestAssociation implements Association {
  readonly maxBytes = 65_507
  readonly sent: string[] = []
  readonly inbox: { from: readonly number[]; port: number; text: string }[] = []
  closed = false
  readonly #stack: Stack

  constructor(stack: Stack) {
    this.#stack = stack
  }

  writeHeader(_at: number, addressAt: number, family: number, port: number): number {
    this.sent.push(
      `${[...this.#stack.bytes.subarray(addressAt, addressAt + (family === 6 ? 16 : 4))].join('.')}:${port}`,
    )
    return 10
  }

  send(_messages: number, _iovecs: number, count: number): number {
    return count
  }

  receive(slots: number, _count: number, _slotBytes: number, found: number): number {
    const next = this.inbox.shift()
    if (next === undefined) return 0
    const { words, bytes } = this.#stack
    const at = words[slots / 4]!
    bytes.set([...next.from, next.port >> 8, next.port & 255, ...Buffer.from(next.text)], at)
    words.set([at, 6 + next.text.length], found / 4)
    return 1
  }

  parseDatagram(at: number, length: number, out: Parameters<Association['parseDatagram']>[2]): boolean {
    const { bytes } = this.#stack
    const port = (bytes[at + 4]! << 8) | bytes[at + 5]!
    Object.assign(out, { family: 4, sourceAt: at, port, payloadAt: at + 6, payloadBytes: length - 6 })
    return true
  }

  close(): void {
    this.closed = true
  }
}

type Decide = (flow: RoutedFlow, dialers: { office: Decision; lab: Decision }) => Decision

async function openDeciding(
  t: ExecutionContext,
  decide: Decide,
  { virtual = {}, more = {} }: { virtual?: Record<string, string>; more?: Parameters<typeof open>[1] } = {},
) {
  const asked: RoutedFlow[] = []
  const held: string[] = []
  const verdicts: ((decision: Decision) => void)[] = []
  const state = { revision: 0 }
  const makeRouter = (dialer: TestDialer): Router => {
    const lab = Object.assign(Object.create(dialer), { isLab: true }) as TestDialer
    const dialers = {
      office: { kind: 'dial', dialer, why: 'rule 1: office' },
      lab: { kind: 'dial', dialer: lab, why: 'rule 2: lab' },
    } as const
    return {
      single: undefined,
      names: {
        acquire: address => {
          const name = virtual[address.join('.')]
          if (name) held.push(name)
          return name
        },
        release: address => void held.splice(held.indexOf(virtual[address.join('.')]!), 1),
      },
      get revision() {
        return state.revision
      },
      decide: flow => {
        asked.push(flow)
        return decide(flow, dialers)
      },
      ask: () => new Promise(resolve => verdicts.push(resolve)),
      isUpstream: () => false,
      counters: () => ({}),
      close: () => {},
    }
  }
  const rig = await open(t, more, undefined, makeRouter)
  const associate = (at: number): TestAssociation => {
    const association = new TestAssociation(rig.stack)
    rig.dialer.associations[at]!.listener.onAssociated(association)
    return association
  }
  return { rig, asked, held, verdicts, state, associate }
}

test('udp-routes: one association for all destinations of one upstream, and one more for another', async t => {
  const { rig, asked, associate } = await openDeciding(t, ({ destination }, { office, lab }) =>
    destination.port === 9 ? lab : office,
  )
  rig.send(to('203.0.113.1'), to('203.0.113.2'), to('203.0.113.3', 9), to('203.0.113.1'))
  t.is(rig.dialer.associations.length, 2)
  t.is(asked.length, 3, 'each destination once')
  t.is(rig.plane.counters().dials_in_flight, 1, 'to the stack it is one dial')
  const office = associate(0)
  const lab = associate(1)
  t.is(rig.plane.counters().dials_in_flight, 0)
  t.deepEqual(office.sent, ['203.0.113.1:500', '203.0.113.2:500', '203.0.113.1:500'])
  t.deepEqual(lab.sent, ['203.0.113.3:9'])
  rig.send(to('203.0.113.3', 9), to('203.0.113.3', 9), to('203.0.113.2'))
  t.is(lab.sent.length, 3)
  t.is(office.sent.length, 4)
  t.like(rig.plane.flows()[0], { state: 'open', why: 'rule 1: office, rule 2: lab', bytesUp: 7 })
  t.is(rig.plane.counters().udp_flows, 1)
  rig.plane.close()
  t.true(office.closed && lab.closed)
})

test('udp-routes: rejected is port unreachable for each datagram at once, dropped is silence', async t => {
  const { rig } = await openDeciding(t, ({ destination }) => ({
    kind: destination.port === 9 ? 'drop' : 'reject',
    why: '',
  }))
  t.deepEqual(rig.send(to('203.0.113.1'), to('203.0.113.1')).map(isPortUnreachable), [true, true])
  t.deepEqual(rig.send(to('203.0.113.1', 9)), [])
  t.is(rig.dialer.associations.length, 0)
  t.is(rig.plane.counters().dials_in_flight, 0, 'others may be dialed for')
})

test('udp-routes: what was turned away has its way when the rules are others, what has one keeps it', async t => {
  let rejects = true
  const { rig, asked, state } = await openDeciding(t, (_, { office }) =>
    rejects ? { kind: 'reject', why: '' } : office,
  )
  rig.send(to('203.0.113.1'))
  rejects = false
  t.deepEqual(rig.send(to('203.0.113.1')).map(isPortUnreachable), [true], 'the rules are the same')
  state.revision++
  t.deepEqual(rig.send(to('203.0.113.1')), [])
  t.is(rig.dialer.associations.length, 1)
  rejects = true
  state.revision++
  t.deepEqual(rig.send(to('203.0.113.1')), [])
  t.is(asked.length, 2)
})

test('udp-routes: a virtual destination has an association of its own, by name, and answers come from its address', async t => {
  const virtual = { '203.0.113.1': 'a.example.org', '203.0.113.2': 'b.example.org' }
  const { rig, held, asked, associate } = await openDeciding(t, (_, { office }) => office, { virtual })
  rig.send(to('203.0.113.1'), to('203.0.113.2'), to('203.0.113.3'), to('203.0.113.1', 501))
  t.deepEqual(
    rig.dialer.associations.map(({ name }) => name),
    ['a.example.org', 'b.example.org', undefined],
  )
  t.is(formatEndpoint(asked[0]!.destination), 'a.example.org:500')
  t.deepEqual(held.toSorted(), ['a.example.org', 'b.example.org'])
  const [a, , plain] = [associate(0), associate(1), associate(2)]
  a!.inbox.push({ from: [192, 0, 2, 99], port: 500, text: 'by name' })
  plain!.inbox.push({ from: [192, 0, 2, 99], port: 600, text: 'by address' })
  rig.dialer.associations[0]!.listener.onDatagrams()
  rig.dialer.associations[2]!.listener.onDatagrams()
  const out = rig.take()
  t.deepEqual(
    out.map(({ from, payload }) => [from, payload.readUInt16BE(0), payload.subarray(8).toString()]),
    [
      ['203.0.113.1', 500, 'by name'],
      ['192.0.2.99', 600, 'by address'],
    ],
  )
  rig.plane.close()
  t.deepEqual(held, [])
})

test('udp-routes: a virtual address whose name is not known any more is port unreachable', async t => {
  const { rig, asked } = await openDeciding(t, (_, { office }) => office, { virtual: { '203.0.113.1': '' } })
  t.deepEqual(rig.send(to('203.0.113.1')).map(isPortUnreachable), [true])
  t.is(asked.length, 0)
})

test('udp-routes: what was decided for a virtual address that is not held is no truth of the name that it has next', async t => {
  const virtual: Record<string, string> = { '203.0.113.1': '' }
  const { rig, held } = await openDeciding(
    t,
    ({ domain }, { office }) => (domain === 'ads.example' ? { kind: 'reject', why: '' } : office),
    { virtual },
  )
  t.deepEqual(rig.send(to('203.0.113.1')).map(isPortUnreachable), [true], 'no name')
  virtual['203.0.113.1'] = 'ads.example'
  t.deepEqual(rig.send(to('203.0.113.1')).map(isPortUnreachable), [true])
  t.deepEqual(held, [])
  virtual['203.0.113.1'] = 'www.example'
  t.deepEqual(rig.send(to('203.0.113.1')), [])
  t.deepEqual(
    rig.dialer.associations.map(({ name }) => name),
    ['www.example'],
  )
})

test('udp-routes: a verdict that comes when the stack has stopped holds no name', async t => {
  const virtual = { '203.0.113.1': 'a.example.org' }
  const { rig, verdicts, held } = await openDeciding(t, () => ({ kind: 'ask', why: '' }), { virtual })
  rig.send(to('203.0.113.1'))
  t.deepEqual(held, ['a.example.org'])
  rig.plane.close(false)
  rig.poller.close()
  verdicts[0]!({ kind: 'reject', why: '' })
  await new Promise(resolve => setImmediate(resolve))
  t.deepEqual(held, [])
})

test('udp-routes: datagrams wait for their verdict, in order', async t => {
  const virtual = { '203.0.113.1': 'a.example.org' }
  const { rig, verdicts, held, associate } = await openDeciding(t, () => ({ kind: 'ask', why: '' }), { virtual })
  rig.send(to('203.0.113.1', 500, 7000, '1'), to('203.0.113.1', 500, 7000, '2'), to('203.0.113.9'))
  t.is(verdicts.length, 2)
  t.deepEqual(held, ['a.example.org'], 'while it is waited for, too')
  verdicts[0]!({ kind: 'dial', dialer: rig.dialer, why: 'the script: office' })
  verdicts[1]!({ kind: 'reject', why: 'the script: reject' })
  await until(() => rig.dialer.associations.length === 1, 'the dial')
  t.deepEqual(rig.take().map(isPortUnreachable), [true])
  t.deepEqual(associate(0).sent, ['203.0.113.1:500', '203.0.113.1:500'])
  rig.plane.close()
  t.deepEqual(held, [])
})

test('udp-routes: a verdict that comes when the endpoint is gone dials nobody', async t => {
  const { rig, verdicts } = await openDeciding(t, () => ({ kind: 'ask', why: '' }))
  rig.send(to('203.0.113.1'))
  for (const fromPort of [1, 2, 3, 4]) rig.send(to('203.0.113.1', 500, fromPort))
  t.is(rig.plane.counters().udp_flows, OPTIONS.udp.maxAssociations)
  verdicts[0]!({ kind: 'dial', dialer: rig.dialer, why: '' })
  await new Promise(resolve => setImmediate(resolve))
  t.is(rig.dialer.associations.length, 0)
})

test('udp-routes: ways are bounded, the least recently used gives way, and its dial with it', async t => {
  const virtual = Object.fromEntries(
    Array.from({ length: 80 }, (_, at) => [`203.0.113.${at + 1}`, `n${at}.example.org`]),
  )
  const { rig, held } = await openDeciding(t, (_, { office }) => office, { virtual })
  for (let at = 0; at < 80; at++) rig.send(to(`203.0.113.${at + 1}`))
  t.is(rig.dialer.associations.filter(({ closed }) => !closed).length, 64)
  t.is(held.length, 64)
  t.is(rig.plane.counters().dials_in_flight, 1)
  for (const { closed, listener } of rig.dialer.associations)
    if (!closed) listener.onAssociationFailed({ failure: 'refused', message: 'as the test says' })
  t.is(rig.plane.counters().dials_in_flight, 0)
})

test('udp-routes: a way that is not used ends, while the endpoint lives on by another', async t => {
  const { rig, associate } = await openDeciding(
    t,
    ({ destination }, { office, lab }) => (destination.port === 9 ? lab : office),
    { more: { udp: { ...OPTIONS.udp, idleTimeoutMs: 120 } } },
  )
  rig.send(to('203.0.113.1'), to('203.0.113.1', 9))
  const office = associate(0)
  const lab = associate(1)
  await until(() => {
    rig.send(to('203.0.113.1', 9))
    return office.closed
  }, 'the end of one')
  t.false(lab.closed)
  t.is(rig.plane.counters().udp_flows, 1)
})

/** Takes port 53, and answers with the question in capitals. */
class Capitals implements DatagramService {
  readonly clients: DatagramClient[] = []
  stack: Stack | undefined

  takes(_destAt: number, _family: number, port: number): boolean {
    return port === 53
  }

  receive(client: DatagramClient, row: number): void {
    this.clients.push(client)
    const { abi, words, bytes } = this.stack!
    const datagram = (abi.datagrams + row * abi.datagramBytes) / 4
    const iovec = abi.datagramIovecs / 4 + 2 * (words[datagram + abi.datagramFirstIovec / 4]! + 1)
    const text = Buffer.from(bytes.subarray(words[iovec]!, words[iovec]! + words[iovec + 1]!)).toString()
    const at = words[abi.landingTable / 4]!
    bytes.set(Buffer.from(text.toUpperCase()), at)
    client.answer(4 * datagram + abi.datagramDest, 53, at, text.length)
  }
}

for (const kind of ['one way', 'rules'] as const)
  test(`datagram-service: its datagrams are its own, the others go on (${kind})`, async t => {
    const service = new Capitals()
    const rig = await openServed(t, service, kind)
    const out = rig.send(to('203.0.113.1'), to('203.0.113.53', 53, 7000, 'name'), to('203.0.113.1'))
    t.deepEqual(
      out.map(({ from, payload }) => [from, payload.subarray(8).toString()]),
      [['203.0.113.53', 'NAME']],
    )
    t.is(rig.dialer.associations.length, 1)
    const association = new TestAssociation(rig.stack)
    rig.dialer.associations[0]!.listener.onAssociated(association)
    t.is(association.sent.length, 2)
  })

test('datagram-service: an answer to a client that is gone goes nowhere, and who has no association gives way first', async t => {
  const service = new Capitals()
  const rig = await openServed(t, service, 'one way')
  rig.send(to('203.0.113.1', 500, 1))
  rig.send(to('203.0.113.53', 53, 2))
  for (const fromPort of [3, 4, 5]) rig.send(to('203.0.113.1', 500, fromPort))
  t.is(rig.dialer.associations.filter(({ closed }) => closed).length, 0)
  t.is(rig.plane.counters().udp_flows, OPTIONS.udp.maxAssociations)
  rig.take()
  const { abi, bytes } = rig.stack
  bytes.set([203, 0, 113, 53], abi.scratch)
  t.false(service.clients[0]!.answer(abi.scratch, 53, abi.scratch, 1))
  rig.plane.endTurn()
  t.deepEqual(rig.take(), [], 'not to who has its number now, either')
})

async function openServed(t: ExecutionContext, service: Capitals, kind: 'one way' | 'rules') {
  const routed = (dialer: TestDialer): Router => ({
    single: undefined,
    names: undefined,
    revision: 0,
    decide: () => ({ kind: 'dial', dialer, why: '' }),
    ask: () => Promise.reject(new Error('not asked')),
    isUpstream: () => false,
    counters: () => ({}),
    close: () => {},
  })
  const rig = await open(t, {}, undefined, kind === 'rules' ? routed : undefined, service)
  service.stack = rig.stack
  return rig
}

test.after.always('udp-routes: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})

test('udp-routes: headers to a name may be as long as names are, of each datagram of a batch', async t => {
  const name = 'n'.repeat(253)
  const { rig, associate } = await openDeciding(t, (_, { office }) => office, { virtual: { '198.19.0.5': name } })
  rig.send(to('198.19.0.5', 500, 7000, 'first'))
  const sent: string[] = []
  const { words, bytes } = rig.stack
  const association = associate(0)
  association.writeHeader = (at, _addressAt, _family, port) => {
    bytes.set([...Buffer.from(name), 0, port & 255], at)
    return name.length + 2
  }
  association.send = (messages, iovecs, count) => {
    for (let message = messages / 4; message < messages / 4 + 3 * count; message += 3) {
      const row = iovecs / 4 + 2 * words[message]!
      const parts = Array.from({ length: words[message + 1]! }, (_, part) =>
        Buffer.from(bytes.subarray(words[row + 2 * part]!, words[row + 2 * part]! + words[row + 2 * part + 1]!)),
      )
      sent.push(Buffer.concat(parts).toString('latin1'))
    }
    return count
  }
  rig.send(...Array.from({ length: 60 }, (_, at) => to('198.19.0.5', at + 1, 7000, `text ${at}`)))
  t.is(sent.length, 60)
  sent.forEach((text, at) => {
    t.is(text, `${name}\0${String.fromCharCode(at + 1)}text ${at}`)
  })
})
