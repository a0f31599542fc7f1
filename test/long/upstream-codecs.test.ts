/** The fuzzing of test/fuzz/upstream-codecs.test.ts with 200,000 inputs for each reader: a minute. */
import test from 'ava'
import { CODECS, fuzzCodec, fuzzUrls } from '../fuzz/upstream-codecs.ts'

const ROUNDS = 200_000
/** Half a minute on a machine that has nothing else to do. */
const TIMEOUT_MS = 300_000

for (const name of Object.keys(CODECS))
  test.serial(`fuzz, long: ${name}: mutated, in any pieces, it is taken, refused or waited for`, t => {
    t.timeout(TIMEOUT_MS)
    return fuzzCodec(t, name, ROUNDS, 2)
  })

test.serial('fuzz, long: URLs of upstreams: mutated, each is read or refused in one line without the password', t => {
  t.timeout(TIMEOUT_MS)
  return fuzzUrls(t, ROUNDS, 2)
})
