import test from 'ava'
import { addressOfReverseName, NO_INDEX, VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { formatAddress, parseAddress } from '../../src/endpoint.ts'

const at = (text: string) => parseAddress(text)!
const prefix6 = at('fd74:756e::').subarray(0, 12)
const DEFAULT = { network4: at('198.18.0.0'), bits4: 15, own4: at('198.18.0.1'), prefix6 }

test('virtual-addresses: they begin behind the gateway’s own and leave out .0 and .255', t => {
  const addresses = new VirtualAddresses(DEFAULT)
  t.is(addresses.count, 512 * 254 - 1)
  const text = (index: number) => formatAddress(addresses.address4(index))
  t.deepEqual([0, 1, 252, 253, 254].map(text), ['198.18.0.2', '198.18.0.3', '198.18.0.254', '198.18.1.1', '198.18.1.2'])
  t.is(text(addresses.count - 1), '198.19.255.254')
  for (const other of [
    '198.18.0.0',
    '198.18.0.1',
    '198.18.7.255',
    '198.18.8.0',
    '198.19.255.255',
    '198.20.0.1',
    '198.17.255.254',
  ])
    t.is(addresses.indexOf(at(other)), NO_INDEX, other)
})

test('virtual-addresses: index and both addresses lead to one another, for every index', t => {
  for (const choice of [DEFAULT, { ...DEFAULT, own4: at('198.18.3.255') }, { ...DEFAULT, own4: at('192.0.2.1') }]) {
    const addresses = new VirtualAddresses(choice)
    const seen = new Set<string>()
    for (let index = 0; index < addresses.count; index++) {
      if (addresses.indexOf(addresses.address4(index)) !== index) return t.fail(`IPv4, ${index}`)
      if (addresses.indexOf(addresses.address6(index)) !== index) return t.fail(`IPv6, ${index}`)
      if (index % 97 === 0) seen.add(formatAddress(addresses.address6(index)))
    }
    t.is(seen.size, Math.ceil(addresses.count / 97))
  }
})

test('virtual-addresses: the IPv6 address ends in the IPv4 address', t => {
  const addresses = new VirtualAddresses(DEFAULT)
  t.is(formatAddress(addresses.address6(21)), 'fd74:756e::c612:17')
  t.is(formatAddress(addresses.address4(21)), '198.18.0.23')
  t.is(addresses.indexOf(at('fd74:756e::1')), NO_INDEX)
  t.is(addresses.indexOf(at('fd74:756f::c612:17')), NO_INDEX)
})

test('virtual-addresses: the own address in the middle, at an end, and elsewhere', t => {
  const first = (own: string) => formatAddress(new VirtualAddresses({ ...DEFAULT, own4: at(own) }).address4(0))
  t.is(first('198.18.5.9'), '198.18.5.10')
  t.is(first('198.18.5.254'), '198.18.6.1')
  t.is(first('198.18.5.255'), '198.18.6.1')
  t.is(first('198.18.5.0'), '198.18.5.1')
  t.is(first('10.0.0.1'), '198.18.0.1')
  t.is(new VirtualAddresses({ ...DEFAULT, own4: at('198.18.5.9') }).indexOf(at('198.18.0.7')), NO_INDEX)
})

test('virtual-addresses: without an IPv6 prefix there is none', t => {
  const addresses = new VirtualAddresses({ ...DEFAULT, prefix6: undefined })
  t.false(addresses.hasIpv6)
  t.is(addresses.indexOf(at('::c612:17')), NO_INDEX)
})

test('virtual-addresses: networks that are none are refused', t => {
  const make = (change: object) => () => new VirtualAddresses({ ...DEFAULT, ...change })
  t.throws(make({ bits4: 25 }), { instanceOf: RangeError })
  t.throws(make({ bits4: 7, network4: at('198.0.0.0') }), { instanceOf: RangeError })
  t.throws(make({ network4: at('198.18.0.1') }), { instanceOf: RangeError })
  t.throws(make({ network4: at('198.19.0.0') }), { instanceOf: RangeError })
  t.throws(make({ prefix6: at('fd74:756e::') }), { instanceOf: RangeError })
})

test('virtual-addresses: reverse names, RFC 1035 section 3.5 and RFC 3596 section 2.5', t => {
  const text = (name: string) => {
    const address = addressOfReverseName(name)
    return address && formatAddress(address)
  }
  t.is(text('52.0.2.10.in-addr.arpa'), '10.2.0.52')
  t.is(text('b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa'), '4321:0:1:2:3:4:567:89ab')
  for (const wrong of [
    '18.198.in-addr.arpa',
    '1.2.3.4.5.in-addr.arpa',
    '256.0.0.1.in-addr.arpa',
    'in-addr.arpa',
    '1.ip6.arpa',
    'x.org',
  ])
    t.is(text(wrong), undefined, wrong)
})
