import { isIP } from 'node:net'
import test from 'ava'
import { formatAddress, formatEndpoint, parseAddress, sameAddress } from '../src/endpoint.ts'

/** Text, its bytes in hex, and the form of RFC 5952. */
const addresses: readonly [string, string, string?][] = [
  ['0.0.0.0', '00000000'],
  ['203.0.113.7', 'cb007107'],
  ['255.255.255.255', 'ffffffff'],
  ['::', '0'.repeat(32)],
  ['::1', `${'0'.repeat(31)}1`],
  ['1::', `0001${'0'.repeat(28)}`],
  ['2001:db8::7', `20010db8${'0'.repeat(23)}7`],
  ['2001:DB8:0:0:0:0:0:7', `20010db8${'0'.repeat(23)}7`, '2001:db8::7'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ['1:0:0:4:0:0:0:8', '00010000000000040000000000000008', '1:0:0:4::8'],
  ['1:0:3:4:5:6:7:8', '00010000000300040005000600070008', '1:0:3:4:5:6:7:8'],
  ['0:0:3:4:0:0:7:8', '00000000000300040000000000070008', '::3:4:0:0:7:8'],
  ['::ffff:1.2.3.4', '00000000000000000000ffff01020304', '::ffff:102:304'],
  ['64:ff9b::192.0.2.33', '0064ff9b0000000000000000c0000221', '64:ff9b::c000:221'],
  ['1:2:3:4:5:6:1.2.3.4', '00010002000300040005000601020304', '1:2:3:4:5:6:102:304'],
]

for (const [text, hex, formatted = text] of addresses)
  test(`endpoint: ${text}`, t => {
    const bytes = parseAddress(text)!
    t.is(Buffer.from(bytes).toString('hex'), hex)
    t.is(formatAddress(bytes), formatted)
    t.deepEqual(parseAddress(formatAddress(bytes)), bytes)
  })

for (const text of [
  '',
  'localhost',
  '1.2.3',
  '1.2.3.4.5',
  '256.1.1.1',
  '01.2.3.4',
  '1.2.3.4 ',
  '[::1]',
  'fe80::1%eth0',
  ':::',
  '1::2::3',
  '12345::',
  '1.2.3.4:80',
  '0x7f.1',
])
  test(`endpoint: no address: ${JSON.stringify(text)}`, t => {
    t.is(parseAddress(text), undefined)
  })

test('endpoint: texts made of the pieces of addresses are addresses where isIP says so', t => {
  const pieces = [':', ':', ':', '::', '.', '0', '1', '00', '255', '256', 'ffff', 'fFfff', 'g', '1.2.3.4', ':1', ':2:3']
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
  let found = 0
  for (let count = 0; count < 100_000; count++) {
    const text = Array.from({ length: 1 + random(11) }, () => pieces[random(pieces.length)]).join('')
    const bytes = parseAddress(text)
    t.is(bytes === undefined ? 0 : bytes.length === 4 ? 4 : 6, isIP(text), text)
    if (bytes !== undefined) found++
  }
  t.true(found > 1000, `${found} addresses among them`)
})

test('endpoint: with its port', t => {
  t.is(formatEndpoint({ address: parseAddress('1.2.3.4')!, port: 80 }), '1.2.3.4:80')
  t.is(formatEndpoint({ address: parseAddress('::1')!, port: 443 }), '[::1]:443')
  t.is(formatEndpoint({ name: 'example.org', port: 53 }), 'example.org:53')
})

test('endpoint: the same address', t => {
  const same = (a: string, b: string) => sameAddress(parseAddress(a)!, parseAddress(b)!)
  t.true(same('1.2.3.4', '1.2.3.4'))
  t.true(same('2001:db8::', '2001:DB8:0::'))
  t.false(same('1.2.3.4', '1.2.3.5'))
  t.false(same('1.2.3.4', '::ffff:1.2.3.4'))
  t.false(same('0.0.0.0', '::'))
})
