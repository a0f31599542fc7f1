/** Answers whose source is a lie do not reach a client (RFC 1122 3.2.1.3). */
import { parseAddress } from '../../src/endpoint.ts'
import { udp } from '../helpers/packets.ts'
import { FORGED_SOURCES } from '../helpers/udp-relay.ts'
import { forget, takeDatagrams } from './datagrams.ts'
import { type Rig, stackTest, V4, V6 } from './rig.ts'

const OWN4 = '198.18.0.77'
const OWN6 = 'fd74:756e::77'
const OWN = { ownAddresses: [parseAddress(OWN4)!, parseAddress(OWN6)!] }

/** A datagram for the client of `pair`, from `source`: what tg_udp_send says, and what leaves. */
function answer(rig: Rig, pair: typeof V4, source: string, bytes: number) {
  rig.send([udp(pair, 1000, 53, Buffer.from('?'))])
  const got = takeDatagrams(rig)
  const { abi, exports, words } = rig.stack
  rig.stack.bytes.set(parseAddress(source)!, abi.scratch)
  const family = source.includes(':') ? 6 : 4
  const landing = words[abi.landingTable / 4]!
  const said = exports.tg_udp_send(got[0]!.endpoint, family, abi.scratch, 53, landing, bytes)
  const packets = rig.flush()
  forget(rig, got)
  return { said, packets: packets.length }
}

for (const source of [...FORGED_SOURCES, OWN4, OWN6, V4.from, V6.from])
  for (const bytes of [1, 4_000])
    stackTest(`udp-source: ${bytes} bytes from ${source} are dropped and counted`, OWN, (t, rig) => {
      t.deepEqual(answer(rig, source.includes(':') ? V6 : V4, source, bytes), { said: 3, packets: 0 })
      t.is(rig.counter('udp_forged'), 1)
    })

for (const source of ['1.0.0.0', '126.255.255.255', '128.0.0.1', '223.255.255.255', '198.18.0.76', '10.0.0.1'])
  stackTest(`udp-source: ${source} may send`, OWN, (t, rig) => {
    t.deepEqual(answer(rig, V4, source, 1), { said: 0, packets: 1 })
    t.is(rig.counter('udp_forged'), 0)
  })

for (const source of ['::2', '2001:db8::1', 'fe80::1', 'fd74:756e::76', '64:ff9b::1'])
  stackTest(`udp-source: ${source} may send`, OWN, (t, rig) => {
    t.deepEqual(answer(rig, V6, source, 1), { said: 0, packets: 1 })
  })
