import test, { type ExecutionContext } from 'ava'
import {
  byteText,
  connectAuthority,
  encodeConnect,
  fieldTexts,
  MAX_HEAD_BYTES,
  nextField,
  parseResponse,
  type ResponseFields,
  responseFields,
} from '../../../src/upstream/http/http-codec.ts'
import { MALFORMED, NEED_MORE } from '../../../src/upstream/socks5/socks5-codec.ts'

const v6 = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)

function encoded(authority: string, authorization = ''): string {
  const bytes = Buffer.alloc(4_000, 0xee)
  const length = encodeConnect(bytes, 3, authority, authorization)
  if (bytes.subarray(0, 3).some(byte => byte !== 0xee) || bytes.subarray(3 + length).some(byte => byte !== 0xee))
    throw new Error('wrote outside of the message')
  return bytes.toString('latin1', 3, 3 + length)
}

test('http-codec: a request has the authority twice, and the authorization', t => {
  t.is(encoded('192.0.2.1:443'), 'CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n')
  t.is(
    encoded('[2001:db8::1]:80', 'Basic bWU6eA=='),
    'CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nProxy-Authorization: Basic bWU6eA==\r\n\r\n',
  )
  t.true(encoded('a:1', 'Digest username="\xc3\xa4\xff"').includes('"\xc3\xa4\xff"'), 'bytes as they are')
})

test('http-codec: an authority is address or name with the port, IPv6 in brackets', t => {
  t.is(connectAuthority({ address: Uint8Array.of(192, 0, 2, 1), port: 443 }), '192.0.2.1:443')
  t.is(connectAuthority({ address: v6, port: 80 }), '[2001:db8::1]:80')
  t.is(connectAuthority({ name: 'my_host.example.org', port: 8080 }), 'my_host.example.org:8080')
  t.is(connectAuthority({ name: 'x', port: 1 }), 'x:1')
  t.is(connectAuthority({ name: '09.AZ', port: 1 }), '09.AZ:1')
  for (const name of ['', 'a b', 'a:1', '[::1]', 'a\r\nX: y', 'a/b', 'ä', 'a@b', 'x'.repeat(256)])
    t.throws(() => connectAuthority({ name, port: 1 }), { instanceOf: RangeError }, JSON.stringify(name))
})

test('http-codec: nothing that ends a line comes into a request, and no secret into the error', t => {
  for (const authority of ['a b:1', 'a\r\n:1', 'a\n:1', 'a\0:1', 'a\x7f:1', '\u0100:1'])
    t.throws(() => encoded(authority), { instanceOf: RangeError }, JSON.stringify(authority))
  for (const authorization of ['Basic SECRET\r\nX: y', 'Basic SECRET\n', 'SECRET\0', 'SECRET\u0100', 'SECRET\x7f']) {
    const error = t.throws(() => encoded('a:1', authorization), { instanceOf: RangeError })
    t.false(error.message.includes('SECRET'))
  }
  const length = encoded('a:1', 'Basic x').length
  t.throws(() => encodeConnect(new Uint8Array(length), 1, 'a:1', 'Basic x'), { instanceOf: RangeError })
  t.is(encodeConnect(new Uint8Array(length + 1), 1, 'a:1', 'Basic x'), length)
  const bare = encoded('a:1').length
  t.is(encodeConnect(new Uint8Array(bare), 0, 'a:1', ''), bare)
})

/** Alone, with bytes behind it, at an offset, and cut at every point, with two kinds of poison behind the cut. */
function parses(t: ExecutionContext, head: string, want: Partial<ResponseFields> & { reason?: string }): Buffer {
  const message = Buffer.from(head, 'latin1')
  const { reason, ...fields } = want
  for (const at of [0, 7]) {
    const bytes = Buffer.alloc(at + message.length + 20)
    const reused = { ...responseFields(), status: 999 }
    for (const poison of ['\r\n\r\n', 'X', '\0'])
      for (let cut = 0; cut < message.length; cut++) {
        bytes.fill(poison)
        message.copy(bytes, at, 0, cut)
        t.is(parseResponse(bytes, at, cut, reused), NEED_MORE, `cut behind ${cut} of ${JSON.stringify(head)}`)
        t.not(reused.status, 999, 'of the answer before')
      }
    message.copy(bytes, at)
    for (const out of [responseFields(), reused])
      for (const extra of [0, 1, 20]) {
        t.is(parseResponse(bytes, at, message.length + extra, out), message.length, JSON.stringify(head))
        t.like(out, fields)
        if (reason !== undefined) t.is(byteText(bytes, out.reasonAt, out.reasonLength), reason)
      }
  }
  return message
}

function malformedAt(head: string): number {
  const bytes = Buffer.from(head, 'latin1')
  for (let length = 0; length <= bytes.length; length++) {
    const used = parseResponse(bytes, 0, length, responseFields())
    if (used !== NEED_MORE) return used === MALFORMED ? length : -2
  }
  return -1
}

test('http-codec: a status line may be of HTTP/1.0 or 1.1, with or without a reason', t => {
  parses(t, 'HTTP/1.1 200 Connection established\r\n\r\n', { status: 200, reason: 'Connection established' })
  parses(t, 'HTTP/1.0 200 OK\r\n\r\n', { status: 200, reason: 'OK' })
  parses(t, 'HTTP/1.1 200 \r\n\r\n', { status: 200, reason: '' })
  parses(t, 'HTTP/1.1 200\r\n\r\n', { status: 200, reason: '', fieldsLength: 0 })
  parses(t, 'HTTP/1.1 204\n\n', { status: 204, reason: '' })
  parses(t, 'HTTP/1.1 599 \t Sch\xf6n \t\r\n\r\n', { status: 599, reason: '\t Sch\xf6n' })
})

test('http-codec: lines may end with LF alone, values be folded, names and values be empty or odd', t => {
  parses(t, 'HTTP/1.1 200 OK\nVia: 1.1 a\r\nX:\n\n', { status: 200, fieldsLength: 15 })
  const head = 'HTTP/1.1 407 No\r\nA: \t b\t \r\n\tc \r\n  d\r\nA:\r\na:e\nX-09: f\r\nZ: g\r\n\r\n'
  const message = parses(t, head, { status: 407 })
  const out = responseFields()
  parseResponse(message, 0, message.length, out)
  t.deepEqual(fieldTexts(message, out, 'a'), ['b\t  c  d', '', 'e'])
  t.deepEqual(fieldTexts(message, out, 'b'), [])
  t.deepEqual(fieldTexts(message, out, 'x-09'), ['f'])
  t.deepEqual(fieldTexts(message, out, 'z'), ['g'])
})

test('http-codec: fields are found by their whole name, in their order, and not outside of the head', t => {
  const head =
    'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nProxy-Authenticate-X: no\r\nPROXY-AUTHENTICATE:Digest\r\n\r\n'
  const bytes = Buffer.from(`${head}Proxy-Authenticate: outside\r\n`)
  const out = responseFields()
  t.is(parseResponse(bytes, 0, bytes.length, out), head.length)
  t.deepEqual(fieldTexts(bytes, out, 'proxy-authenticate'), ['Basic', 'Digest'])
  const value = { valueAt: 0, valueLength: 0 }
  t.is(nextField(bytes, out.fieldsAt, out.fieldsAt + out.fieldsLength, 'via', value), 0)
  for (const text of ['via: a', 'via: a\r\n', 'via: a\r\nvia: b'])
    t.is(nextField(Buffer.from(text), 0, 7, 'via', value), 0, 'a line without its end')
})

test('http-codec: interim answers are skipped, and what is behind the blank line is the tunnel', t => {
  const interim = 'HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103\r\nContent-Length: 5\r\n\r\n'
  parses(t, `${interim}HTTP/1.1 200 OK\r\nVia: a\r\n\r\n`, { status: 200, fieldsLength: 8, reason: 'OK' })
  parses(t, 'HTTP/1.1 101 Switching\r\n\r\n', { status: 101 })
})

test('http-codec: a 2xx has no content, whatever its fields say (RFC 9110 section 9.3.6)', t => {
  for (const field of ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Content-Length: x', 'Connection: close'])
    for (const status of [200, 204, 299])
      parses(t, `HTTP/1.1 ${status} OK\r\n${field}\r\n\r\n`, { status, closes: false, contentLength: -1 })
})

test('http-codec: of a refusal it is known how long it is, and whether the connection ends', t => {
  const head = (status: string, ...lines: string[]) =>
    `HTTP/1.${status} No\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`
  parses(t, head('1 407'), { closes: false, contentLength: -1 })
  parses(t, head('1 407', 'Content-Length: 12'), { closes: false, contentLength: 12 })
  parses(t, head('1 300', 'Content-Length: 1090'), { contentLength: 1090 })
  parses(t, head('1 407', 'Content-Length: 12', 'content-length: 12'), { contentLength: 12 })
  parses(t, head('1 407', 'Content-Length: 12, 12'), { contentLength: 12 })
  parses(t, head('1 407', 'Content-Length: 12', 'Content-Length: 13'), { contentLength: -1 })
  for (const length of ['-1', '1e3', '0x1', '', '9999999999999999'])
    parses(t, head('1 407', `Content-Length: ${length}`), { contentLength: -1 })
  parses(t, head('1 407', 'Content-Length: 12', 'Transfer-Encoding: chunked'), { contentLength: -1 })
  parses(t, head('1 304', 'Content-Length: 12'), { contentLength: 0 })
  for (const field of ['Connection: close', 'connection: x, CLOSE', 'Proxy-Connection: close'])
    parses(t, head('1 403', field), { closes: true })
  for (const field of ['Connection: closed', 'Connection: keep-alive', 'X: close'])
    parses(t, head('1 403', field), { closes: false })
  parses(t, head('0 407'), { closes: true })
  parses(t, head('0 407', 'Proxy-Connection: Keep-Alive'), { closes: false })
})

test('http-codec: what is no HTTP/1 is malformed at its first wrong byte', t => {
  const first = ['\x05\x00', 'SSH-2.0', '\x15\x03', '\0[', '<html>', ' HTTP', '\r\nHTTP/1.1 200 OK\r\n\r\n']
  for (const head of first) t.is(malformedAt(head), 1, JSON.stringify(head))
  t.is(malformedAt('HTTP/2 200\r\n\r\n'), 6)
  t.is(malformedAt('HTTP/1.x 200'), 8)
  t.is(malformedAt('HTTP/1.1  200'), 10)
  t.is(malformedAt('HTTP/1.1 020'), 10)
  t.is(malformedAt('HTTP/1.1 2x0'), 11)
  t.is(malformedAt('HTTP/1.1 2:0'), 11)
  t.is(malformedAt('HTTP/1.1 2000'), 13)
  t.is(malformedAt('http/1.1 200'), 1)
})

test('http-codec: controls, a CR that ends no line, and lines that are no field are malformed', t => {
  const line = 'HTTP/1.1 200 OK\r\n'
  for (const control of ['\0', '\x01', '\x0b', '\x1f', '\x7f']) {
    t.is(malformedAt(`HTTP/1.1 200 O${control}K`), 15)
    t.is(malformedAt(`${line}A: b${control}`), line.length + 5)
    t.is(malformedAt(`${line}A${control}: b`), line.length + 2)
  }
  t.is(malformedAt('HTTP/1.1 200\rX'), 14)
  t.is(malformedAt('HTTP/1.1 200 OK\rX'), 17)
  t.is(malformedAt(`${line}A: b\rc`), line.length + 6)
  t.is(malformedAt(`${line}\rX`), line.length + 2)
  t.is(malformedAt(`${line} A: b`), line.length + 1, 'a fold of nothing')
  t.is(malformedAt(`${line}: b`), line.length + 1)
  t.is(malformedAt(`${line}A b: c`), line.length + 2)
  t.is(malformedAt(`${line}A : c`), line.length + 2)
  t.is(malformedAt(`${line}A\r\n`), line.length + 2)
  t.is(malformedAt(`HTTP/1.1 100 Continue\r\n\r\nX`), 26, 'behind an interim answer')
})

test('http-codec: a head has 16 KB, interim answers included', t => {
  const whole = (bytes: number, before = '') => {
    const ends = [`${before}HTTP/1.1 200 OK\r\nX: `, '\r\n\r\n'] as const
    return Buffer.from(ends.join('x'.repeat(bytes - ends.join('').length)))
  }
  const parse = (bytes: Buffer, length = bytes.length) => parseResponse(bytes, 0, length, responseFields())
  const interim = 'HTTP/1.1 100 Continue\r\n\r\n'
  for (const before of ['', interim.repeat(100)]) {
    const largest = whole(MAX_HEAD_BYTES, before)
    t.is(largest.length, 16_384)
    t.is(parse(largest), MAX_HEAD_BYTES)
    t.is(parse(Buffer.concat([largest, Buffer.alloc(9)])), MAX_HEAD_BYTES)
    t.is(parse(largest, MAX_HEAD_BYTES - 1), NEED_MORE)
    const larger = whole(MAX_HEAD_BYTES + 1, before)
    t.is(parse(larger, MAX_HEAD_BYTES - 1), NEED_MORE)
    t.is(parse(larger, MAX_HEAD_BYTES), MALFORMED)
    t.is(parse(larger), MALFORMED)
  }
  t.is(parse(Buffer.from(interim.repeat(1_000))), MALFORMED, 'interim answers without end')
})
