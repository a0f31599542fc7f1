/** The table of docs/RELIABILITY.md over a bad line of 20 ms. Slow: large transfers, so that the start does not count. */
import test from 'ava'
import { createImpairedWorld, type ImpairedWorld, transfer } from '../integration/impaired-world.ts'
import { type GatewayProcess, PROXY4, untilAtRest } from '../integration/world.ts'

let impaired: ImpairedWorld
let gateway: GatewayProcess | undefined

test.before(async () => {
  impaired = await createImpairedWorld({ delayMs: 10 })
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway?.text.slice(-2000))
  await gateway?.stop()
})
test.after.always(() => impaired?.close())

const BAD = { delayMs: 10, loss: 0.05, reorder: 0.05, duplicate: 0.02 }
/** Goals in MB/s, down and up, and bytes. */
const LINES = [
  ['nothing lost', { delayMs: 10 }, 8, 8, 60_000_000],
  ['1 % lost', { delayMs: 10, loss: 0.01 }, 1.5, 3, 30_000_000],
  ['5 % lost, 5 % late, 2 % twice', BAD, 0.5, 1, 15_000_000],
] as const
const SEEDS = [1, 2, 3]
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!

for (const [mode, args] of [
  ['offload', []],
  ['plain', ['--offload', 'off']],
] as const)
  for (const [name, impairments, down, up, bytes] of LINES)
    test.serial(`loss: ${name}, ${mode}: both ways as fast as promised, and little is sent in vain`, async t => {
      gateway = await impaired.gateway({ args })
      for (const [way, goal] of [
        ['down', down],
        ['up', up],
      ] as const) {
        const ours: number[] = []
        const linux: number[] = []
        for (const seed of SEEDS) {
          const got = await transfer(impaired, way, bytes, { ...impairments, seed })
          t.true(got.exact, got.text)
          if (way === 'down') t.true(got.resentBytes <= 2 * got.lostBytes + 20_000, got.text)
          ours.push(got.megabytesPerSecond)
          linux.push((await transfer(impaired, way, bytes, { ...impairments, seed }, PROXY4)).megabytesPerSecond)
        }
        t.log(`${way}: ${median(ours).toFixed(1)} MB/s, Linux alone ${median(linux).toFixed(1)}`)
        t.true(median(ours) >= goal, `${way}: ${ours.join(' ')} MB/s`)
      }
      await untilAtRest(gateway)
    })
