import test from 'ava'
import type { LogLine } from '../../src/plane/plane-messages.ts'
import { pendingCell, taken, WorkerLog } from '../../src/plane/worker-log.ts'

test('worker-log: a main thread that stands still is owed a thousand lines; what was lost is counted, and told once', t => {
  const pending = pendingCell()
  const told: LogLine[] = []
  const log = new WorkerLog(pending, line => told.push(line)).lines('plane', true)
  for (let at = 0; at < 5_000; at++) log.debug('line', { at })
  t.is(told.length, 1_000)
  t.deepEqual(
    told.map(({ fields }) => fields!.at),
    told.map((_, at) => at),
    'the oldest',
  )
  taken(pending)
  log.error('still too many')
  t.is(told.length, 1_000)
  for (let count = 0; count < 500; count++) taken(pending)
  log.info('there is room')
  log.info('more')
  t.deepEqual(
    told.slice(1_000).map(({ level, message, fields }) => [level, message, fields]),
    [
      ['warn', 'lines of the log of a worker were lost: the main thread had no time for them', { lines: 4_001 }],
      ['info', 'there is room', undefined],
      ['info', 'more', undefined],
    ],
  )
})
