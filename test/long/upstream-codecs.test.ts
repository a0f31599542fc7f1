/** The fuzzing of test/fuzz/upstream-codecs.test.ts with 200,000 inputs for each reader: a minute. */
import test from 'ava'
import { CODECS, fuzzCodec, fuzzUrls } from '../fuzz/upstream-codecs.ts'

const ROUNDS = 200_000

for (const name of Object.keys(CODECS))
  test(`fuzz, long: ${name}: mutated, in any pieces, it is taken, refused or waited for`, t =>
    fuzzCodec(t, name, ROUNDS, 2))

test('fuzz, long: URLs of upstreams: mutated, each is read or refused in one line without the password', t =>
  fuzzUrls(t, ROUNDS, 2))
