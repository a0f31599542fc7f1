import test from 'ava'
import { GatewayError } from '../../src/errors.ts'
import { TrapLimit } from '../../src/plane/trap-limit.ts'

const TRAP = new GatewayError('STACK_TRAP', 'lwIP stopped: as the test says')

test('trap-limit: the third within 60 s is the last one', t => {
  const limit = new TrapLimit()
  t.is(limit.add(TRAP, 0), undefined)
  t.is(limit.add(TRAP, 30_000), undefined)
  const last = limit.add(TRAP, 59_999)
  t.is(last?.code, 'STACK_TRAP')
  t.is(last?.cause, TRAP)
})

test('trap-limit: what is 60 s old counts no more', t => {
  const limit = new TrapLimit()
  for (const at of [0, 30_000, 60_000, 90_000, 120_000]) t.is(limit.add(TRAP, at), undefined, String(at))
  t.truthy(limit.add(TRAP, 149_999))
})
