/** A terminal that stands still, made by script(1) of Debian's bsdutils, with a process of its own at it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { temporaryFolder } from './commands/tungate.ts'

const LOG = new URL('../src/log.js', import.meta.url).href
/** Standard error is a terminal; words go into a file. SIGTERM: three lines more, then the end. */
const AT_A_TERMINAL = `import { createLog } from ${JSON.stringify(LOG)}
const log = createLog({ level: 'info', format: 'json' })
const say = word => process.stdout.write(word + '\\n')
process.on('SIGTERM', async () => {
  for (let at = 0; at < 3; at++) {
    log.info('afterwards', { at })
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  const start = performance.now()
  await log.close()
  say('closed ' + (performance.now() - start))
  process.exit(0)
})
process.on('SIGUSR1', async () => {
  for (let at = 0; at < 20_000; at++) {
    log.info('line', { at, filling: 'x'.repeat(60) })
    if (at % 100 === 0) await new Promise(setImmediate)
  }
  say('written')
})
setInterval(() => {}, 1000)
log.info('first')
say(process.pid)
`

/** A terminal by script(1), which is its reader, and passes on what is typed. */
function startAtTerminal(t: ExecutionContext) {
  const folder = temporaryFolder(t)
  const words = join(folder, 'words')
  const command = 'exec "$NODE" --input-type=module -e "$PROGRAM" >"$WORDS"'
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE: process.execPath, PROGRAM: AT_A_TERMINAL, WORDS: words, SHELL: '/bin/sh' },
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', more => {
    text += more
  })
  child.stdin.on('error', () => undefined)
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  const said = () => (existsSync(words) ? readFileSync(words, 'utf8').split('\n').slice(0, -1) : [])
  const until = async (what: string, state: () => boolean) => {
    for (const deadline = performance.now() + 20_000; !state(); ) {
      if (performance.now() > deadline) throw new Error(`not within 20 s: ${what}`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  const isOver = () => said().some(word => word.startsWith('closed'))
  t.teardown(async () => {
    const pid = Number(said()[0] ?? 0)
    if (pid > 0 && !isOver()) process.kill(pid, 'SIGKILL')
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended, said, until, isOver, text: () => text.replaceAll('\r\n', '\n') }
}

for (const [how, stop, go] of [
  ['Ctrl-S', child => child.stdin!.write('\x13'), child => child.stdin!.write('\x11')],
  ['its reader hangs', child => child.kill('SIGSTOP'), child => child.kill('SIGCONT')],
] as [string, (child: ChildProcess) => void, (child: ChildProcess) => void][]) {
  test(`log-terminal: one that stands still (${how}) holds up nobody; what is lost is counted`, async t => {
    const { child, ended, said, until, text } = startAtTerminal(t)
    await until('its number', () => said().length === 1 && text().includes('first'))
    stop(child)
    const pid = Number(said()[0])
    process.kill(pid, 'SIGUSR1')
    await until('the end of its lines', () => said()[1] === 'written')
    go(child)
    const afterwards = () => text().split('"message":"afterwards"').length - 1
    await until('what was kept', () => text().includes('lines of the log were lost') || text().length > 2_000_000)
    process.kill(pid, 'SIGTERM')
    t.is(await ended, 0)
    const lines = text()
      .slice(text().indexOf('{'))
      .split('\n')
      .slice(0, -1)
      .map(line => JSON.parse(line) as { message: string; lines?: number })
    const kept = lines.filter(({ message }) => message === 'line')
    const lost = lines.filter(({ message }) => message.startsWith('lines of the log were lost'))
    t.is(lost.length, 1)
    t.is(kept.length + lost[0]!.lines!, 20_000)
    t.is(afterwards(), 3)
    t.true(text().length > 1_000_000 && text().length < 1_500_000, `${text().length} bytes were kept`)
  })

  test(`log-terminal: one that never moves again (${how}) does not keep a process from ending`, async t => {
    const { child, said, until, isOver, text } = startAtTerminal(t)
    await until('its number', () => said().length === 1 && text().includes('first'))
    stop(child)
    process.kill(Number(said()[0]), 'SIGUSR1')
    await until('the end of its lines', () => said()[1] === 'written')
    process.kill(Number(said()[0]), 'SIGTERM')
    await until('its end', isOver)
    const ms = Number(said().at(-1)!.split(' ')[1])
    t.true(ms < 3_000, `${ms} ms`)
  })
}
