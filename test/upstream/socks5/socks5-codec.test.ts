import test, { type ExecutionContext } from 'ava'
import {
  AddressType,
  Command,
  encodeAuth,
  encodeGreeting,
  encodeReply,
  encodeRequest,
  encodeUdpHeader,
  MALFORMED,
  Method,
  NEED_MORE,
  parseAuth,
  parseAuthReply,
  parseGreeting,
  parseMethod,
  parseReply,
  parseRequest,
  parseUdpHeader,
  Reply,
} from '../../../src/upstream/socks5/socks5-codec.ts'
import { auth, authReply, greeting, method, reply, request, udpHeader } from '../unparsed.ts'

const v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
const text = (value: string) => [...new TextEncoder().encode(value)]

/** Encodes at offset 3 of a buffer of 0xee and proves that nothing else was written. */
function encoded(encode: (bytes: Uint8Array, at: number) => number): number[] {
  const bytes = new Uint8Array(600).fill(0xee)
  const length = encode(bytes, 3)
  const around = [...bytes.subarray(0, 3), ...bytes.subarray(3 + length)]
  if (around.some(byte => byte !== 0xee)) throw new Error('wrote outside of the message')
  return [...bytes.subarray(3, 3 + length)]
}

type Parse<T> = (bytes: Uint8Array, at: number, length: number, out: T) => number

/**
 * The message alone, with bytes behind it, at an offset, and cut at every point, where poison stands behind the cut so that a
 * parser that looks too far is seen. A stream parser wants more, a datagram parser says malformed (`short`).
 */
function parses<T extends object>(
  t: ExecutionContext,
  parse: Parse<T>,
  make: () => T,
  message: number[],
  want: Partial<T>,
  short = NEED_MORE,
) {
  for (const at of [0, 7]) {
    const bytes = new Uint8Array(at + message.length + 20).fill(0xff)
    bytes.set(message, at)
    for (const extra of [0, 1, 20]) {
      const out = make()
      t.is(parse(bytes, at, message.length + extra, out), message.length)
      t.like(out, want)
    }
    const reused = make()
    for (const poison of [0xff, 0])
      for (let cut = 0; cut < message.length; cut++) {
        bytes.fill(poison, at).set(message.slice(0, cut), at)
        t.is(parse(bytes, at, cut, make()), short, `cut behind ${cut} bytes`)
        t.is(parse(bytes, at, cut, reused), short, `one byte at a time, ${cut} came`)
      }
    bytes.set(message, at)
    t.is(parse(bytes, at, message.length, reused), message.length)
    t.like(reused, want)
  }
}

test('socks5-codec: the greeting offers none, password, or both', t => {
  const greeting = (none: boolean, password: boolean) =>
    encoded((bytes, at) => encodeGreeting(bytes, at, none, password))
  t.deepEqual(greeting(true, false), [5, 1, 0])
  t.deepEqual(greeting(false, true), [5, 1, 2])
  t.deepEqual(greeting(true, true), [5, 2, 0, 2])
})

test('socks5-codec: user and password are 1 to 255 bytes, and no secret is in the error', t => {
  const encode = (user: Uint8Array, password: Uint8Array) =>
    encoded((bytes, at) => encodeAuth(bytes, at, user, password))
  t.deepEqual(
    encode(Uint8Array.from(text('ab')), Uint8Array.from(text('xyz'))),
    [1, 2, 0x61, 0x62, 3, 0x78, 0x79, 0x7a],
  )
  const long = new Uint8Array(255).fill(0x41)
  t.deepEqual(encode(long, long), [1, 255, ...long, 255, ...long])
  const bad: [Uint8Array, Uint8Array][] = [
    [new Uint8Array(0), long],
    [long, new Uint8Array(0)],
    [new Uint8Array(256).fill(0x41), long],
    [long, new Uint8Array(256).fill(0x41)],
  ]
  for (const [user, password] of bad) {
    const error = t.throws(() => encode(user, password), { instanceOf: RangeError })
    t.false(error.message.includes('AAAA'))
  }
})

test('socks5-codec: requests carry IPv4, IPv6 and names of 1 to 255 bytes', t => {
  const v4 = { address: Uint8Array.of(192, 0, 2, 1), port: 443 }
  t.deepEqual(
    encoded((bytes, at) => encodeRequest(bytes, at, Command.connect, v4)),
    [5, 1, 0, 1, 192, 0, 2, 1, 0x01, 0xbb],
  )
  t.deepEqual(
    encoded((bytes, at) =>
      encodeRequest(bytes, at, Command.udpAssociate, { address: Uint8Array.from(v6), port: 65535 }),
    ),
    [5, 3, 0, 4, ...v6, 255, 255],
  )
  const name = 'x'.repeat(255)
  t.deepEqual(
    encoded((bytes, at) => encodeRequest(bytes, at, Command.connect, { name, port: 80 })),
    [5, 1, 0, 3, 255, ...text(name), 0, 80],
  )
  for (const wrong of ['', 'x'.repeat(256), 'ä'.repeat(128)])
    t.throws(() => encoded((bytes, at) => encodeRequest(bytes, at, Command.connect, { name: wrong, port: 80 })), {
      instanceOf: RangeError,
    })
  t.throws(
    () => encoded((bytes, at) => encodeRequest(bytes, at, Command.connect, { address: new Uint8Array(5), port: 1 })),
    {
      instanceOf: RangeError,
    },
  )
})

test('socks5-codec: an encoder without room throws and a datagram header is 10 or 22 bytes', t => {
  t.deepEqual(
    encoded((bytes, at) => encodeUdpHeader(bytes, at, Uint8Array.of(8, 8, 4, 4), 53)),
    [0, 0, 0, 1, 8, 8, 4, 4, 0, 53],
  )
  t.deepEqual(
    encoded((bytes, at) => encodeUdpHeader(bytes, at, Uint8Array.from(v6), 53)),
    [0, 0, 0, 4, ...v6, 0, 53],
  )
  for (const room of [0, 3, 9])
    t.throws(() => encodeUdpHeader(new Uint8Array(room), 0, new Uint8Array(4), 1), { instanceOf: RangeError })
  t.is(encodeUdpHeader(new Uint8Array(10), 0, new Uint8Array(4), 1), 10)
  t.throws(() => encodeGreeting(new Uint8Array(2), 0, true, false), { instanceOf: RangeError })
  t.throws(() => encodeAuth(new Uint8Array(5), 1, Uint8Array.of(1), Uint8Array.of(2)), { instanceOf: RangeError })
  t.throws(() => encodeReply(new Uint8Array(9), 0, 0, { address: new Uint8Array(4), port: 1 }), {
    instanceOf: RangeError,
  })
})

test('socks5-codec: replies are read whole, at every split point and byte by byte', t => {
  parses(t, parseReply, reply, [5, 0, 0, 1, 127, 0, 0, 1, 0x1f, 0x90], {
    reply: Reply.succeeded,
    addressType: AddressType.ipv4,
    addressLength: 4,
    port: 8080,
  })
  parses(t, parseReply, reply, [5, 5, 0, 4, ...v6, 0, 80], {
    reply: Reply.refused,
    addressType: AddressType.ipv6,
    addressLength: 16,
    port: 80,
  })
  parses(t, parseReply, reply, [5, 0, 0, 3, 4, ...text('a.bc'), 0, 1], {
    addressType: AddressType.name,
    addressLength: 4,
    port: 1,
  })
  const out = reply()
  const name = Uint8Array.of(5, 0, 0, 3, 4, ...text('a.bc'), 0, 1)
  parseReply(name, 0, name.length, out)
  t.deepEqual([...name.subarray(out.addressAt, out.addressAt + out.addressLength)], text('a.bc'))
})

test('socks5-codec: malformed replies are told at the first wrong byte, and REP is known when it has come', t => {
  const parse = (...bytes: number[]) => {
    const out = reply()
    return { result: parseReply(Uint8Array.from(bytes), 0, bytes.length, out), reply: out.reply }
  }
  t.deepEqual(parse(4), { result: MALFORMED, reply: -1 })
  t.deepEqual(parse(5, 5), { result: NEED_MORE, reply: 5 })
  t.deepEqual(parse(5, 5, 0, 0), { result: MALFORMED, reply: 5 })
  t.deepEqual(parse(5, 0, 0, 2), { result: MALFORMED, reply: 0 })
  t.deepEqual(parse(5, 0, 0, 3, 0), { result: MALFORMED, reply: 0 })
  t.deepEqual(parse(5, 0, 0, 255), { result: MALFORMED, reply: 0 })
})

test('socks5-codec: method and authentication replies are two bytes of the right version', t => {
  parses(t, parseMethod, method, [5, 2], { method: Method.password })
  parses(t, parseMethod, method, [5, 255], { method: Method.unacceptable })
  parses(t, parseAuthReply, authReply, [1, 0], { status: 0 })
  parses(t, parseAuthReply, authReply, [1, 9], { status: 9 })
  t.is(parseMethod(Uint8Array.of(4), 0, 1, method()), MALFORMED)
  t.is(parseAuthReply(Uint8Array.of(5, 0), 0, 2, authReply()), MALFORMED)
})

test('socks5-codec: datagram headers are whole or malformed', t => {
  parses(
    t,
    parseUdpHeader,
    udpHeader,
    [0, 0, 0, 1, 10, 0, 0, 1, 0, 53],
    { fragment: 0, addressLength: 4, port: 53 },
    MALFORMED,
  )
  parses(
    t,
    parseUdpHeader,
    udpHeader,
    [0, 0, 1, 4, ...v6, 0, 53],
    { fragment: 1, addressLength: 16, port: 53 },
    MALFORMED,
  )
  parses(
    t,
    parseUdpHeader,
    udpHeader,
    [0, 0, 128, 3, 1, 0x61, 0, 53],
    { fragment: 128, addressLength: 1, port: 53 },
    MALFORMED,
  )
  for (const type of [0, 2, 5, 255]) {
    const bytes = Uint8Array.of(0, 0, 0, type, 10, 0, 0, 1, 0, 53)
    t.is(parseUdpHeader(bytes, 0, bytes.length, udpHeader()), MALFORMED)
  }
  t.is(parseUdpHeader(Uint8Array.of(0, 0, 0, 3, 0, 0, 53), 0, 7, udpHeader()), MALFORMED)
})

test('socks5-codec: greetings list 1 to 255 methods', t => {
  parses(t, parseGreeting, greeting, [5, 1, 0], { offersNone: true, offersPassword: false })
  parses(t, parseGreeting, greeting, [5, 2, 1, 2], { offersNone: false, offersPassword: true })
  const many = Array.from({ length: 255 }, (_, index) => 254 - index)
  parses(t, parseGreeting, greeting, [5, 255, ...many], { offersNone: true, offersPassword: true })
  t.is(parseGreeting(Uint8Array.of(5, 0), 0, 2, greeting()), MALFORMED)
  t.is(parseGreeting(Uint8Array.of(4), 0, 1, greeting()), MALFORMED)
})

test('socks5-codec: user and password are read where they stand, and empty ones are malformed', t => {
  parses(t, parseAuth, auth, [1, 2, 0x61, 0x62, 1, 0x78], { usernameLength: 2, passwordLength: 1 })
  const long = Array.from({ length: 255 }, () => 0x41)
  parses(t, parseAuth, auth, [1, 255, ...long, 255, ...long], { usernameLength: 255, passwordLength: 255 })
  const out = auth()
  t.is(parseAuth(Uint8Array.of(0, 1, 2, 0x61, 0x62, 1, 0x78), 1, 6, out), 6)
  t.deepEqual(out, { usernameAt: 3, usernameLength: 2, passwordAt: 6, passwordLength: 1 })
  for (const bytes of [[5], [1, 0], [1, 1, 0x61, 0]])
    t.is(parseAuth(Uint8Array.from(bytes), 0, bytes.length, auth()), MALFORMED)
})

test('socks5-codec: requests tell an unknown address type from bytes that are no request', t => {
  parses(t, parseRequest, request, [5, 1, 0, 1, 1, 2, 3, 4, 0, 80], { command: Command.connect, port: 80 })
  parses(t, parseRequest, request, [5, 3, 0, 4, ...v6, 0, 0], { command: Command.udpAssociate, addressLength: 16 })
  const name = 'n'.repeat(255)
  parses(t, parseRequest, request, [5, 9, 0, 3, 255, ...text(name), 0, 80], { command: 9, addressLength: 255 })
  const out = request()
  t.is(parseRequest(Uint8Array.of(5, 1, 0, 2), 0, 4, out), MALFORMED)
  t.is(out.addressType, 2)
  t.is(parseRequest(Uint8Array.of(0x47, 0x45, 0x54, 0x20), 0, 4, out), MALFORMED)
  t.is(out.addressType, -1)
})

test('socks5-codec: what the client encodes is what the server parses, and back', t => {
  const bytes = new Uint8Array(64)
  const destination = { address: Uint8Array.from(v6), port: 4242 }
  const out = request()
  t.is(parseRequest(bytes, 1, encodeRequest(bytes, 1, Command.connect, destination), out), 22)
  t.deepEqual([...bytes.subarray(out.addressAt, out.addressAt + 16)], v6)
  const answer = reply()
  t.is(parseReply(bytes, 5, encodeReply(bytes, 5, Reply.ttlExpired, destination), answer), 22)
  t.is(answer.reply, 6)
  t.is(answer.port, 4242)
})
