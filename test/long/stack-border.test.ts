/** Ten million packets: two minutes and more for each of the seeds. `FUZZ_PACKETS` is how many for all. */
import test from 'ava'
import { formatResult, fuzzBorder } from '../fuzz/fuzz-border.ts'

const SEEDS = [1, 2, 3, 4, 5]
const PACKETS = Number(process.env.FUZZ_PACKETS ?? 10_000_000)

for (const seed of SEEDS)
  test.serial(
    `stack border: millions of mutated packets, seed ${seed}: no trap, nothing left, memory back, served`,
    t => {
      const result = fuzzBorder(seed, Math.ceil(PACKETS / SEEDS.length))
      t.log(formatResult(result))
      t.deepEqual(result.problems, [])
    },
  )
