import test from 'ava'
import {
  encodeForwardRequest,
  encodeHevHeader,
  encodeHevNameHeader,
  HEV_HEADER_BYTES_IPV4,
  HEV_HEADER_BYTES_IPV6,
  HEV_MAX_NAME_BYTES,
  HEV_MAX_PAYLOAD_BYTES,
  HEV_SERVER_PAYLOAD_IPV4,
  HEV_SERVER_PAYLOAD_IPV6,
  hevFields,
  parseHevDatagram,
  parseHevHeader,
} from '../../../src/upstream/datagrams/hev-udp-codec.ts'
import {
  AddressType,
  addressFields,
  MALFORMED,
  NEED_MORE,
  parseRequest,
} from '../../../src/upstream/socks5/socks5-codec.ts'

const v4 = Uint8Array.of(192, 0, 2, 7)
const v6 = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
const text = (value: string) => [...new TextEncoder().encode(value)]

/** Encodes at offset 3 of a buffer of 0xee and proves that nothing else was written. */
function encoded(encode: (bytes: Uint8Array, at: number) => number): number[] {
  const bytes = new Uint8Array(600).fill(0xee)
  const length = encode(bytes, 3)
  const around = [...bytes.subarray(0, 3), ...bytes.subarray(3 + length)]
  if (around.some(byte => byte !== 0xee)) throw new Error('wrote outside of the message')
  return [...bytes.subarray(3, 3 + length)]
}

test('hev-udp-codec: the request has command 5 and no address', t => {
  t.deepEqual(
    encoded((bytes, at) => encodeForwardRequest(bytes, at, 4)),
    [5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
  )
  const bytes = new Uint8Array(22)
  t.is(encodeForwardRequest(bytes, 0, 6), 22)
  const out = { command: 0, ...addressFields() }
  t.is(parseRequest(bytes, 0, 22, out), 22)
  t.like(out, { command: 5, addressType: AddressType.ipv6, addressLength: 16, port: 0 })
  for (const family of [4, 6] as const)
    t.throws(() => encodeForwardRequest(new Uint8Array(9), 0, family), { instanceOf: RangeError })
})

test('hev-udp-codec: a header counts the payload, and itself', t => {
  t.deepEqual(
    encoded((bytes, at) => encodeHevHeader(bytes, at, 0x0102, v4, 53)),
    [1, 2, 10, 1, 192, 0, 2, 7, 0, 53],
  )
  t.deepEqual(
    encoded((bytes, at) => encodeHevHeader(bytes, at, 65_535, v6, 443)),
    [255, 255, 22, 4, ...v6, 1, 0xbb],
  )
  t.deepEqual(
    encoded((bytes, at) => encodeHevNameHeader(bytes, at, 0, Uint8Array.from(text('a.bc')), 53)),
    [0, 0, 11, 3, 4, ...text('a.bc'), 0, 53],
  )
  const memory = Uint8Array.of(9, 9, ...v4, 9)
  t.deepEqual(
    encoded((bytes, at) => encodeHevHeader(bytes, at, 1, memory, 53, 2, 4)),
    [0, 1, 10, 1, 192, 0, 2, 7, 0, 53],
  )
})

test('hev-udp-codec: what the header cannot say is an error', t => {
  const bytes = new Uint8Array(300)
  t.throws(() => encodeHevHeader(bytes, 0, HEV_MAX_PAYLOAD_BYTES + 1, v4, 53), { instanceOf: RangeError })
  t.throws(() => encodeHevHeader(bytes, 0, -1, v4, 53), { instanceOf: RangeError })
  t.throws(() => encodeHevHeader(bytes, 0, 1, new Uint8Array(5), 53), { instanceOf: RangeError })
  for (const length of [0, HEV_MAX_NAME_BYTES + 1])
    t.throws(() => encodeHevNameHeader(bytes, 0, 1, new Uint8Array(length), 53), { instanceOf: RangeError })
  t.is(encodeHevNameHeader(bytes, 0, 1, Uint8Array.of(0x61), 53), 8)
  t.is(encodeHevNameHeader(bytes, 0, 1, new Uint8Array(HEV_MAX_NAME_BYTES).fill(0x61), 53), 255)
  t.throws(() => encodeHevHeader(new Uint8Array(HEV_HEADER_BYTES_IPV4 - 1), 0, 1, v4, 53), { instanceOf: RangeError })
  t.throws(() => encodeHevHeader(new Uint8Array(HEV_HEADER_BYTES_IPV6 - 1), 0, 1, v6, 53), { instanceOf: RangeError })
  t.throws(() => encodeHevNameHeader(new Uint8Array(10), 0, 1, Uint8Array.from(text('a.bc')), 53), {
    instanceOf: RangeError,
  })
  t.is(HEV_SERVER_PAYLOAD_IPV4, 1493)
  t.is(HEV_SERVER_PAYLOAD_IPV6, 1481)
})

interface Sample {
  readonly header: number[]
  readonly payload: number
  readonly address: readonly number[]
  readonly port: number
}

const samples: Sample[] = [
  { header: [0, 0, 10, 1, ...v4, 0, 53], payload: 0, address: [...v4], port: 53 },
  { header: [0, 5, 22, 4, ...v6, 1, 0xbb], payload: 5, address: [...v6], port: 443 },
  { header: [0, 2, 11, 3, 4, ...text('a.bc'), 0, 1], payload: 2, address: text('a.bc'), port: 1 },
  {
    header: [1, 0, 255, 3, 248, ...Array<number>(248).fill(0x61), 255, 255],
    payload: 256,
    address: Array<number>(248).fill(0x61),
    port: 65_535,
  },
]

test('hev-udp-codec: a datagram is read whole, at every split point and byte by byte', t => {
  for (const { header, payload, address, port } of samples)
    for (const at of [0, 7]) {
      const total = header.length + payload
      const bytes = new Uint8Array(at + total + 9)
      const reused = { ...hevFields(), totalLength: 99, addressType: 9 }
      for (const poison of [0xff, 0, 1])
        for (let cut = 0; cut < total; cut++) {
          const out = hevFields()
          bytes.fill(poison).set(header.slice(0, cut), at)
          for (const found of [out, reused]) {
            t.is(parseHevDatagram(bytes, at, cut, found), NEED_MORE, `cut behind ${cut} of ${total}`)
            t.is(found.totalLength, cut < 3 ? 0 : total)
            t.is(found.addressType, cut < 4 ? -1 : header[3]!)
          }
          t.is(parseHevHeader(bytes, at, cut, out), cut < header.length ? NEED_MORE : header.length)
        }
      bytes.fill(0xff).set(header, at)
      for (const length of [total, total + 9]) {
        const out = hevFields()
        t.is(parseHevDatagram(bytes, at, length, out), total)
        t.deepEqual([...bytes.subarray(out.addressAt, out.addressAt + out.addressLength)], address)
        t.like(out, { port, payloadAt: at + header.length, payloadLength: payload, addressType: header[3]! })
      }
    }
})

test('hev-udp-codec: a length that does not fit its address is malformed as soon as it is seen', t => {
  const parse = (...bytes: number[]) => parseHevDatagram(Uint8Array.from(bytes), 0, bytes.length, hevFields())
  for (const length of [0, 4, 7]) t.is(parse(0, 1, length), MALFORMED, `HDRLEN ${length}`)
  t.is(parse(0, 1, 8), NEED_MORE)
  for (const [length, type] of [
    [9, 1],
    [11, 1],
    [22, 1],
    [10, 4],
    [23, 4],
    [10, 0],
    [10, 2],
    [10, 255],
  ] as const)
    t.is(parse(0, 1, length, type), MALFORMED, `HDRLEN ${length}, ATYP ${type}`)
  t.is(parse(0, 1, 10, 3), NEED_MORE)
  t.is(parse(0, 1, 10, 3, 4), MALFORMED)
  t.is(parse(0, 1, 10, 3, 3), NEED_MORE)
  t.is(parse(0, 1, 8, 3, 0), MALFORMED)
})

test('hev-udp-codec: datagrams of 64 KB come whole out of a stream in pieces', t => {
  const sizes = [65_535, 0, 1, 65_507, 1_493]
  const stream = new Uint8Array(sizes.reduce((sum, size) => sum + size + HEV_HEADER_BYTES_IPV6, 0))
  let end = 0
  for (const [index, size] of sizes.entries()) {
    end += encodeHevHeader(stream, end, size, index % 2 === 0 ? v4 : v6, 1000 + index)
    stream.fill(index + 1, end, end + size)
    end += size
  }
  for (const piece of [1_460, 4_096, 65_537]) {
    const out = hevFields()
    const found: number[] = []
    let have = 0
    for (let at = 0; at < end; ) {
      const used = parseHevDatagram(stream, at, have - at, out)
      t.not(used, MALFORMED)
      if (used === NEED_MORE) {
        t.true(have < end, 'more is wanted than there is')
        have = Math.min(end, have + piece)
        continue
      }
      const payload = stream.subarray(out.payloadAt, out.payloadAt + out.payloadLength)
      t.true(payload.every(byte => byte === found.length + 1))
      t.is(out.port, 1000 + found.length)
      found.push(payload.length)
      at += used
    }
    t.deepEqual(found, sizes)
  }
})
