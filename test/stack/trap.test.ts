import test from 'ava'
import { GatewayError } from '../../src/errors.ts'
import { Stack } from '../../src/stack/stack.ts'
import { RuntimeError } from '../../src/stack/webassembly.ts'
import { Client, Rig } from './rig.ts'

const OPTIONS = { mtu: 1500, vnetHdr: false, uso: false, echo: false, maxFlows: 8, maxEndpoints: 8, keepAliveMs: 0 }

/** Spoils the reference count of a held SYN: lwIP asserts it when the SYN is freed. */
function trapped(rig: Rig): unknown {
  const id = new Client(rig).knock()
  const { abi, words, bytes } = rig.stack
  const syn = words[(abi.flows + id * abi.flowBytes + abi.flowError) / 4 + 2]!
  bytes[syn + 14] = 0 // struct pbuf: next, payload, tot_len, len, type, flags, ref
  try {
    rig.tell('release', id)
  } catch (error) {
    return error
  }
  return undefined
}

test('trap: it is a RuntimeError, which becomes STACK_TRAP with the cause', t => {
  const rig = new Rig()
  const error = trapped(rig)
  t.true(error instanceof RuntimeError)
  const explained = rig.stack.explain(error)
  t.true(explained instanceof GatewayError)
  t.is((explained as GatewayError).code, 'STACK_TRAP')
  t.is((explained as GatewayError).cause, error)
  t.regex((explained as GatewayError).message, /^lwIP stopped: pbuf_free: p->ref > 0$/)
})

test('trap: another error is given back as it is', t => {
  const error = new TypeError('ours')
  t.is(new Stack(OPTIONS).explain(error), error)
})

test('trap: another instance is not touched', t => {
  const other = new Stack(OPTIONS)
  t.truthy(trapped(new Rig()))
  t.is(other.exports.tg_pcbs(), 0)
  t.is(other.exports.tg_tick(2000), 0)
})

test('trap: an instance is made in less than 50 ms, so that a new one takes the place of one that stopped', t => {
  const times = [1, 2, 3, 4, 5].map(() => {
    const start = performance.now()
    new Stack(OPTIONS)
    return performance.now() - start
  })
  t.true(Math.min(...times) < 50, times.join())
})
