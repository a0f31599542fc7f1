import test from 'ava'
import { Changes, Complaints } from '../src/log-limits.ts'

test('log-limits: the same complaint is told once a minute, another at once', t => {
  const complaints = new Complaints()
  const told = [0, 1, 59_999, 60_000, 60_001].map(now => complaints.isDue('one', now))
  t.deepEqual(told, [true, false, false, true, false])
  t.true(complaints.isDue('another', 60_001))
})

test('log-limits: of changes so many are told in any minute, then that more are not, then none for a minute', t => {
  const changes = new Changes(2)
  t.deepEqual(
    [0, 30_000, 60_000].map(now => changes.next(now)),
    ['tell', 'tell', 'tell'],
    'the first is a minute old',
  )
  t.deepEqual(
    [60_001, 60_002, 120_000].map(now => changes.next(now)),
    ['last', 'silence', 'silence'],
  )
  t.deepEqual(
    [120_001, 120_002, 120_003].map(now => changes.next(now)),
    ['tell', 'tell', 'last'],
  )
})
