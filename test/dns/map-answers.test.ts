import test from 'ava'
import type { RecordType } from 'dns-packet'
import { answerFromMap, FORWARD, FORWARD_WITHOUT_HINTS } from '../../src/dns/map-answers.ts'
import { NAME_MAP_DEFAULTS, NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { parseAddress } from '../../src/endpoint.ts'
import { bytesOf, decoded, makeQuery, parsed, room } from './messages.ts'

const at = (text: string) => parseAddress(text)!
const out = room()

function makeMap(names = 1_000, { ipv6 = true } = {}) {
  const prefix6 = ipv6 ? at('fd74:756e::').subarray(0, 12) : undefined
  const network = { network4: at('198.18.0.0'), bits4: 15, own4: at('198.18.0.1'), prefix6 }
  return new NameMap(new VirtualAddresses(network), { ...NAME_MAP_DEFAULTS, names })
}

/** The code and the data of the answer, or what else is to be done. */
function ask(map: NameMap, name: string, type: RecordType | number, message?: Buffer): string {
  const choice = typeof type === 'number' ? { typeNumber: type } : { type }
  message ??= makeQuery(name, choice)
  const length = answerFromMap(out, message, parsed(message), map, 0)
  if (length === FORWARD) return 'forward'
  if (length === FORWARD_WITHOUT_HINTS) return 'forward without hints'
  const answer = decoded(out, length)
  const data = (answer.answers ?? []).map(each => `${each.type} ${'data' in each ? each.data : ''}`)
  return [answer.rcode, ...data].join(' ')
}

const ANY = 255
const HTTPS = 65
const SVCB = 64

test('map-answers: host names get addresses, both kinds of one index, with a small TTL', t => {
  const map = makeMap()
  t.is(ask(map, 'www.Example.org', 'A'), 'NOERROR A 198.18.0.2')
  t.is(ask(map, 'www.example.org', 'AAAA'), 'NOERROR AAAA fd74:756e::c612:2')
  t.is(ask(map, 'example.org', 'AAAA'), 'NOERROR AAAA fd74:756e::c612:3')
  t.is(ask(map, 'WWW.EXAMPLE.ORG', 'A'), 'NOERROR A 198.18.0.2')
  t.is(map.nameOf(at('198.18.0.2')), 'www.example.org')
  const message = makeQuery('www.example.org')
  t.like(decoded(out, answerFromMap(out, message, parsed(message), map, 0)).answers, [{ ttl: 10 }])
})

test('map-answers: without a prefix for IPv6 there is no such record', t => {
  const map = makeMap(1_000, { ipv6: false })
  t.is(ask(map, 'a.example', 'AAAA'), 'NOERROR')
  t.is(map.size, 0)
  t.is(ask(map, 'a.example', 'A'), 'NOERROR A 198.18.0.2')
})

test('map-answers: ANY gets what there is of one type', t => {
  t.is(ask(makeMap(), 'a.example', ANY), 'NOERROR A 198.18.0.2')
})

test('map-answers: HTTPS and SVCB are forwarded and lose their hints, other types are forwarded', t => {
  const map = makeMap()
  t.is(ask(map, 'a.example', HTTPS), 'forward without hints')
  t.is(ask(map, '_8443._https.a.example', SVCB), 'forward without hints')
  for (const type of ['MX', 'TXT', 'SRV', 'NS', 'SOA', 'CAA', 'DS', 'PTR', 'AXFR', 'CNAME'] as const)
    t.is(ask(map, 'a.example', type), 'forward', type)
  t.is(ask(map, 'com', 'NS'), 'forward')
  t.is(ask(map, 'com', 'DS'), 'forward')
  t.is(ask(map, '.', 'NS'), 'forward')
  t.is(ask(map, '.', 'A'), 'forward')
  t.is(map.size, 0)
})

test('map-answers: other classes are forwarded', t => {
  const message = bytesOf('#000001000001000000000000 7 version 4 bind 0 #0010 #0003')
  t.is(ask(makeMap(), '', 'TXT', message), 'forward')
  t.is(ask(makeMap(), '', 'A', bytesOf('#000001000001000000000000 1 a 7 example 0 #0001 #0003')), 'forward')
})

test('map-answers: what is no host name is forwarded', t => {
  const map = makeMap()
  for (const name of ['a b.example', 'bücher.example', '*.example']) t.is(ask(map, name, 'A'), 'forward', name)
  t.is(ask(map, '', 'A', bytesOf('#000001000001000000000000 3 a.b 7 example 0 #0001 #0001')), 'forward')
  t.is(ask(map, 'xn--bcher-kva.example', 'A'), 'NOERROR A 198.18.0.2')
  t.is(ask(map, 'my_host.example', 'A'), 'NOERROR A 198.18.0.3')
})

test('map-answers: names that nobody outside should hear of', t => {
  const map = makeMap()
  for (const name of ['printer', 'wpad', 'host.local', 'a.test', 'a.invalid', 'a.home.arpa', 'local'])
    for (const type of ['A', 'AAAA'] as const) t.is(ask(map, name, type), 'NXDOMAIN', name)
  for (const type of ['MX', 'SRV', 'PTR'] as const) t.is(ask(map, 'host.local', type), 'NXDOMAIN', type)
  t.is(ask(map, 'x.local.example', 'A'), 'NOERROR A 198.18.0.2')
})

test('map-answers: addresses as names do not pass as names', t => {
  const map = makeMap()
  for (const name of ['127.0.0.1', '10.1', '1.2.3.0x7f', '127.0.0.0X1', '2130706433', '0x7f000001', '1.2.3.0x'])
    t.is(ask(map, name, 'A'), 'NXDOMAIN', name)
  t.is(map.size, 0)
  t.is(ask(map, '1.2.3.a4', 'A'), 'NOERROR A 198.18.0.2')
})

test('map-answers: localhost is this host, RFC 6761 section 6.3', t => {
  const map = makeMap()
  t.is(ask(map, 'localhost', 'A'), 'NOERROR A 127.0.0.1')
  t.is(ask(map, 'a.LocalHost', 'A'), 'NOERROR A 127.0.0.1')
  t.is(ask(map, 'localhost', 'AAAA'), 'NOERROR AAAA ::1')
  t.is(ask(map, 'localhost', 'MX'), 'NOERROR')
})

test('map-answers: onion services and private names go to the proxy and to no resolver', t => {
  const map = makeMap()
  t.is(ask(map, 'example.onion', 'A'), 'NOERROR A 198.18.0.2')
  t.is(ask(map, 'db.example.internal', 'AAAA'), 'NOERROR AAAA fd74:756e::c612:3')
  for (const name of ['example.onion', 'db.example.internal'])
    for (const type of [HTTPS, 'TXT', 'MX'] as const) t.is(ask(map, name, type), 'NOERROR')
})

test('map-answers: ways around the map are closed', t => {
  const map = makeMap()
  t.is(ask(map, 'use-application-dns.net', 'A'), 'NXDOMAIN')
  t.is(ask(map, '_dns.resolver.arpa', SVCB), 'NOERROR')
  t.is(ask(map, 'www.use-application-dns.net', 'A'), 'NOERROR A 198.18.0.2')
})

test('map-answers: reverse look-ups of our addresses get the name', t => {
  const map = makeMap()
  map.assign('www.example.org', 0)
  const ip6 = `2.0.0.0.2.1.6.c.${'0.'.repeat(16)}e.6.5.7.4.7.d.f.ip6.arpa`
  for (const name of ['2.0.18.198.in-addr.arpa', '2.0.18.198.IN-ADDR.ARPA', ip6]) {
    t.is(ask(map, name, 'PTR'), 'NOERROR PTR www.example.org', name)
    t.is(ask(map, name, ANY), 'NOERROR PTR www.example.org')
    t.is(ask(map, name, 'TXT'), 'NOERROR')
  }
  t.is(ask(map, '3.0.18.198.in-addr.arpa', 'PTR'), 'NXDOMAIN')
  for (const name of [
    '1.2.0.192.in-addr.arpa',
    '1.0.20.198.in-addr.arpa',
    '18.198.in-addr.arpa',
    'a.in-addr.arpa',
    'arpa',
  ])
    t.is(ask(map, name, 'PTR'), 'forward', name)
  t.is(ask(map, 'ipv4only.arpa', 'A'), 'forward')
  t.is(map.size, 1)
})

test('map-answers: SERVFAIL when all addresses are in use, and it is counted', t => {
  const map = makeMap(2)
  t.is(ask(map, 'a.example', 'A'), 'NOERROR A 198.18.0.2')
  t.is(ask(map, 'b.example', 'AAAA'), 'NOERROR AAAA fd74:756e::c612:3')
  t.is(ask(map, 'c.example', 'A'), 'SERVFAIL')
  t.is(ask(map, 'c.example', 'AAAA'), 'SERVFAIL')
  t.is(map.exhausted, 2)
  t.is(ask(map, 'a.example', 'A'), 'NOERROR A 198.18.0.2')
})
