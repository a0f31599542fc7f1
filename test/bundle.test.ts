import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { temporaryFolder } from './commands/tungate.ts'

const source = fileURLToPath(new URL('../src', import.meta.url))
const caches = readdirSync(join(source, 'bundle')).filter(name => name.endsWith('.cache'))

const node = (args: string[], environment: Record<string, string> = {}) =>
  spawnSync(process.execPath, args, { encoding: 'utf8', env: { PATH: process.env.PATH, ...environment } })

/** The command with its bundle, in a folder of its own. */
function copyCommand(t: ExecutionContext): { command: string; bundle: string } {
  const folder = temporaryFolder(t)
  cpSync(join(source, 'tungate.cjs'), join(folder, 'tungate.cjs'))
  cpSync(join(source, 'bundle'), join(folder, 'bundle'), { recursive: true })
  return { command: join(folder, 'tungate.cjs'), bundle: join(folder, 'bundle') }
}

/** Uses `cli`, and two parts: `file` and `yaml`. */
const check = (command: string, environment?: Record<string, string>) => {
  const file = fileURLToPath(new URL('../../config/default.yaml', import.meta.url))
  return node([command, 'config', 'check', '--config', file, '--proxy', 'socks5://192.0.2.1'], environment)
}

test('bundle: this version of Node takes every cache that was made with it', t => {
  t.is(caches.length, readdirSync(join(source, 'bundle')).filter(name => name.endsWith('.cjs')).length)
  for (const name of caches) {
    const program = `const [file, cache] = process.argv.slice(1)
      const { readFileSync } = require('node:fs')
      const source = readFileSync(file, 'latin1')
      const bytes = readFileSync(cache)
      const options = { filename: file, cachedData: bytes.subarray(0, (bytes.length - source.length) / 2) }
      console.log(new (require('node:vm').Script)(source, options).cachedDataRejected)`
    const file = join(source, 'bundle', name.replace(/-v\d.*/, '.cjs'))
    const { stdout } = node(['-e', program, file, join(source, 'bundle', name)])
    t.is(stdout, 'false\n', name)
  }
})

/** Changes a byte at each of these places, as shares of the file. */
function spoil(file: string, places: readonly number[]): void {
  const bytes = readFileSync(file)
  for (const place of places) bytes[Math.floor(place * bytes.length)]! ^= 0xa5
  writeFileSync(file, bytes)
}

for (const [title, change] of [
  ['no cache', file => rmSync(file)],
  ['an empty cache', file => truncateSync(file, 0)],
  ['half a cache', file => truncateSync(file, readFileSync(file).length >> 1)],
  ['a cache that is none', file => writeFileSync(file, 'x'.repeat(100_000))],
  ['wrong bytes in a cache', file => spoil(file, [0.001, 0.01, 0.1, 0.2, 0.3])],
  ['wrong bytes in the second half of a cache', file => spoil(file, [0.5])],
  ['a cache of another script of the same length', file => spoil(file, [0.99])],
] as const satisfies [string, (file: string) => void][]) {
  test(`bundle: with ${title} all is the same, and nothing is said`, t => {
    const { command, bundle } = copyCommand(t)
    const before = check(command)
    t.is(before.status, 0, before.stderr)
    for (const name of caches) change(join(bundle, name))
    const { status, stdout, stderr } = check(command)
    t.deepEqual({ status, stdout, stderr }, { status: 0, stdout: before.stdout, stderr: '' })
  })
}

test('bundle: flags of V8 that the cache was not made with are no matter', t => {
  const { command } = copyCommand(t)
  const { status, stderr } = check(command, { NODE_OPTIONS: '--max-old-space-size=200 --stack-trace-limit=5' })
  t.is(stderr, '')
  t.is(status, 0)
})

test('bundle: has the licenses of the packages in it', t => {
  const notice = readFileSync(join(source, 'bundle/NOTICE'), 'utf8')
  for (const name of ['convict', 'winston', 'yaml', 'readable-stream']) t.regex(notice, new RegExp(`^${name} \\d`, 'm'))
  for (const text of ['Apache License', 'Permission is hereby granted', 'Permission to use, copy, modify'])
    t.true(notice.includes(text), text)
})
