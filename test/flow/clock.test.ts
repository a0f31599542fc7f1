import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Clock } from '../../src/flow/clock.ts'

test('clock: up to two seconds since the last sweep are no leap', t => {
  const clock = new Clock(5_000)
  t.is(clock.latest, 7_000)
  clock.swept(6_000)
  t.is(clock.latest, 8_000)
  t.is(clock.skipped, 0)
})

test('clock: a leap counts as two seconds, then it goes on', t => {
  const clock = new Clock(5_000)
  t.is(67_000 - clock.leapt(67_000), 7_000)
  t.is(clock.skipped, 60_000)
  t.true(clock.latest > 7_000, 'the next turns, before a sweep, are no leaps')
  t.is(69_001 - clock.skipped - clock.leapt(69_001 - clock.skipped), 9_000, 'one that comes before a sweep is')
  t.is(clock.skipped, 60_001)
  clock.swept(7_000)
  t.is(clock.latest, 9_000)
  t.is(3_609_000 - clock.leapt(3_609_000), 9_000)
})

test('clock: the wall clock decides nothing: only the log looks at it', t => {
  const source = fileURLToPath(new URL('../../../src', import.meta.url))
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(file => /\.c?ts$/.test(file))
  t.true(files.length > 50)
  const readers = files.filter(
    file => !file.startsWith('demo/') && /\bDate\b/.test(readFileSync(join(source, file), 'utf8')),
  )
  t.deepEqual(readers, ['log.ts'])
  const native = fileURLToPath(new URL('../../../native', import.meta.url))
  for (const file of readdirSync(native).filter(name => /\.[ch]$/.test(name)))
    t.notRegex(readFileSync(join(native, file), 'utf8'), /CLOCK_REALTIME|gettimeofday|\btime\(/, file)
})
