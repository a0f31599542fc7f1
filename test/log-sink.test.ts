/** Where the log goes: readers that stand still or go away, and disks that are full. Each in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { temporaryFolder } from './commands/tungate.ts'

const LOG = new URL('../src/log.js', import.meta.url).href
/** Lines of 100 bytes and more, then a word by the other descriptor; the rest when there is a word for us. */
const PROGRAM = `import { createLog } from ${JSON.stringify(LOG)}
const log = createLog({ level: 'info', format: 'json' })
const lines = Number(process.argv[1])
const start = performance.now()
for (let at = 0; at < lines; at++) {
  log.info('line', { at, filling: 'x'.repeat(60) })
  if (at % 100 === 0) await new Promise(setImmediate)
}
process.stdout.write(JSON.stringify({ ms: performance.now() - start, heap: process.memoryUsage().rss }) + '\\n')
process.stdin.once('data', async () => {
  for (let at = 0; at < 3; at++) {
    log.info('afterwards', { at })
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await log.close()
  process.stdout.write('closed\\n', () => process.exit(0))
})
`

interface Running {
  readonly child: ChildProcess
  /** The next line of its standard output. */
  word(): Promise<string>
  readonly ended: Promise<number | null>
}

function start(t: ExecutionContext, lines: number, stderr: 'pipe' | number): Running {
  const args = ['--input-type=module', '-e', PROGRAM, String(lines)]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', stderr] })
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGKILL')
    child.stderr?.destroy()
    await ended
  })
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', more => {
    text += more
  })
  const word = async () => {
    for (const deadline = performance.now() + 20_000; !text.includes('\n'); ) {
      if (performance.now() > deadline || child.exitCode !== null) throw new Error(`no word: ${child.exitCode}`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    const end = text.indexOf('\n')
    const line = text.slice(0, end)
    text = text.slice(end + 1)
    return line
  }
  return { child, word, ended }
}

interface Line {
  readonly message: string
  readonly at?: number
  readonly lines?: number
}

const parse = (text: string): Line[] =>
  text
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as Line)

test('log-sink: a reader that stands still holds up nobody; what is lost is bounded, counted and told once', async t => {
  const total = 30_000
  const { child, word, ended } = start(t, total, 'pipe')
  child.stderr!.pause()
  const { ms } = JSON.parse(await word())
  t.true(ms < 15_000, `${ms} ms`)
  let text = ''
  child.stderr!.setEncoding('utf8').on('data', more => {
    text += more
  })
  child.stderr!.resume()
  child.stdin!.write('go on\n')
  t.is(await word(), 'closed')
  await ended
  const lines = parse(text)
  const kept = lines.filter(({ message }) => message === 'line')
  const lost = lines.filter(({ message }) => message.startsWith('lines of the log were lost'))
  t.is(lost.length, 1)
  const last = lines.filter(({ message }) => message === 'afterwards').length
  t.true(last > 0)
  t.is(kept.length + last + lost[0]!.lines!, total + 3)
  t.deepEqual(
    kept.map(({ at }) => at),
    kept.map((_, at) => at),
    'the oldest are there, in order',
  )
  t.true(text.length > 1_000_000 && text.length < 1_500_000, `${text.length} bytes were kept`)
})

test('log-sink: a reader that went away is no reason to end, and nothing is kept for it', async t => {
  const { child, word, ended } = start(t, 20_000, 'pipe')
  child.stderr!.destroy()
  const { heap } = JSON.parse(await word())
  t.true(heap < 200e6, `${heap} bytes`)
  child.stdin!.write('go on\n')
  t.is(await word(), 'closed')
  t.is(await ended, 0)
})

test('log-sink: a reader that never comes back does not keep a process from ending', async t => {
  const { child, word } = start(t, 20_000, 'pipe')
  child.stderr!.pause()
  await word()
  const since = performance.now()
  child.stdin!.write('go on\n')
  t.is(await word(), 'closed')
  t.true(performance.now() - since < 1_500)
})

/** Milliseconds that flush() takes when a few lines are queued, and are read from then on. */
async function flushMs(t: ExecutionContext): Promise<number> {
  const sink = new URL('../src/log-sink.js', import.meta.url).href
  const program = `import { LogSink } from ${JSON.stringify(sink)}
const sink = new LogSink(() => {})
while (process.stderr.writableLength === 0) sink.write('x'.repeat(3999) + '\\n')
process.stdout.write('queued\\n')
const start = performance.now()
await sink.flush()
process.stdout.write(performance.now() - start + '\\n')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise(resolve => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', more => {
    text += more
    child.stderr.resume()
  })
  await ended
  const [first, ms] = text.split('\n')
  t.is(first, 'queued')
  return Number(ms)
}

test('log-sink: the end waits no longer than its last lines take', async t => {
  const took: number[] = []
  while (took.length < 5 && !took.some(ms => ms < 200)) took.push(await flushMs(t))
  t.true(took.at(-1)! < 200, `${took} ms`)
})

test('log-sink: a disk that is full (/dev/full) is no reason to end', async t => {
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const { child, word, ended } = start(t, 2_000, full)
  await word()
  child.stdin!.write('go on\n')
  t.is(await word(), 'closed')
  t.is(await ended, 0)
})

/** A file that takes so many KiB: RLIMIT_FSIZE, with SIGXFSZ ignored as Node does, is as good as a small disk. */
test('log-sink: when the disk has room again lines are whole, and how many were lost is told', async t => {
  const file = join(temporaryFolder(t), 'log')
  const child = spawn(
    'sh',
    [
      '-c',
      `exec prlimit --fsize=40960: "$0" "$@" 2>>"$LOG_FILE"`,
      process.execPath,
      '--input-type=module',
      '-e',
      PROGRAM,
      '1000',
    ],
    { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, LOG_FILE: file } },
  )
  const ended = new Promise(resolve => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const said: string[] = []
  child.stdout.setEncoding('utf8').on('data', text => said.push(text))
  const until = async (state: () => boolean) => {
    for (const deadline = performance.now() + 20_000; !state(); ) {
      if (performance.now() > deadline || child.exitCode !== null) throw new Error(`exit ${child.exitCode}`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  await until(() => said.join('').includes('\n'))
  const before = readFileSync(file, 'utf8')
  t.is(before.length, 40_960)
  spawn('prlimit', ['--fsize=unlimited', '--pid', String(child.pid)], { stdio: 'inherit' }).once('close', () =>
    child.stdin.write('go on\n'),
  )
  await ended
  const text = readFileSync(file, 'utf8').slice(before.lastIndexOf('\n') + 1)
  const [torn, ...rest] = text.split('\n')
  t.throws(() => JSON.parse(torn!), undefined, 'the line that came in part')
  const lines = parse(rest.join('\n'))
  const kept = before.split('\n').length - 1
  const told = lines.map(({ message, lines }) => lines ?? message)
  // how many were lost is told behind a write that went through, which may have taken more than one line
  t.deepEqual(
    told.filter(said => said !== 1000 - kept),
    ['afterwards', 'afterwards', 'afterwards'],
  )
  t.is(told.filter(said => said === 1000 - kept).length, 1, told.join())
  t.not(told[0], 1000 - kept)
})
