import test from 'ava'
import type { Destination } from '../../../src/endpoint.ts'
import {
  encodeRequest4,
  MAX_REQUEST4_BYTES,
  parseReply4,
  Reply4,
  refusedBy4,
  reply4Fields,
} from '../../../src/upstream/socks4/socks4-codec.ts'
import { MALFORMED, NEED_MORE } from '../../../src/upstream/socks5/socks5-codec.ts'

const text = (value: string) => [...new TextEncoder().encode(value)]
const none = new Uint8Array(0)
const v4 = { address: Uint8Array.of(192, 0, 2, 7), port: 443 }

/** Encodes at offset 3 of a buffer of 0xee and proves that nothing else was written. */
function encoded(destination: Destination, user: Uint8Array = none): number[] {
  const bytes = new Uint8Array(600).fill(0xee)
  const length = encodeRequest4(bytes, 3, destination, user)
  const around = [...bytes.subarray(0, 3), ...bytes.subarray(3 + length)]
  if (around.some(byte => byte !== 0xee)) throw new Error('wrote outside of the message')
  return [...bytes.subarray(3, 3 + length)]
}

test('socks4-codec: a request carries an IPv4 address and a user, or none', t => {
  t.deepEqual(encoded(v4), [4, 1, 0x01, 0xbb, 192, 0, 2, 7, 0])
  t.deepEqual(encoded(v4, Uint8Array.from(text('fred'))), [4, 1, 0x01, 0xbb, 192, 0, 2, 7, ...text('fred'), 0])
  t.deepEqual(encoded({ address: new Uint8Array(4), port: 0 }), [4, 1, 0, 0, 0, 0, 0, 0, 0])
})

test('socks4-codec: a name goes behind 0.0.0.1 and the user (4a)', t => {
  const user = Uint8Array.from(text('me'))
  const wanted = [4, 1, 0, 80, 0, 0, 0, 1, ...text('me'), 0, ...text('example.org'), 0]
  t.deepEqual(encoded({ name: 'example.org', port: 80 }, user), wanted)
  const longest = encoded({ name: 'x'.repeat(255), port: 65535 }, new Uint8Array(255).fill(0x41))
  t.is(longest.length, MAX_REQUEST4_BYTES)
})

test('socks4-codec: what SOCKS4 cannot say is an error, and a user is not told in it', t => {
  const wrong: [Destination, Uint8Array, RegExp][] = [
    [{ address: new Uint8Array(16), port: 1 }, none, /no IPv6/],
    [{ address: Uint8Array.of(0, 0, 0, 9), port: 1 }, none, /0\.0\.0\.9 stands for a name/],
    [{ name: '', port: 1 }, none, /host name must be 1 to 255/],
    [{ name: 'x'.repeat(256), port: 1 }, none, /host name must be 1 to 255/],
    [{ name: 'a\0b', port: 1 }, none, /NUL would end the host name/],
    [v4, Uint8Array.of(0x41, 0x41, 0, 0x41), /NUL would end the user/],
    [v4, new Uint8Array(256).fill(0x41), /user must be 0 to 255/],
  ]
  for (const [destination, user, message] of wrong) {
    const error = t.throws(() => encoded(destination, user), { instanceOf: RangeError, message })
    t.false(error.message.includes('AA'))
  }
})

test('socks4-codec: an encoder without room throws', t => {
  const user = Uint8Array.from(text('me'))
  for (let room = 0; room < 11; room++)
    t.throws(() => encodeRequest4(new Uint8Array(room), 0, v4, user), { instanceOf: RangeError, message: /no room/ })
  t.is(encodeRequest4(new Uint8Array(11), 0, v4, user), 11)
  const name = { name: 'example.org', port: 1 }
  t.throws(() => encodeRequest4(new Uint8Array(20), 0, name, none), { instanceOf: RangeError, message: /no room/ })
  t.is(encodeRequest4(new Uint8Array(21), 0, name, none), 21)
})

test('socks4-codec: replies are read whole, at every split point and byte by byte', t => {
  for (const version of [0, 4])
    for (const at of [0, 5]) {
      const message = [version, 90, 0x1f, 0x90, 10, 0, 0, 1]
      const bytes = new Uint8Array(at + 20).fill(0xff)
      const reused = { ...reply4Fields(), reply: 91 }
      for (let cut = 0; cut < 8; cut++) {
        const out = reply4Fields()
        bytes.fill(0xff).set(message.slice(0, cut), at)
        for (const found of [out, reused]) {
          t.is(parseReply4(bytes, at, cut, found), NEED_MORE)
          t.is(found.reply, cut < 2 ? -1 : Reply4.granted)
        }
      }
      bytes.set(message, at)
      for (const length of [8, 15]) {
        const out = reply4Fields()
        t.is(parseReply4(bytes, at, length, out), 8)
        t.deepEqual(out, { reply: Reply4.granted, port: 8080, addressAt: at + 4 })
      }
    }
})

test('socks4-codec: an answer of another protocol is malformed at its first byte', t => {
  for (const first of [1, 5, 0x48, 0x15, 255])
    t.is(parseReply4(Uint8Array.of(first, 90), 0, 1, reply4Fields()), MALFORMED, String(first))
})

test('socks4-codec: each refusal has its reason', t => {
  t.deepEqual(refusedBy4(91), { failure: 'general', message: 'the proxy answered 91 (rejected or failed)' })
  for (const reply of [92, 93]) t.is(refusedBy4(reply).failure, 'authentication')
  t.regex(refusedBy4(92).message, /identd/)
  t.deepEqual(refusedBy4(7), { failure: 'general', message: 'the proxy answered 7 (an unknown reason)' })
})
