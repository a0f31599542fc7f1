/** Truthful connect: what a client is told when its dial has failed. docs/truthful-connect.md has the errno of each. */
import type { Abi } from '../stack/abi.ts'
import type { DialFailure } from '../upstream/dialer.ts'

type AnswerName =
  | 'answerReset'
  | 'answerNetUnreachable'
  | 'answerHostUnreachable'
  | 'answerProhibited'
  | 'answerPortUnreachable'
  | 'answerSilence'

const TCP_ANSWERS: { readonly [failure in DialFailure]: AnswerName & keyof Abi } = {
  refused: 'answerReset',
  'net-unreachable': 'answerNetUnreachable',
  'host-unreachable': 'answerHostUnreachable',
  prohibited: 'answerProhibited',
  'ttl-expired': 'answerHostUnreachable',
  general: 'answerReset',
  unsupported: 'answerReset',
  'no-resources': 'answerReset',
  'upstream-down': 'answerReset',
  authentication: 'answerReset',
  timeout: 'answerSilence',
}

export function tcpAnswer(abi: Abi, failure: DialFailure): number {
  return abi[TCP_ANSWERS[failure]]
}
