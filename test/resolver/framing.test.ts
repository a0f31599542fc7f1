import test from 'ava'
import { asHttp, BY_LENGTH, type Framing } from '../../src/resolver/framing.ts'
import { Random } from '../fuzz/random.ts'

const http = asHttp('dns.example', '/dns-query')
const response = (head: string[], body: Uint8Array | string = '') =>
  Buffer.concat([Buffer.from(`${['HTTP/1.1 200 OK', ...head].join('\r\n')}\r\n\r\n`), Buffer.from(body)])
const inChunks = (...parts: string[]) =>
  response(
    ['Transfer-Encoding: chunked'],
    `${parts.map(part => `${part.length.toString(16)}\r\n${part}\r\n`).join('')}0\r\n\r\n`,
  )

const wholes: readonly [name: string, framing: Framing, bytes: Buffer, message: string][] = [
  ['a length in front', BY_LENGTH, Buffer.from('\0\x05hello'), 'hello'],
  ['Content-Length', http, response(['content-type: x', 'content-LENGTH:  5'], 'hello'), 'hello'],
  ['chunks', http, inChunks('he', 'llo'), 'hello'],
  [
    'a chunk with an extension, and trailers',
    http,
    response(['Transfer-Encoding: chunked'], '5;x=y\r\nhello\r\n0\r\nx: y\r\n\r\n'),
    'hello',
  ],
]

for (const [name, framing, bytes, message] of wholes)
  test(`framing: ${name}: whole at its last byte, at every split point, twice`, t => {
    const twice = Buffer.concat([Buffer.alloc(3), bytes, bytes])
    for (let end = 3; end < 3 + bytes.length; end++) t.is(framing.next(twice, 3, end), undefined)
    const first = framing.next(twice, 3, twice.length)
    if (first === undefined || first === 'malformed') return t.fail(String(first))
    t.is(first.message.toString(), message)
    t.is(first.end, 3 + bytes.length)
    const second = framing.next(twice, first.end, twice.length)
    return t.deepEqual(second, { message: Buffer.from(message), end: twice.length })
  })

test('framing: a request is what RFC 8484 says', t => {
  t.is(
    http.frame(Buffer.from('hello')).toString(),
    'POST /dns-query HTTP/1.1\r\nHost: dns.example\r\nAccept: application/dns-message\r\n' +
      'Content-Type: application/dns-message\r\nContent-Length: 5\r\n\r\nhello',
  )
})

const TALKATIVE = `1;${'x'.repeat(8_000)}\r\nx\r\n`.repeat(40)
const malformed: readonly [string, string | Buffer][] = [
  ['another status', 'HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n'],
  ['no HTTP', 'SSH-2.0\r\n\r\n'],
  ['no length', 'HTTP/1.1 200 OK\r\n\r\n'],
  ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
  ['too long', 'HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n'],
  ['a head without end', Buffer.alloc(16_384, 'x')],
  ['a chunk that is none', response(['Transfer-Encoding: chunked'], 'zz\r\n')],
  ['chunks that are too long', response(['Transfer-Encoding: chunked'], 'fffff\r\n')],
  ['chunks without end, of one byte and much about it', response(['Transfer-Encoding: chunked'], TALKATIVE)],
]

for (const [name, text] of malformed)
  test(`framing: ${name} is malformed`, t => {
    const bytes = Buffer.from(text)
    t.is(http.next(bytes, 0, bytes.length), 'malformed')
  })

test('framing: any bytes are read without a fault', t => {
  const random = new Random(3)
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(random.pick(wholes)[2])
    for (let times = random.below(4); times > 0; times--) bytes[random.below(bytes.length)] = random.next()
    const found = http.next(bytes, 0, bytes.length)
    if (found !== undefined && found !== 'malformed' && found.end > bytes.length) t.fail(bytes.toString('latin1'))
  }
  t.pass()
})
