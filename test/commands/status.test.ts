import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { printAge, printBytes, statusTable } from '../../src/commands/status.ts'
import { readStatus } from '../../src/status.ts'
import { FLOW } from './fake-run.ts'
import { temporaryFolder } from './tungate.ts'

test('status: bytes are printed for people', t => {
  for (const [bytes, text] of [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [1_048_575, '1.0 MiB'],
    [5_000_000_000_000, '4.5 TiB'],
    [Number.MAX_SAFE_INTEGER, '8.0 PiB'],
  ] as const) {
    t.is(printBytes(bytes), text)
  }
})

test('status: ages are printed for people', t => {
  for (const [ms, text] of [
    [0, '0s'],
    [999, '0s'],
    [61_000, '1m 1s'],
    [3_600_000, '1h'],
    [3_605_000, '1h'],
    [90_061_000, '1d 1h'],
  ] as const) {
    t.is(printAge(ms), text)
  }
})

test('status: the table has the 50 busiest flows, and no control characters of others', t => {
  const flows = Array.from({ length: 60 }, (_, id) => ({ ...FLOW, id, bytesUp: id, destination: `\x1b[31m${id}:1` }))
  const head = { version: '1', pid: 1, tun: 't', proxy: 'p', uptimeMs: 0, counters: {} }
  const table = statusTable({ ...head, flows })
  t.regex(table, /… and 10 more flows \(--json has all\)\n$/)
  t.false(table.includes('\x1b'))
  t.true(table.includes('\\u{1b}[31m59:1'))
  t.false(table.includes('31m9:1'))
})

test('status: a gateway that hangs up without a word has no descriptor left, perhaps', async t => {
  const path = join(temporaryFolder(t), 'status.sock')
  const server = createServer(socket => socket.end()).listen(path)
  t.teardown(() => server.close())
  await t.throwsAsync(readStatus(path), { code: 'STATUS_SOCKET', message: /no file descriptor left, perhaps$/ })
})

test('status: limits stand together, with how much of each is in use', t => {
  const counters = { flow_slots: 85, limit_flows: 100, stack_memory_bytes: 0, limit_stack_memory_bytes: 1024, other: 3 }
  const table = statusTable({ version: '1', pid: 1, tun: 't', proxy: 'p', uptimeMs: 0, counters, flows: [] })
  t.true(table.includes('LIMIT               IN USE       OF\nflows                   85      100  85 %\n'), table)
  t.true(table.includes('stack_memory_bytes     0 B  1.0 KiB   0 %'), table)
  t.false(table.includes('limit_flows'))
})
