import test from 'ava'
import { parseAddress } from '../../src/endpoint.ts'
import { DialLimits } from '../../src/flow/limits.ts'

const [a, b, six] = ['10.0.0.1', '10.0.0.2', 'fd00::1'].map(text => parseAddress(text)!) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
]

test('limits: the bound of all dials', t => {
  const limits = new DialLimits(2, 10)
  t.true(limits.take(a))
  t.true(limits.take(b))
  t.false(limits.take(six))
  t.is(limits.inFlight, 2)
  limits.release(a)
  t.true(limits.take(six))
})

test('limits: the bound of one source leaves room for another', t => {
  const limits = new DialLimits(10, 2)
  t.deepEqual([limits.take(a), limits.take(a), limits.take(a)], [true, true, false])
  t.true(limits.take(b))
  t.true(limits.take(six))
  limits.release(a)
  t.true(limits.take(a))
  t.is(limits.inFlight, 4)
})

test('limits: what was refused is not counted', t => {
  const limits = new DialLimits(1, 1)
  limits.take(a)
  for (let count = 0; count < 5; count++) limits.take(a)
  limits.release(a)
  t.is(limits.inFlight, 0)
  t.true(limits.take(a))
})
