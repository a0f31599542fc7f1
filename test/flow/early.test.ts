/** What comes with, or right behind, the proxy's reply. */
import type { Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../src/io/addon.ts'
import { DEFAULTS } from '../../src/options.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import { startBadSocks } from '../helpers/bad-socks.ts'
import { Flag } from '../helpers/packets.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { until } from '../helpers/sockets.ts'
import { pattern } from '../stack/rig.ts'
import { established, open, openWith, segment } from './rig.ts'

const OK = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80]
const LOG = { info() {}, warn() {} }

function openDialing(t: ExecutionContext, port: number) {
  return openWith(t, {}, (poller, { bytes, words, abi }) => {
    const arena = { bytes, words, scratch: abi.scratch, scratchBytes: abi.scratchBytes }
    const proxy = socks5State({ host: '127.0.0.1', port: port }, DEFAULTS.upstream.handshake, LOG)
    return new ProxyDialer(proxyParts(poller, arena, proxy, 0, LOG))
  })
}

for (const [bytes, end] of [
  [0, 'end'],
  [3_000, 'end'],
  [4_070, 'end'],
  [4_071, 'end'],
  [20_000, 'end'],
] as const)
  test(`tcp-flow: ${bytes} bytes and the end, sent in one with the reply, all reach the client`, async t => {
    const data = pattern(bytes)
    const bad = await startBadSocks(() => [
      { expect: 3 },
      { send: [5, 0] },
      { expect: 10 },
      { send: [...OK, ...data] },
      end,
    ])
    t.teardown(() => bad.close())
    const rig = openDialing(t, bad.port)
    rig.send(segment(Flag.syn))
    const got: Buffer[] = []
    let ack = 0
    let finished = false
    await until(() => {
      const inbox = rig.take()
      for (let packet = inbox.shift(); packet !== undefined; packet = inbox.shift()) {
        const { flags, seq, payload } = packet.tcp!
        if (flags & Flag.syn) ack = seq + 1
        else if (seq === ack && !finished) {
          got.push(payload)
          finished = (flags & Flag.fin) !== 0
          ack += payload.length + (finished ? 1 : 0)
        }
        if (flags & Flag.syn || flags & Flag.fin || payload.length > 0)
          inbox.push(...rig.send(segment(Flag.ack, { seq: 1001, ack })))
      }
      return finished
    }, 'the end of the stream')
    t.true(Buffer.concat(got).equals(data))
  })

test.serial(
  'tcp-flow: bytes behind the reply that had no room come before the last ones of an upstream that broke',
  async t => {
    let upstream: Socket | undefined
    const rig = await open(t, {}, peer => {
      upstream = peer.on('error', () => {})
    })
    const { exports } = rig.stack
    let hasRoom = false
    const tg_tcp_reserve = (id: number) => (hasRoom ? exports.tg_tcp_reserve(id) : 0)
    Object.assign(rig.stack, { exports: { ...exports, tg_tcp_reserve } })
    const { socketError } = addon
    t.teardown(() => {
      addon.socketError = socketError
    })
    // there is room from the moment in which the gateway knows that the connection broke
    addon.socketError = fd => {
      const error = socketError(fd)
      hasRoom ||= error !== 0
      return error
    }
    const { ack } = await established(rig, Buffer.from('first '))
    await until(() => upstream !== undefined, 'the connection')
    upstream!.write('then the last')
    upstream!.resetAndDestroy()
    let text = ''
    let next = ack
    await until(() => {
      for (const { tcp: got } of rig.take()) {
        if (got!.seq !== next) continue
        text += got!.payload.toString()
        next += got!.payload.length
        if (got!.flags & Flag.rst) return true
      }
      return false
    }, 'the reset')
    t.is(text, 'first then the last')
  },
)

test('tcp-flow: a reset right behind the first bytes waits for a client that has not acknowledged its SYN-ACK', async t => {
  const data = pattern(1_000)
  const bad = await startBadSocks([
    { expect: 3 },
    { send: [5, 0] },
    { expect: 10 },
    { send: [...OK, ...data] },
    { waitMs: 30 },
    'reset',
  ])
  t.teardown(() => bad.close())
  const rig = openDialing(t, bad.port)
  rig.send(segment(Flag.syn))
  let ack = 0
  await until(() => {
    const answer = rig.take().find(packet => (packet.tcp!.flags & Flag.syn) !== 0)
    if (answer !== undefined) ack = answer.tcp!.seq + 1
    return ack !== 0 && bad.live() === 0
  }, 'the SYN-ACK')
  await t.throwsAsync(
    until(() => rig.take().length > 0, 'a packet', 100),
    { message: /did not come/ },
  )
  const out = rig.send(segment(Flag.ack, { seq: 1001, ack }))
  t.true(Buffer.concat(out.map(packet => packet.tcp!.payload)).equals(data))
  t.is(out.at(-1)!.tcp!.flags & Flag.rst, Flag.rst)
  t.is(rig.plane.counters().tcp_flows, 0)
})
