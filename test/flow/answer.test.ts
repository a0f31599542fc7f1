import test from 'ava'
import { tcpAnswer } from '../../src/flow/answer.ts'
import { Stack } from '../../src/stack/stack.ts'
import type { DialFailure } from '../../src/upstream/dialer.ts'

const { abi } = new Stack({
  mtu: 1500,
  vnetHdr: false,
  uso: false,
  echo: false,
  maxFlows: 1,
  maxEndpoints: 1,
  keepAliveMs: 0,
})

const answers: { readonly [failure in DialFailure]: number } = {
  refused: abi.answerReset,
  'net-unreachable': abi.answerNetUnreachable,
  'host-unreachable': abi.answerHostUnreachable,
  prohibited: abi.answerProhibited,
  'ttl-expired': abi.answerHostUnreachable,
  general: abi.answerReset,
  unsupported: abi.answerReset,
  'no-resources': abi.answerReset,
  'upstream-down': abi.answerReset,
  authentication: abi.answerReset,
  timeout: abi.answerSilence,
}

for (const [failure, answer] of Object.entries(answers))
  test(`answer: ${failure}`, t => {
    t.is(tcpAnswer(abi, failure as DialFailure), answer)
  })
