import test from 'ava'
import { LimitWatch } from '../../src/flow/limit-watch.ts'

test('limit-watch: one word at four fifths, and again only after it was below three fifths', t => {
  const watch = new LimitWatch()
  const news = [0, 79, 80, 81, 100, 70, 90, 60, 99, 59, 79, 80, 80].map(used => watch.isNews('flows', used, 100))
  t.deepEqual(
    news.map((isNews, at) => (isNews ? at : -1)).filter(at => at >= 0),
    [2, 11],
  )
})

test('limit-watch: limits are apart, and one without a number is never near', t => {
  const watch = new LimitWatch()
  t.true(watch.isNews('flows', 9, 10))
  t.true(watch.isNews('dials', 9, 10))
  t.false(watch.isNews('descriptors', 1_000_000, Number.POSITIVE_INFINITY))
})
