import test from 'ava'
import { CODECS, fuzzCodec, fuzzUrls } from './upstream-codecs.ts'

const ROUNDS = 4_000

for (const name of Object.keys(CODECS))
  test(`fuzz: ${name}: mutated, in any pieces, it is taken, refused or waited for`, t => fuzzCodec(t, name, ROUNDS, 1))

test('fuzz: URLs of upstreams: mutated, each is read or refused in one line without the password', t =>
  fuzzUrls(t, ROUNDS, 1))
