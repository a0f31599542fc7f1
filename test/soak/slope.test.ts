import test from 'ava'
import { slopeOf, student95 } from './slope.ts'

const times = Array.from({ length: 100 }, (_, at) => at)

/** The same each time: a linear congruential generator (Numerical Recipes). */
function noise(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return state / 2 ** 32 - 0.5
  }
}

test('slope: a line is found exactly', t => {
  const { slope, lower, upper } = slopeOf(
    times,
    times.map(at => 3 * at + 7),
  )
  for (const value of [slope, lower, upper]) t.true(Math.abs(value - 3) < 1e-9)
})

test('slope: quantiles of Student', t => {
  for (const [freedom, expected] of [
    [5, 2.015],
    [10, 1.812],
    [30, 1.697],
    [1_000, 1.646],
  ] as const)
    t.true(Math.abs(student95(freedom) - expected) < 0.005, `${freedom}: ${student95(freedom)}`)
})

for (const memory of [0, 0.5, 0.8])
  test(`slope: the bounds hold as often as they say, with noise of which ${memory} stays`, t => {
    let held = 0
    for (let seed = 1; seed <= 1_000; seed++) {
      const next = noise(seed * 7_919)
      let level = 0
      const values = times.map(() => {
        level = memory * level + next()
        return level
      })
      if (slopeOf(times, values).upper >= 0) held++
    }
    t.true(held > 880 && held < 990, `${held} of 1000`)
  })

test('slope: too few samples are an error', t => {
  t.throws(() => slopeOf([1, 2, 3], [1, 2, 3]), { instanceOf: RangeError })
})
