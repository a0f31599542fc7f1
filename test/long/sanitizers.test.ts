/** `make fuzz`: a minute for each of four targets, two at a time, and their build. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const root = fileURLToPath(new URL('../../../', import.meta.url))

test('fuzz: lwIP and its glue under sanitizers: regressions and corpus pass, and a minute a target finds nothing', t => {
  const { status, stdout, stderr } = spawnSync('sh', ['test/fuzz/run.sh'], { cwd: root, encoding: 'utf8' })
  t.log(stdout.trim())
  t.is(status, 0, stderr.slice(-4000))
})
