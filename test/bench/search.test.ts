import test from 'ava'
import { highestRate } from '../../bench/search.ts'

/** A way that takes `capacity` Mbit/s, and notes the rates that were tried. */
function way(capacity: number, failsTwice = false) {
  const tried: number[] = []
  const attempt = async (rate: number) => {
    tried.push(rate)
    const isEarly = tried.filter(each => each === rate).length < 3
    return rate <= capacity && !(failsTwice && isEarly) ? rate : undefined
  }
  return { tried, attempt }
}

for (const capacity of [100, 150, 200, 230, 449, 450, 1234, 12_000])
  test(`bench search: ${capacity} Mbit/s is found to a step of 9 %`, async t => {
    const { tried, attempt } = way(capacity)
    const found = await highestRate(attempt)
    t.true(found <= capacity && found > capacity / 1.1, `${found} found by ${tried}`)
    t.true(tried.length <= 24)
  })

test('bench search: a rate that fails twice passes by its third try', async t => {
  const { attempt } = way(900, true)
  t.is(await highestRate(attempt), await highestRate(way(900).attempt))
})

test('bench search: ends at the highest rate there is, and gives 0 when the lowest fails', async t => {
  t.is(await highestRate(way(1e9).attempt), 12_800)
  const { tried, attempt } = way(50)
  t.is(await highestRate(attempt), 0)
  t.deepEqual(tried, [200, 200, 200, 100, 100, 100])
})
