import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { ConfigError } from '../../src/errors.ts'
import { compileText } from '../../src/rules/compile.ts'
import { compileApart } from '../../src/rules/compile-thread.ts'
import { match } from '../../src/rules/matcher.ts'
import { flow, options } from './rig.ts'

test('compile-thread: the tables are those of compileText, and shared', async t => {
  const text =
    "- {to: direct, destination: [10.0.0.0/8, 'fd00::/8']}\n- {to: drop, domainSuffix: a.example, port: 1-9}\n"
  const rules = await compileApart(text, options())
  t.deepEqual(rules, compileText(text, options()))
  t.true(rules.rows.buffer instanceof SharedArrayBuffer)
  t.is(match(rules, flow('udp', '192.0.2.1', 7, { domain: 'x.a.example' })), 1)
})

test('compile-thread: a mistake is the same error', async t => {
  const text = '- {to: direct, port: 1}\n- {to: direct, port: 0}\n'
  const apart = await t.throwsAsync(compileApart(text, options()), { instanceOf: ConfigError })
  const here = t.throws(() => compileText(text, options()), { instanceOf: ConfigError })
  t.is(apart!.message, here!.message)
  t.is(apart!.code, 'CONFIG_FILE')
})

test('compile-thread: the caller goes on meanwhile', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-compile-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'names'), Array.from({ length: 100_000 }, (_, at) => `name${at}.example`).join('\n'))
  let turns = 0
  const turn = () => {
    turns++
    next = setImmediate(turn)
  }
  let next = setImmediate(turn)
  const rules = await compileApart('- {to: drop, domainFile: names}', options(folder)).finally(() =>
    clearImmediate(next),
  )
  t.is(match(rules, flow('tcp', '192.0.2.1', 1, { domain: 'name99999.example' })), 0)
  t.true(turns > 100, `${turns} turns`)
})

test('compile-thread: an abort ends it', async t => {
  const abort = new AbortController()
  const compiling = compileApart('- {to: drop, port: 1}', options(), abort.signal)
  abort.abort(new Error('closed'))
  await t.throwsAsync(compiling, { message: 'closed' })
  await t.throwsAsync(compileApart('', options(), abort.signal), { message: 'closed' })
})
