import test from 'ava'
import { Random } from '../fuzz/random.ts'
import { Hostile } from './hostile.ts'

const MESSAGES = 100_000

test('dns: 100,000 random and mutated messages break no promise', t => {
  const hostile = new Hostile(new Random(1))
  while (hostile.tally.messages < MESSAGES) hostile.step()
  const { sound, answeredByMap, accepted, kept, stripped } = hostile.tally
  t.log(hostile.tally)
  t.true(sound > MESSAGES / 10)
  for (const reached of [answeredByMap, accepted, kept, stripped]) t.true(reached > MESSAGES / 100)
})
