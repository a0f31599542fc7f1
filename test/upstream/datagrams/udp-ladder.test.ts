import test from 'ava'
import type { UdpWay } from '../../../src/options.ts'
import { ladderCells, UdpLadder, udpWayOf } from '../../../src/upstream/datagrams/udp-ladder.ts'
import type { DialFailure } from '../../../src/upstream/dialer.ts'

const ASSOCIATE = 'associate'
const NO_UDP = 'the proxy carries no UDP: datagrams are answered with port unreachable'

function open(mode: UdpWay = 'auto', cells = ladderCells()) {
  const lines: string[] = []
  const clock = { seconds: 1_000 }
  const line = (message: string, { reason }: { reason?: string } = {}) =>
    void lines.push(reason === undefined ? message : `${message} (${reason})`)
  const ladder = new UdpLadder('p:1080', mode, { info: line, warn: line }, cells, () => clock.seconds)
  const fail = (way: 'associate' | 'tcp', failure: DialFailure = 'unsupported', isUp = true) =>
    ladder.failed(way, { failure, message: failure }, isUp)
  return { ladder, lines, clock, fail }
}

test('udp-ladder: a relay is asked for first, then UDP in TCP, then nothing', t => {
  const { ladder, lines, fail } = open()
  t.is(ladder.way, ASSOCIATE)
  t.is(fail(ASSOCIATE), 'tcp')
  t.is(ladder.way, 'tcp')
  t.deepEqual(lines, [])
  t.is(fail('tcp'), undefined)
  t.is(ladder.way, undefined)
  t.is(ladder.refusal.failure, 'unsupported')
  t.deepEqual(lines, [`${NO_UDP} (unsupported)`])
})

for (const [mode, first, then] of [
  ['associate', ASSOCIATE, undefined],
  ['tcp', 'tcp', undefined],
  ['off', undefined, undefined],
] as const)
  test(`udp-ladder: udp.mode ${mode} asks for ${first ?? 'nothing'}, and for ${then ?? 'nothing'} instead`, t => {
    const { ladder, fail } = open(mode)
    t.is(ladder.way, first)
    if (first !== undefined) t.is(fail(first), then)
    t.is(ladder.way, then)
  })

test('udp-ladder: what the rules forbid is not there', t => {
  const { fail } = open()
  t.is(fail(ASSOCIATE, 'prohibited'), 'tcp')
})

test('udp-ladder: a proxy of a kind without UDP has none, whether it is up or not', t => {
  const { ladder, lines, fail } = open()
  t.is(fail(ASSOCIATE, 'unsupported', false), 'tcp')
  t.is(fail('tcp', 'unsupported', false), undefined)
  t.is(ladder.way, undefined)
  t.is(lines.length, 1)
})

test('udp-ladder: what may have another reason counts three times in a row, and not where a relay has stood', t => {
  for (const failure of ['general', 'timeout', 'upstream-down', 'refused'] as const) {
    const { ladder, fail } = open()
    t.is(fail(ASSOCIATE, failure), undefined)
    t.is(fail(ASSOCIATE, failure), undefined)
    t.is(ladder.way, ASSOCIATE)
    t.is(fail(ASSOCIATE, failure), 'tcp', failure)
    const other = open()
    other.fail(ASSOCIATE, failure)
    other.ladder.stands(ASSOCIATE)
    for (let count = 0; count < 10; count++) t.is(other.fail(ASSOCIATE, failure), undefined)
    t.is(other.fail(ASSOCIATE), 'tcp', 'a refusal counts all the same')
  }
})

test('udp-ladder: a proxy that answers nobody, a machine without descriptors and a wrong password say nothing of UDP', t => {
  const { ladder, fail } = open()
  for (let count = 0; count < 5; count++) {
    t.is(fail(ASSOCIATE, 'upstream-down', false), undefined)
    t.is(fail(ASSOCIATE, 'no-resources'), undefined)
    t.is(fail(ASSOCIATE, 'authentication'), undefined)
  }
  t.is(ladder.way, ASSOCIATE)
})

test('udp-ladder: what was wanting is asked for again after 10 minutes, and nothing is said where nothing has changed', t => {
  const { ladder, lines, clock, fail } = open()
  fail(ASSOCIATE)
  fail('tcp')
  clock.seconds += 599
  t.is(ladder.way, undefined)
  clock.seconds += 1
  t.is(ladder.way, ASSOCIATE)
  fail(ASSOCIATE)
  fail('tcp')
  t.is(lines.length, 1)
  clock.seconds += 600
  t.is(ladder.way, ASSOCIATE)
  ladder.stands(ASSOCIATE)
  t.deepEqual(lines.slice(1), ['UDP goes through a relay of the proxy'])
  clock.seconds += 6_000
  t.is(ladder.way, ASSOCIATE)
})

test('udp-ladder: a proxy that was down is asked anew', t => {
  const { ladder, fail } = open()
  fail(ASSOCIATE)
  fail('tcp')
  ladder.forget()
  t.is(ladder.way, ASSOCIATE)
})

test('udp-ladder: a relay that works from the start needs no line, UDP in TCP has one', t => {
  const { ladder, lines, fail } = open()
  ladder.stands(ASSOCIATE)
  t.deepEqual(lines, [])
  fail(ASSOCIATE)
  ladder.stands('tcp')
  ladder.stands('tcp')
  t.deepEqual(lines, ['UDP goes through the proxy in TCP'])
})

test('udp-ladder: relays from which nothing comes are none, unless something came from one before', t => {
  const { ladder, lines } = open()
  ladder.stands(ASSOCIATE)
  for (let count = 0; count < 3; count++) ladder.deaf()
  t.is(ladder.way, ASSOCIATE)
  ladder.deaf()
  t.is(ladder.way, 'tcp')
  t.deepEqual(lines, [])

  const other = open()
  other.ladder.heard()
  for (let count = 0; count < 50; count++) other.ladder.deaf()
  t.is(other.ladder.way, ASSOCIATE)

  const asked = open('associate')
  for (let count = 0; count < 50; count++) asked.ladder.deaf()
  t.is(asked.ladder.way, ASSOCIATE, 'it was asked for by the configuration')
})

test('udp-ladder: all threads know of it, and one tells', t => {
  const cells = ladderCells()
  const one = open('auto', cells)
  const other = open('auto', cells)
  one.fail(ASSOCIATE)
  t.is(other.ladder.way, 'tcp')
  other.fail('tcp')
  t.is(one.ladder.way, undefined)
  one.fail('tcp')
  t.is(one.lines.length + other.lines.length, 1)
})

test('udp-ladder: a URL counts before the key; inside TLS auto is UDP in TCP', t => {
  const plain = (udp: UdpWay) => ({ udp })
  const tls = (udp: UdpWay) => ({ udp, tls: {} })
  t.is(udpWayOf(plain('auto'), 'auto'), 'auto')
  for (const mode of ['associate', 'tcp', 'off'] as const) {
    t.is(udpWayOf(plain('auto'), mode), mode)
    t.is(udpWayOf(plain(mode), 'auto'), mode)
    t.is(udpWayOf(plain(mode), 'off'), mode)
    t.is(udpWayOf(tls(mode), 'off'), mode)
  }
  t.is(udpWayOf(tls('auto'), 'auto'), 'tcp')
  t.is(udpWayOf(tls('auto'), 'off'), 'off')
})
