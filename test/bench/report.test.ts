import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { atLeast, atMost, row } from '../../bench/measure.ts'
import { cpuSeconds } from '../../bench/processes.ts'
import { markdown, medianOf, type Report, ratioWithinRounds, table, writeBetweenMarkers } from '../../bench/report.ts'
import { Results } from '../../bench/results.ts'
import { firstLine } from '../../bench/topology.ts'

const contender = (name: string) => ({ name, label: name, isRival: name.startsWith('rival') })

const report: Report = {
  conditions: { date: 'today' },
  contenders: ['ours', 'bound', 'rival-a', 'rival-b'].map(contender),
  rows: [
    row('rate', 'rate', 'per s', 0, atLeast({ rival: 2, bound: 0.5 })),
    row('own', 'size', 'KiB', 1, atMost({ own: 8 })),
    { ...row('point', 'point', 's', 1), isPoint: true },
    row('nobody', 'nobody', 's', 1),
    row('multiple', 'multiple', '×', 1),
  ],
  values: {
    rate: { ours: [30, 10, 20], bound: [40, 50, 100], 'rival-a': [10, 10, 10], 'rival-b': [30, null, null] },
    own: { ours: [9, 9, 9] },
    point: { ours: [1] },
    nobody: { ours: [null] },
    multiple: { ours: [2], bound: [1] },
  },
  failures: [2, 3].map(round => ({ round, row: 'rate', contender: 'rival-b', message: 'gone' })),
}

test('bench report: the median of an odd, an even and an empty number of values', t => {
  t.is(medianOf([3, 1, 2]), 2)
  t.is(medianOf([4, 1, 2, 3]), 2.5)
  t.is(medianOf([]), undefined)
})

test('bench report: a ratio is taken within each round, and a round without one of both is left out', t => {
  // the medians are 20 and 10, but no two of one round are
  t.is(ratioWithinRounds([20, 40, 10], [10, 10, 10]), 2)
  t.is(ratioWithinRounds([20, null, 90], [10, 10, null]), 2)
  t.is(ratioWithinRounds([20], [0]), undefined)
})

test('bench report: one line for each row, with medians, ratios to each other, goals, and in bold what is behind them', t => {
  t.deepEqual(table(report).split('\n').slice(2), [
    '| rate, per s | 20 | 50 | 10 | 30, 2 failed | **0.20 ×** | 2.00 × | 1.00 × | ≥ 2 × rival-a, ≥ 0.5 × bound |',
    '| size, KiB | **9.0** | – | – | – | – | – | – | ≤ 8 KiB |',
    '| multiple, × | 2.0 | 1.0 | – | – | – | – | – |  |',
  ])
})

test('bench report: the failures of one reason stand in one line, with rows and rounds', t => {
  t.true(markdown(report).endsWith('Failed runs:\n\n- rival-b: gone (rate; round 2, 3)\n'))
  t.false(markdown({ ...report, failures: [] }).includes('Failed'))
})

test('bench results: a failed row leaves a gap in its round and in no other row', t => {
  const results = new Results()
  const rows = [row('a', 'a', 's', 0), row('b', 'b', 's', 0)]
  results.add(2, rows, 'ours', [1, new Error('lost')])
  results.add(3, rows, 'ours', [Number.NaN, 4])
  t.deepEqual(results.values, { a: { ours: [null, 1, null] }, b: { ours: [null, null, 4] } })
  t.deepEqual(results.failures, [{ round: 2, row: 'b', contender: 'ours', message: 'lost' }])
})

test('bench report: only what stands between the markers is replaced', t => {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-test-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'page.md')
  writeFileSync(file, 'above\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbelow\n')
  writeBetweenMarkers(file, 'new\n')
  t.is(readFileSync(file, 'utf8'), 'above\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nbelow\n')
  writeFileSync(file, '<!-- bench:end -->')
  t.throws(() => writeBetweenMarkers(file, 'new\n'))
})

test('bench processes: the CPU time of a process is what it says itself, finer than a tick', async t => {
  const script = `
    while (process.cpuUsage().user < 155_000);
    const { user, system } = process.cpuUsage()
    require('node:fs').writeSync(1, String((user + system) / 1e6) + '\\n')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const said = Number(await firstLine(child, 20_000))
  const counted = cpuSeconds(child.pid!)
  t.true(counted > said - 0.002 && counted < said + 0.008, `${counted} s counted, ${said} s said`)
})
