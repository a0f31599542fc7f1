/** UDP_SEGMENT on a way that refuses it: the kernel is asked once, not with each batch. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { openNamespace } from './rig.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const counter = path('../../../test/cost/system-calls.c')
/** As many as system-calls.c has; a row is a name and a count. */
const ROWS_BYTES = 64 * 32
const NAME_BYTES = 24

/** How many were taken of each batch, and the calls of sendmmsg(), where loopback has an MTU of 1,500. */
async function send(t: ExecutionContext, sizes: readonly number[]): Promise<{ taken: number[]; calls: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'segments-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [library, rows] = [join(folder, 'calls.so'), join(folder, 'rows')]
  execFileSync(process.env.CC ?? 'cc', ['-O2', '-fPIC', '-shared', counter, '-o', library])
  writeFileSync(rows, new Uint8Array(ROWS_BYTES))
  const namespace = await openNamespace(t)
  namespace.run('ip', 'link', 'set', 'lo', 'mtu', '1500', 'up')
  const environment = [`LD_PRELOAD=${library}`, `COST_SYSTEM_CALLS=${rows}`]
  const output = namespace.run('env', ...environment, process.execPath, path('./segments.js'), ...sizes.map(String))
  const found = readFileSync(rows)
  const at = found.indexOf('sendmmsg\0', 0, 'latin1')
  return { taken: JSON.parse(output) as number[], calls: Number(found.readBigUInt64LE(at + NAME_BYTES)) }
}

test('segments: a size that the way refuses is tried once, and every datagram is sent', async t => {
  const { taken, calls } = await send(t, Array<number>(20).fill(2000))
  t.deepEqual(new Set(taken), new Set([8]))
  t.is(calls, 21)
})

test('segments: smaller ones still leave together', async t => {
  const { taken, calls } = await send(t, [2000, 1000, 2000, 1000])
  t.deepEqual(taken, [8, 8, 8, 8])
  t.is(calls, 5)
})

test('segments: after 65,536 datagrams it is tried again', async t => {
  const { calls } = await send(t, Array<number>(2 + 65_536 / 8).fill(1600))
  t.is(calls, 2 + 65_536 / 8 + 2)
})
