import test from 'ava'
import { withoutHints } from '../../src/dns/service-hints.ts'
import { MALFORMED } from '../../src/dns/wire.ts'
import { bytesOf, decoded, endOfQuestion, room } from './messages.ts'

const out = room()
// www.example.org HTTPS IN: 12 to 29, type and class to 33.
const QUESTION = '3 www 7 example 3 org 0 #00410001'
const IPV4HINT = '#0004 #0008 #c0000201 #c0000202'
const IPV6HINT = '#0006 #0010 #20010db8000000000000000000000001'
const ALPN = '#0001 #0003 2 h2'
const PORT = '#0003 #0002 #01bb'

/** A record with its length; `owner` is a pointer to the question's name where nothing is said. */
function record(type: number, data: string, owner = '#c00c'): string {
  const bytes = bytesOf(data)
  const head = bytesOf(`${owner} #0000 #0001 #0000012c #0000`)
  head.writeUInt16BE(type, head.length - 10)
  head.writeUInt16BE(bytes.length, head.length - 2)
  return `#${Buffer.concat([head, bytes]).toString('hex')}`
}

const https = (parameters: string, head = '#0001 0') => record(65, `${head} ${parameters}`)

function message(counts: readonly [number, number, number], ...records: string[]): Buffer {
  const head = counts.map(count => `#${count.toString(16).padStart(4, '0')}`).join(' ')
  return bytesOf(`#1234 #81a0 #0001 ${head} ${QUESTION} ${records.join(' ')}`)
}

/** The answer without hints, in hexadecimal from behind the question on; undefined when it is malformed. */
function stripped(bytes: Buffer): string | undefined {
  out.fill(0xee)
  const end = endOfQuestion(bytes)
  const length = withoutHints(out, bytes, bytes.length, end)
  if (length === MALFORMED) return undefined
  decoded(out, length)
  return out.toString('hex', end, length)
}

const hex = (...records: string[]) => bytesOf(records.join(' ')).toString('hex')

test('service-hints: the addresses go, the rest stays as it was, AD goes', t => {
  const bytes = message([1, 0, 0], https(`${ALPN} ${PORT} ${IPV4HINT} #0005 #0002 #abcd ${IPV6HINT} #0007 #0001 #2f`))
  t.is(stripped(bytes), hex(https(`${ALPN} ${PORT} #0005 #0002 #abcd #0007 #0001 #2f`)))
  t.is(out.readUInt16BE(2), 0x8180)
  t.deepEqual([...out.subarray(4, 12)], [0, 1, 0, 1, 0, 0, 0, 0])
})

test('service-hints: the vectors of RFC 9460 appendix D.2 with hints', t => {
  // Figure 7: 1 foo.example.com. ipv6hint="2001:db8::1,2001:db8::53:1"
  const figure7 =
    '#0001 3 foo 7 example 3 com 0 #0006 #0020 #20010db8000000000000000000000001 #20010db8000000000000000000530001'
  t.is(stripped(message([1, 0, 0], record(64, figure7))), hex(record(64, '#0001 3 foo 7 example 3 com 0')))
  // Figure 9: 16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1
  const target = '#0010 3 foo 7 example 3 org 0'
  const alpn = '#0001 #0009 2 h2 5 h3-19'
  const figure9 = `${target} #0000 #0004 #0001 #0004 ${alpn} #0004 #0004 #c0000201`
  t.is(stripped(message([1, 0, 0], record(64, figure9))), hex(record(64, `${target} #0000 #0002 #0001 ${alpn}`)))
})

test('service-hints: hints go from the list of mandatory keys, and the list when it is empty', t => {
  const both = https(`#0000 #0004 #0001 #0004 ${ALPN} ${IPV4HINT}`)
  t.is(stripped(message([1, 0, 0], both)), hex(https(`#0000 #0002 #0001 ${ALPN}`)))
  const hintsAlone = https(`#0000 #0004 #0004 #0006 ${ALPN} ${IPV4HINT} ${IPV6HINT}`)
  t.is(stripped(message([1, 0, 0], hintsAlone)), hex(https(ALPN)))
})

test('service-hints: an alias has no parameters', t => {
  const alias = record(65, '#0000 4 pool 7 example 0')
  t.is(stripped(message([1, 0, 0], alias)), hex(alias))
})

test('service-hints: malformed records are left out, the others stay', t => {
  const sound = https(ALPN)
  for (const [what, wrong] of [
    ['keys that do not grow', https(`${PORT} ${ALPN}`)],
    ['a key twice', https(`${ALPN} ${ALPN}`)],
    ['a parameter longer than the record', https('#0001 #0004 #026832')],
    ['half a parameter', https('#0001 #00')],
    ['a compressed target', record(65, '#0001 #c00c')],
    ['a compressed target to offset 0', record(65, '#0001 #c000')],
    ['a compressed target that looks like a label of 192', record(65, `#0001 #c00c #ff00 #00bc #${'00'.repeat(188)}`)],
    ['no target', record(65, '#0001')],
    ['a target without end', record(65, '#0001 3 foo')],
    ['nothing', record(65, '')],
  ] as const) {
    t.is(stripped(message([2, 0, 0], wrong, sound)), hex(sound), what)
    t.is(out.readUInt16BE(6), 1, what)
  }
})

test('service-hints: addresses beside them go, with the signatures of what changed', t => {
  const signature = (type: string) =>
    record(46, `#${type} #0d02 #0000012c #00000000 #00000000 #0001 7 example 0 #abcdef`)
  const cname = record(5, '3 svc 7 example 0')
  const bytes = message(
    [3, 1, 4],
    cname,
    https(`${ALPN} ${IPV4HINT}`),
    signature('0041'),
    signature('0006'),
    record(1, '#c0000201'),
    record(28, '#20010db8000000000000000000000001'),
    signature('0001'),
    record(16, '2 hi'),
  )
  t.is(stripped(bytes), hex(cname, https(ALPN), signature('0006'), record(16, '2 hi')))
  t.deepEqual([...out.subarray(6, 12)], [0, 2, 0, 1, 0, 1])
})

test('service-hints: names behind what was taken out are still the same', t => {
  // The SOA of an alias’ end: owner and both names are pointers, one of them to behind the record that shrinks.
  const first = https(`${IPV4HINT}`)
  const soaAt = 33 + bytesOf(first).length
  const soa = record(
    6,
    `2 ns #c010 4 root #${(0xc000 | (soaAt + 12)).toString(16)} #00000001 #00000002 #00000003 #00000004 #0000003c`,
    '#c010',
  )
  const bytes = message([1, 1, 0], first, soa)
  stripped(bytes)
  const length = withoutHints(out, bytes, bytes.length, 33)
  t.like(decoded(out, length).authorities, [
    { name: 'example.org', type: 'SOA', data: { mname: 'ns.example.org', rname: 'root.ns.example.org', minimum: 60 } },
  ])
})

test('service-hints: names of MX and of others that may be compressed are written in full', t => {
  const mx = message([1, 0, 0], record(15, '#000a 4 mail #c010'))
  t.is(stripped(mx), hex(record(15, '#000a 4 mail 7 example 3 org 0')))
  const srv = message([1, 0, 0], record(33, '#000100020050 #c00c'))
  t.is(stripped(srv), hex(record(33, '#000100020050 3 www 7 example 3 org 0')))
})

test('service-hints: names that cannot be read end it', t => {
  t.is(stripped(message([1, 0, 0], record(5, '#c0ff'))), undefined)
  t.is(stripped(message([1, 0, 0], record(15, '#00'))), undefined)
  t.is(stripped(message([1, 0, 0], record(16, '1 a', '#c0ff'))), undefined)
  t.is(stripped(message([2, 0, 0], record(16, '1 a'))), undefined)
})

test('service-hints: one that grows beyond 64 KB by its names ends it', t => {
  const label = `63 ${'x'.repeat(63)}`
  const long = record(16, '1 a', `${label} ${label} ${label} 0`)
  const more = Array.from({ length: 400 }, () => record(16, '1 a', '#c021'))
  t.is(stripped(message([401, 0, 0], long, ...more)), undefined)
  t.not(stripped(message([101, 0, 0], long, ...more.slice(300))), undefined)
})
