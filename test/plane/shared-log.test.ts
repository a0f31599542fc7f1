import test from 'ava'
import type { LogLevel, LogLine } from '../../src/plane/plane-messages.ts'
import { SharedLog } from '../../src/plane/shared-log.ts'

const MINUTE = 60_000

function rig() {
  const said: string[] = []
  const say = (level: LogLevel) => (message: string, fields?: Record<string, unknown>) => {
    said.push(`${level} ${message}${fields === undefined ? '' : ` ${JSON.stringify(fields)}`}`)
  }
  const shared = new SharedLog({
    debugEnabled: true,
    error: say('error'),
    warn: say('warn'),
    info: say('info'),
    debug: say('debug'),
  })
  const tell = (from: LogLine['from']) => (worker: number, level: LogLevel, message: string, now?: number) =>
    shared.say(worker, { from, level, message, fields: undefined }, now)
  return { said, shared, upstream: tell('upstream'), plane: tell('plane') }
}

test('shared-log: of the proxy all is told: the workers have agreed on who tells it', t => {
  const { said, upstream } = rig()
  upstream(0, 'warn', 'upstream down', 0)
  upstream(1, 'info', 'upstream up', 1)
  upstream(1, 'warn', 'upstream down', 2)
  t.deepEqual(said, ['warn upstream down', 'info upstream up', 'warn upstream down'])
})

test('shared-log: what a worker says again itself, it means', t => {
  const { said, upstream, plane } = rig()
  for (const tell of [upstream, plane]) {
    tell(1, 'warn', 'again', 0)
    tell(1, 'warn', 'again', 5)
  }
  t.is(said.length, 4)
})

test('shared-log: a complaint of one is not repeated by another within a minute', t => {
  const { said, plane } = rig()
  plane(0, 'warn', 'too many dials', 1000)
  plane(1, 'warn', 'too many dials', 1000 + MINUTE - 1)
  plane(1, 'warn', 'another', 2000)
  t.deepEqual(said, ['warn too many dials', 'warn another'])
  plane(1, 'warn', 'too many dials', 1000 + MINUTE)
  t.is(said.length, 3)
})

test('shared-log: errors and debug lines of all are told, with their fields', t => {
  const { said, shared } = rig()
  for (const worker of [0, 1]) {
    for (const level of ['error', 'debug'] as const)
      shared.say(worker, { from: 'plane', level, message: 'ended', fields: { ms: worker } })
  }
  t.deepEqual(said, ['error ended {"ms":0}', 'debug ended {"ms":0}', 'error ended {"ms":1}', 'debug ended {"ms":1}'])
})
