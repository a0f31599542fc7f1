/** The kernel gives no socket: of descriptors, or of memory, there are none. */
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../src/io/addon.ts'
import { DEFAULTS } from '../../src/options.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import { Flag, tcp, udp } from '../helpers/packets.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { tcpServer } from '../helpers/sockets.ts'
import { openWith, PAIR, segment } from './rig.ts'

const ERRORS = { ENOMEM: 12, ENFILE: 23, EMFILE: 24, ENOSPC: 28, ENOBUFS: 105 }

async function rig(t: ExecutionContext) {
  const port = await tcpServer(t, () => {})
  const said: { message: string; fields: unknown }[] = []
  const log = {
    info() {},
    warn: (message: string, fields?: Record<string, unknown>) => void said.push({ message, fields }),
  }
  const made = openWith(t, {}, (poller, { bytes, words, abi }) => {
    const arena = { bytes, words, scratch: abi.scratch, scratchBytes: abi.scratchBytes }
    const proxy = socks5State({ host: '127.0.0.1', port }, 'auto', log)
    return new ProxyDialer(proxyParts(poller, arena, proxy, DEFAULTS.upstream.pool, log))
  })
  return { ...made, said, upstream: `127.0.0.1:${port}` }
}

for (const [name, errno] of Object.entries(ERRORS))
  test.serial(
    `resources: ${name}: clients are told at once, the proxy is not called down, one line says why`,
    async t => {
      const { connectTcp } = addon
      t.teardown(() => {
        addon.connectTcp = connectTcp
      })
      addon.connectTcp = () => -errno
      const { send, said, plane, lines, upstream } = await rig(t)
      for (let port = 1; port <= 20; port++) {
        const [answer] = send(tcp(PAIR, { fromPort: 40_000 + port, toPort: 80, seq: 1000, flags: Flag.syn }))
        t.is(answer?.tcp?.flags, Flag.rst | Flag.ack)
        t.is(answer?.tcp?.toPort, 40_000 + port)
      }
      const [unreachable] = send(udp(PAIR, 5000, 53, Buffer.from('?')))
      t.is(unreachable?.protocol, 1, 'ICMP')
      t.deepEqual(said, [{ message: 'no socket to the proxy can be made', fields: { upstream, reason: name } }])
      t.is(lines.filter(({ level }) => level === 'warn').length, 1, 'that datagrams are not relayed')
      const { dials_in_flight, tcp_flows, flow_slots } = plane.counters()
      t.deepEqual({ dials_in_flight, tcp_flows, flow_slots }, { dials_in_flight: 0, tcp_flows: 0, flow_slots: 0 })
    },
  )

test.serial('resources: when there are some again, the next SYN is dialed', async t => {
  const { connectTcp } = addon
  t.teardown(() => {
    addon.connectTcp = connectTcp
  })
  addon.connectTcp = () => -ERRORS.EMFILE
  const { send, plane } = await rig(t)
  t.is(send(segment(Flag.syn)).length, 1)
  addon.connectTcp = connectTcp
  t.is(send(segment(Flag.syn, { seq: 2000 })).length, 0)
  t.is(plane.counters().dials_in_flight, 1)
})
