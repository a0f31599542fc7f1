/** What a virtio_net_hdr may say of a packet from the tun (linux/virtio_net.h). */
import { tcp } from '../helpers/packets.ts'
import { stackTest, V4, V6 } from './rig.ts'

const VNET = { vnetHdr: true }
const SYN = { fromPort: 40_000, toPort: 80, seq: 1, flags: 2 }
const syn4 = tcp(V4, SYN)

interface Says {
  readonly flags?: number
  readonly gsoType?: number
  readonly hdrLen?: number
  readonly gsoSize?: number
  readonly csumStart?: number
  readonly csumOffset?: number
}

function header({ flags = 0, gsoType = 0, hdrLen = 0, gsoSize = 0, csumStart = 0, csumOffset = 0 }: Says): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.set([flags, gsoType])
  for (const [at, value] of [hdrLen, gsoSize, csumStart, csumOffset].entries()) bytes.writeUInt16LE(value, 2 + 2 * at)
  return bytes
}

const lies: [string, Says][] = [
  ['a GSO type without a size', { gsoType: 1, hdrLen: 40 }],
  ['a header longer than the packet', { gsoType: 1, gsoSize: 1400, hdrLen: 41 }],
  ['a checksum that begins beyond the packet', { flags: 1, csumStart: 65_535, csumOffset: 16 }],
  ['a checksum that stands beyond the packet', { flags: 1, csumStart: 20, csumOffset: 19 }],
  ['a checksum so far beyond that 16 bits wrap', { flags: 1, csumStart: 20, csumOffset: 65_530 }],
  ['fragmentation offload, which was not asked for', { gsoType: 3, gsoSize: 1400, hdrLen: 40 }],
  ['an unknown GSO type', { gsoType: 2, gsoSize: 1400, hdrLen: 40 }],
  ['ECN of no GSO type', { gsoType: 0x80, gsoSize: 1400, hdrLen: 40 }],
  ['TCP over IPv6, and the packet is IPv4', { gsoType: 4, gsoSize: 1400, hdrLen: 40 }],
]
for (const [name, says] of lies)
  stackTest(`vnet: dropped and counted: ${name}`, VNET, (t, rig) => {
    t.deepEqual(rig.send([syn4], header(says)), [])
    t.is(rig.counter('drop_vnet'), 1)
    t.is(rig.held().flows, 0)
  })

stackTest('vnet: TCP over IPv4, and the packet is IPv6: dropped and counted', VNET, (t, rig) => {
  rig.send([tcp(V6, SYN)], header({ gsoType: 1, gsoSize: 1400, hdrLen: 60 }))
  t.is(rig.counter('drop_vnet'), 1)
})

const truths: [string, Says][] = [
  ['nothing', {}],
  ['a partial checksum', { flags: 1, csumStart: 20, csumOffset: 16 }],
  ['a checksum known to be good', { flags: 2 }],
  ['TCP with ECN', { flags: 1, gsoType: 0x81, gsoSize: 1400, hdrLen: 40, csumStart: 20, csumOffset: 16 }],
]
for (const [name, says] of truths)
  stackTest(`vnet: taken: ${name}`, VNET, (t, rig) => {
    rig.send([syn4], header(says))
    t.is(rig.held().flows, 1)
    for (const id of rig.flows.keys()) rig.tell('release', id)
  })

stackTest('vnet: a wrong checksum is taken where the kernel vouches for it, and nowhere else', VNET, (t, rig) => {
  const wrong = Buffer.from(syn4).fill(9, 36, 38)
  rig.send([wrong], header({}))
  t.is(rig.counter('drop_checksum'), 1)
  t.is(rig.held().flows, 0)
  for (const flags of [1, 2]) {
    rig.send([wrong], header({ flags, csumStart: 20, csumOffset: 16 }))
    t.is(rig.held().flows, 1)
    for (const id of rig.flows.keys()) rig.tell('release', id)
  }
})
