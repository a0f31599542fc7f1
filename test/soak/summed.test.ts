import test from 'ava'
import { summed } from './summed.ts'

test('summed: counts are added, of medians the median counts, of 99th percentiles the greatest', t => {
  const slices = [
    { count: 6000, failed: 0, connectP50Ms: 40, connectP99Ms: 250 },
    { count: 5990, failed: 10, connectP50Ms: 42, connectP99Ms: 900 },
    { count: 6000, failed: 1, connectP50Ms: 100, connectP99Ms: 300 },
  ]
  t.deepEqual(summed(slices), { count: 17_990, failed: 11, connectP50Ms: 42, connectP99Ms: 900 })
  t.is(summed(slices.slice(0, 2)).connectP50Ms, 41)
  t.deepEqual(summed([]), {})
})
