import test from 'ava'
import type { DatagramClient, DatagramService } from '../../src/flow/datagram-service.ts'
import { type Packet, udp } from '../helpers/packets.ts'
import { OPTIONS, open, PAIR } from './rig.ts'

const isPortUnreachable = ({ protocol, payload }: Packet) => protocol === 1 && payload[0] === 3 && payload[1] === 3
const REJECT = { udp: { ...OPTIONS.udp, quic: 'reject' } } as const

/** Takes port 53. */
class Names implements DatagramService {
  readonly received: number[] = []

  takes(_at: number, _family: number, port: number): boolean {
    return port === 53
  }

  receive({ client }: DatagramClient): void {
    this.received.push(client.port)
  }
}

test('udp.quic reject: datagrams to port 443 are refused each, and nobody is asked', async t => {
  const rig = await open(t, REJECT)
  for (let count = 0; count < 3; count++) {
    const out = rig.send(udp(PAIR, 5000, 443, Buffer.from('Initial')))
    t.is(out.length, 1)
    t.true(isPortUnreachable(out[0]!))
  }
  t.is(rig.dialer.associations.length, 0)
})

test('udp.quic reject: of a batch the others go on, in their order, to the upstream and to a service', async t => {
  const service = new Names()
  const rig = await open(t, REJECT, undefined, undefined, service)
  const ports = [500, 443, 53, 501, 443, 502]
  const out = rig.send(...ports.map(port => udp(PAIR, 5000, port, Buffer.from('x'))))
  t.is(out.filter(isPortUnreachable).length, 2)
  t.deepEqual(service.received, [5000])
  t.is(rig.dialer.associations.length, 1)
  const sent: number[] = []
  rig.dialer.associations[0]!.listener.onAssociated({
    maxBytes: 65_507,
    writeHeader(_at, _addressAt, _family, port) {
      sent.push(port)
      return 10
    },
    send: (_messages, _iovecs, count) => count,
    receive: () => 0,
    parseDatagram: () => false,
    close() {},
  })
  t.deepEqual(sent, [500, 501, 502])
})

test('udp.quic allow: port 443 is a port as others', async t => {
  const rig = await open(t)
  t.deepEqual(rig.send(udp(PAIR, 5000, 443, Buffer.from('Initial'))), [])
  t.is(rig.dialer.associations.length, 1)
})
