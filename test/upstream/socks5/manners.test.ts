import test from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import { Method } from '../../../src/upstream/socks5/socks5-codec.ts'
import { Manners } from '../../../src/upstream/socks5/socks5-manners.ts'

const MINUTE = 60_000
const PROXY = { address: parseAddress('192.0.2.1')!, port: 1080 }
const strict = (offersPassword: boolean) => ({ pipelined: false, offersNone: true, offersPassword })
const NONE = { pipelined: true, offersNone: true, offersPassword: false }
const PASSWORD = { pipelined: true, offersNone: false, offersPassword: true }

function learning(withPassword = false) {
  const clock = { now: 1_000 }
  const manners = new Manners('auto', withPassword, () => clock.now)
  const current = () => manners.towards(PROXY)
  return { clock, manners, current }
}

test('manners: auto begins strictly, with all methods, and goes on with the one that was chosen', t => {
  for (const [withPassword, method, learned] of [
    [false, Method.none, NONE],
    [true, Method.none, NONE],
    [true, Method.password, PASSWORD],
  ] as const) {
    const { manners, current } = learning(withPassword)
    t.deepEqual(current(), strict(withPassword))
    manners.replied(PROXY, current(), method, false)
    t.deepEqual(current(), learned)
    t.deepEqual(manners.ahead, strict(withPassword))
  }
})

test('manners: strict and pipelined stay what they are, whatever happens', t => {
  for (const [handshake, withPassword, manner] of [
    ['strict', false, strict(false)],
    ['strict', true, strict(true)],
    ['pipelined', false, NONE],
    ['pipelined', true, PASSWORD],
  ] as const) {
    const manners = new Manners(handshake, withPassword)
    t.false(manners.learns)
    manners.replied(PROXY, manners.strict, Method.none, true)
    manners.replied(PROXY, manners.strict, Method.password, false)
    t.deepEqual(manners.towards(PROXY), manner)
    t.deepEqual(manners.ahead, { ...manner, pipelined: false })
  }
})

test('manners: a proxy that has never coped is strict at once, for ten minutes', t => {
  const { clock, manners, current } = learning()
  manners.replied(PROXY, current(), Method.none, false)
  manners.replied(PROXY, manners.strict, Method.none, true)
  t.deepEqual(current(), strict(false))
  clock.now += 10 * MINUTE - 1
  manners.replied(PROXY, current(), Method.none, false)
  t.deepEqual(current(), strict(false))
  clock.now += 1
  manners.replied(PROXY, current(), Method.none, false)
  t.deepEqual(current(), NONE)
})

test('manners: a proxy that has coped is strict after three failures in a row', t => {
  const { manners, current } = learning()
  manners.replied(PROXY, current(), Method.none, false)
  manners.replied(PROXY, current(), Method.none, false)
  for (let round = 0; round < 2; round++) {
    manners.replied(PROXY, manners.strict, Method.none, true)
    manners.replied(PROXY, manners.strict, Method.none, true)
    t.deepEqual(current(), NONE)
    if (round === 0) manners.replied(PROXY, current(), Method.none, false)
  }
  manners.replied(PROXY, manners.strict, Method.none, true)
  t.deepEqual(current(), strict(false))
})

test('manners: one dial at a time tries what nobody knows yet', t => {
  const { clock, manners, current } = learning()
  manners.replied(PROXY, current(), Method.none, false)
  t.deepEqual(current(), NONE)
  t.deepEqual(current(), strict(false))
  manners.replied(PROXY, manners.strict, Method.none, false)
  clock.now += 1_999
  t.deepEqual(current(), strict(false))
  clock.now += 1
  t.deepEqual(current(), NONE)
  t.true(manners.onTrial)
  manners.replied(PROXY, NONE, Method.none, false)
  t.false(manners.onTrial)
  t.deepEqual(current(), NONE)
  t.deepEqual(current(), NONE)
})

test('manners: another method is learned at once, and is no failure', t => {
  const { manners, current } = learning(true)
  manners.replied(PROXY, current(), Method.none, false)
  t.deepEqual(current(), NONE)
  manners.replied(PROXY, manners.strict, Method.password, true)
  t.deepEqual(current(), PASSWORD)
  manners.replied(PROXY, manners.strict, Method.none, false)
  t.deepEqual(current(), NONE)
})

test('manners: the proxy at another address is another proxy; the same address in another object is not', t => {
  const { manners, current } = learning()
  manners.replied(PROXY, current(), Method.none, false)
  t.deepEqual(manners.towards({ address: parseAddress('192.0.2.1')!, port: 1080 }), NONE)
  t.deepEqual(manners.towards({ address: parseAddress('192.0.2.2')!, port: 1080 }), strict(false))
})

test('manners: openings given up in silence are a doubt, three in a row a proof', t => {
  const { manners, current } = learning()
  manners.replied(PROXY, current(), Method.none, false)
  manners.replied(PROXY, current(), Method.none, false)
  t.false(manners.inDoubt)
  manners.stayedSilent()
  t.true(manners.inDoubt)
  t.deepEqual(current(), NONE)
  manners.stayedSilent()
  manners.stayedSilent()
  t.deepEqual(current(), strict(false))
})

test('manners: what another proxy answers teaches nothing of this one', t => {
  const { manners, current } = learning(true)
  current()
  manners.replied({ address: parseAddress('192.0.2.2')!, port: 1080 }, manners.strict, Method.password, false)
  t.deepEqual(current(), strict(true))
})
