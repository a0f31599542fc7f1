import test, { type ExecutionContext } from 'ava'
import { MAX_SNIFF_BYTES, type Sniffed, Sniffer } from '../../src/rules/sniff.ts'
import { random } from '../helpers/random.ts'
import { extension, hello, realHello, records, sized16, sni, uint16 } from './client-hello.ts'

/** The result for the whole; the same must come for every split, and for single bytes, and never before the last that counts. */
function sniffed(t: ExecutionContext, bytes: Uint8Array): Sniffed {
  const whole = new Sniffer().push(bytes)
  for (let cut = 1; cut < bytes.length; cut += Math.max(1, bytes.length >> 8)) {
    const parts = new Sniffer()
    const first = parts.push(bytes.subarray(0, cut))
    const second = parts.push(bytes.subarray(cut))
    t.deepEqual(second, whole, `cut at ${cut}`)
    if (first !== 'more') t.deepEqual(first, whole, `cut at ${cut}`)
  }
  const single = new Sniffer()
  const place = new Uint8Array(1)
  for (const byte of bytes) {
    place[0] = byte
    single.push(place)
  }
  t.deepEqual(single.push(new Uint8Array(0)), whole, 'byte by byte')
  return whole
}

const text = (head: string) => Buffer.from(head, 'latin1')

for (const [title, options] of [
  ['TLS 1.3', { minVersion: 'TLSv1.3' }],
  ['TLS 1.2', { maxVersion: 'TLSv1.2' }],
  ['ALPN and many ciphers', { ALPNProtocols: ['h2', 'http/1.1'], ciphers: 'ALL' }],
] as const) {
  test(`sniff: the server name that node:tls asks for, ${title}`, async t => {
    const bytes = await realHello({ servername: 'www.Example.org', ...options })
    t.deepEqual(sniffed(t, bytes), { domain: 'www.example.org' })
    t.is(new Sniffer().push(bytes.subarray(0, -1)), 'more', 'not before the last byte')
    t.deepEqual(sniffed(t, Buffer.concat([bytes, text('and more')])), { domain: 'www.example.org' })
  })
}

test('sniff: a client of TLS that asks for no name has none', async t => {
  t.is(sniffed(t, await realHello({})), 'none')
})

test('sniff: a real ClientHello in records of one byte and of odd sizes', async t => {
  const whole = await realHello({ servername: 'a.example' })
  const message = [...whole.subarray(5)]
  for (const size of [1, 2, 3, 5, 100]) {
    t.deepEqual(new Sniffer().push(records(message, size)), { domain: 'a.example' }, `records of ${size}`)
  }
  t.deepEqual(sniffed(t, records(hello(sni('b.example')), 7)), { domain: 'b.example' })
})

const GREASE = extension(0x3a3a, [])
const ECH = extension(0xfe0d, [0, 0, 1, 0, 1, 9, ...sized16([1, 2, 3]), ...sized16([4, 5, 6, 7])])
const list = (...names: number[][]) => extension(0, sized16(names.flat()))
const host = (name: string) => [0, ...sized16([...text(name)])]

const HELLOS: [title: string, message: number[], result: Sniffed][] = [
  ['GREASE before the name', hello([...GREASE, ...sni('a.example')]), { domain: 'a.example' }],
  ['the outer name of ECH', hello([...sni('public.example'), ...ECH]), { domain: 'public.example' }],
  ['a session id', hello(sni('a.example'), Array(32).fill(1)), { domain: 'a.example' }],
  ['a type of name that is not known before it', hello(list([9, 0, 1, 7], host('a.example'))), { domain: 'a.example' }],
  ['no extensions', hello(undefined), 'none'],
  ['empty extensions', hello([]), 'none'],
  ['no name among extensions', hello([...GREASE, ...ECH]), 'none'],
  ['an empty name', hello(sni('')), 'none'],
  ['an address for a name', hello(sni('192.0.2.1')), 'none'],
  ['an IPv6 address', hello(sni('2001:db8::1')), 'none'],
  ['a NUL in the name', hello(sni('a\0.example')), 'none'],
  ['a byte over 127', hello(sni('\xe4.example')), 'none'],
  ['a name of 300', hello(sni(`${'a.'.repeat(145)}example.org`)), 'none'],
  ['two names', hello(list(host('a.example'), host('b.example'))), 'none'],
  ['the extension twice', hello([...sni('a.example'), ...sni('b.example')]), 'none'],
  ['an empty list', hello(extension(0, [0, 0])), 'none'],
  ['a list longer than the extension', hello(extension(0, [0, 99, ...host('a.example')])), 'none'],
  ['a list shorter than the extension', hello(extension(0, [...sized16(host('a.example')), 0])), 'none'],
  ['a name longer than its list', hello(extension(0, sized16([0, 0, 99, 97]))), 'none'],
  ['an extension longer than the rest', hello([...sni('a.example'), 0, 1, 0, 9]), 'none'],
  ['a cut extension', hello([...sni('a.example'), 0, 1, 0]), 'none'],
  ['bytes behind the extensions', [1, 0, ...sized16([...hello(sni('a.example')).slice(4), 0])], 'none'],
  ['an extension behind the extensions', [1, 0, ...sized16([...hello(sni('a.example')).slice(4), ...GREASE])], 'none'],
  ['a hello of nothing', [1, 0, 0, 0], 'none'],
  ['another message', [2, ...hello(sni('a.example')).slice(1)], 'none'],
  ['a message over the limit', [1, 0, ...uint16(MAX_SNIFF_BYTES)], 'none'],
  ['a message of 16 MB', [1, 255, 255, 255], 'none'],
]

for (const [title, message, result] of HELLOS) {
  test(`sniff: a ClientHello with ${title}`, t => {
    t.deepEqual(sniffed(t, records(message)), result)
  })
}

const HEADS: [title: string, head: string, result: Sniffed][] = [
  ['Host', 'GET / HTTP/1.1\r\nAccept: */*\r\nHost: Www.Example.org\r\n\r\n', { domain: 'www.example.org' }],
  ['Host with a port', 'POST /x HTTP/1.0\r\nhost:a.example:8080\r\n', { domain: 'a.example' }],
  ['Host among blanks', 'GET / HTTP/1.1\r\nHOST: \t a.example \t\r\n', { domain: 'a.example' }],
  ['Host in a line that ends with LF alone', 'GET / HTTP/1.1\nHost: a.example\n\n', { domain: 'a.example' }],
  ['an absolute target', 'GET http://a.example:80/x HTTP/1.1\r\nHost: b.example\r\n', { domain: 'a.example' }],
  ['an absolute target with a user', 'GET http://u:p@a.example HTTP/1.1\r\n', { domain: 'a.example' }],
  ['CONNECT', 'CONNECT a.example:443 HTTP/1.1\r\n', { domain: 'a.example' }],
  ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n', { domain: 'a.example' }],
  ['a target that holds a URL', 'GET /?u=http://b.example/ HTTP/1.1\r\nHost: a.example\r\n', { domain: 'a.example' }],
  [
    'a field that ends like Host',
    'GET / HTTP/1.1\r\nX-Host: b.example\r\nHost: a.example\r\n',
    { domain: 'a.example' },
  ],
  ['no Host', 'GET / HTTP/1.0\r\nAccept: */*\r\n\r\n', 'none'],
  ['an empty Host', 'GET / HTTP/1.1\r\nHost:\r\n\r\n', 'none'],
  ['an address', 'GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n', 'none'],
  ['an IPv6 address', 'GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n', 'none'],
  ['a wrong name', 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 'none'],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'none'],
  ['a line without version', 'GET /\r\n', 'none'],
  ['a greeting of SSH', 'SSH-2.0-OpenSSH_9.2\r\n', 'none'],
  ['a line of SMTP', 'EHLO a.example\r\n', 'none'],
  ['bytes of SOCKS', '\x05\x01\x00', 'none'],
  ['a long word', 'A'.repeat(21), 'none'],
  ['no end of its line', 'GET /', 'more'],
  ['Host, not whole', 'GET / HTTP/1.1\r\nHost: a.exam', 'more'],
]

for (const [title, head, result] of HEADS) {
  test(`sniff: a request with ${title}`, t => {
    t.deepEqual(sniffed(t, text(head)), result)
  })
}

test('sniff: record headers that are none', t => {
  for (const header of [
    [22, 2],
    [22, 3, 1, 0, 0],
    [22, 3, 1, 0x40, 1],
    [23, 3, 3, 0, 1],
  ]) {
    t.is(new Sniffer().push(Uint8Array.from(header)), 'none', header.join())
  }
  t.is(new Sniffer().push(Uint8Array.from([22, 3, 1, 0x40, 0])), 'more')
  const alert = Buffer.concat([records(hello(sni('a.example'))).subarray(0, 20), Buffer.from([21, 3, 3, 0, 2, 1, 0])])
  alert.writeUInt16BE(15, 3)
  t.is(new Sniffer().push(alert), 'none', 'an alert between the pieces')
})

test('sniff: at 16 KB it is over, however the bytes come, and no more are kept', t => {
  const line = text(`GET /${'x'.repeat(20_000)}`)
  const head = Buffer.concat([text('GET / HTTP/1.1\r\n'), Buffer.alloc(20_000, 'A: b\r\n')])
  const record = Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]), Buffer.alloc(20_000)])
  for (const bytes of [line, head, record]) {
    t.is(new Sniffer().push(bytes.subarray(0, MAX_SNIFF_BYTES - 1)), 'more')
    t.is(new Sniffer().push(bytes), 'none')
    const parts = new Sniffer()
    let at = 0
    while (parts.push(bytes.subarray(at, at + 1)) === 'more') at++
    t.is(at, MAX_SNIFF_BYTES - 1)
  }
})

test('sniff: what was found stays', t => {
  const look = new Sniffer()
  look.push(records(hello(sni('a.example'))))
  t.deepEqual(look.push(text('GET / HTTP/1.1\r\nHost: b.example\r\n')), { domain: 'a.example' })
})

test('sniff: 30,000 mutated ClientHellos never throw, and give the same in pieces', async t => {
  const seeds = await Promise.all(
    ['a.example', 'www.a-long-name.example.org'].map(servername => realHello({ servername, ALPNProtocols: ['h2'] })),
  )
  seeds.push(await realHello({}), records(hello([...GREASE, ...sni('b.example'), ...ECH]), 9))
  const next = random(5)
  const below = (end: number) => Math.floor(next() * end)
  const found = new Map<string, number>()
  for (let count = 0; count < 30_000; count++) {
    let bytes = Buffer.from(seeds[count % seeds.length]!)
    for (let change = below(4); change >= 0; change--) {
      const at = below(bytes.length)
      const kind = below(4)
      if (kind === 0) bytes[at]! ^= 1 << below(8)
      else if (kind === 1) bytes[at] = [0, 1, 3, 22, 127, 255][below(6)]!
      else if (kind === 2) bytes = bytes.subarray(0, at + 1)
      else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at >> 1, at), bytes.subarray(at)])
    }
    const whole = new Sniffer().push(bytes)
    const parts = new Sniffer()
    const cut = below(bytes.length)
    parts.push(bytes.subarray(0, cut))
    const second = parts.push(bytes.subarray(cut))
    if (JSON.stringify(second) !== JSON.stringify(whole)) t.fail(`${bytes.toString('hex')}: ${cut}`)
    const kind = typeof whole === 'string' ? whole : 'domain'
    if (typeof whole !== 'string' && !/^[a-z0-9_.-]{1,253}$/.test(whole.domain)) t.fail(whole.domain)
    found.set(kind, (found.get(kind) ?? 0) + 1)
  }
  for (const kind of ['more', 'none', 'domain']) t.true((found.get(kind) ?? 0) > 1000, `${kind}: ${found.get(kind)}`)
})
