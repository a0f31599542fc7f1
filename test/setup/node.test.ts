import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { temporaryFolder } from '../commands/tungate.ts'

const script = fileURLToPath(new URL('../../../setup/node.sh', import.meta.url))

/** A project of its own with setup/node.sh, and a command `npm` that says what it was asked and empties node_modules, as `npm ci` does. */
function makeProject(t: ExecutionContext) {
  const folder = temporaryFolder(t)
  for (const name of ['setup', 'bin', 'elsewhere']) mkdirSync(join(folder, name))
  cpSync(script, join(folder, 'setup/node.sh'))
  writeFileSync(join(folder, 'package-lock.json'), '{}')
  writeFileSync(join(folder, 'elsewhere/kept'), '')
  const npm = '#!/bin/sh\necho "npm $1" >&2\nmkdir -p node_modules\nrm -rf node_modules/*\n'
  writeFileSync(join(folder, 'bin/npm'), npm, { mode: 0o755 })
  const run = () => {
    const PATH = `${join(folder, 'bin')}${delimiter}${process.env.PATH}`
    const { status, stderr } = spawnSync('sh', [join(folder, 'setup/node.sh')], { encoding: 'utf8', env: { PATH } })
    return { status, stderr }
  }
  return { folder, run }
}

test('setup/node.sh: a node_modules that is a link is never emptied: exit code 3, and one line', t => {
  const { folder, run } = makeProject(t)
  symlinkSync(join(folder, 'elsewhere'), join(folder, 'node_modules'))
  const { status, stderr } = run()
  t.is(status, 3)
  t.regex(stderr, /^setup: node_modules is a link to \S+\/elsewhere, which npm ci would empty: .+\n$/)
  t.true(existsSync(join(folder, 'elsewhere/kept')))
})

test('setup/node.sh: npm ci is run once for a package-lock.json', t => {
  const { run } = makeProject(t)
  t.deepEqual(run(), { status: 0, stderr: 'npm ci\n' })
  t.deepEqual(run(), { status: 0, stderr: '' })
})
