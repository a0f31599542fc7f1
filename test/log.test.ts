import { spawnSync } from 'node:child_process'
import { PassThrough } from 'node:stream'
import test from 'ava'
import { createLog, type LogFields, type LogOptions, silentLog } from '../src/log.ts'

async function lines(options: LogOptions, write: (log: ReturnType<typeof createLog>) => void): Promise<string[]> {
  const stream = new PassThrough()
  const chunks: Buffer[] = []
  stream.on('data', chunk => chunks.push(chunk))
  const log = createLog(options, stream)
  write(log)
  await log.close()
  stream.end()
  return Buffer.concat(chunks).toString('utf8').split('\n').slice(0, -1)
}

const LEVELS = ['error', 'warn', 'info', 'debug'] as const

for (const [at, level] of LEVELS.entries()) {
  test(`log: ${level} writes its level and those above`, async t => {
    const written = await lines({ level, format: 'text' }, log => {
      for (const each of LEVELS) log[each](each)
      t.is(log.debugEnabled, level === 'debug')
    })
    t.deepEqual(
      written.map(line => line.split(/ +/)[2]),
      LEVELS.slice(0, at + 1),
    )
  })
}

test('log: text is time, level, message and fields, quoted where they must be', async t => {
  const fields: LogFields = {
    mtu: 1500,
    tun: 'tungate0',
    reason: 'a b',
    text: 'x="y"',
    none: undefined,
    empty: '',
    up: true,
  }
  const [line] = await lines({ level: 'info', format: 'text' }, log => log.info('started', fields))
  t.regex(
    line!,
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info {2}started mtu=1500 tun=tungate0 reason="a b" text="x=\\"y\\"" empty="" up=true$/,
  )
})

test('log: json is one object a line, whose own names win over fields', async t => {
  const [line] = await lines({ level: 'info', format: 'json' }, log =>
    log.warn('a\nb', { level: 'x', message: 'y', time: 'z', port: 1 }),
  )
  const { time, ...rest } = JSON.parse(line!)
  t.regex(time, /^\d{4}-.*Z$/)
  t.deepEqual(rest, { level: 'warn', message: 'a\nb', port: 1 })
})

for (const format of ['text', 'json'] as const) {
  test(`log: ${format} keeps a line a line and secrets out`, async t => {
    const written = await lines({ level: 'debug', format }, log => {
      log.error('dial socks5://u:hunter2@h:1\nx\x1b[31m', {
        password: 'hunter2',
        proxyPassword: 'hunter2',
        url: 'socks5://u:hun@ter2@h',
        note: 'a\nb',
      })
    })
    t.is(written.length, 1)
    t.notRegex(written[0]!, /hunter2|hun@/)
    t.false(written[0]!.includes('\x1b'))
    t.regex(written[0]!, /socks5:\/\/\*\*\*@h:1/)
  })
}

test('log: what is no plain value becomes text, without secrets', async t => {
  const fields = {
    cause: new Error('at socks5://u:hunter2@h'),
    list: ['socks5://u:hunter2@h'],
    nothing: null,
    big: 5n,
    call: () => {},
  }
  const [line] = await lines({ level: 'info', format: 'json' }, log => log.info('x', fields))
  const { time: _, ...rest } = JSON.parse(line!)
  const plain = { cause: 'at socks5://***@h', list: '["socks5://***@h"]', nothing: 'null', big: '5', call: 'function' }
  t.deepEqual(rest, { level: 'info', message: 'x', ...plain })
})

test('log: close waits for every line of a burst, and drops what comes later', async t => {
  const written = await lines({ level: 'info', format: 'text' }, log => {
    for (let count = 0; count < 1000; count++) log.info(`line ${count}`)
    log.close()
    log.info('late')
  })
  t.is(written.length, 1000)
  t.true(written.at(-1)!.endsWith('line 999'))
})

test('log: lines come by themselves, in order, without close', async t => {
  const stream = new PassThrough().setEncoding('utf8')
  let text = ''
  stream.on('data', chunk => {
    text += chunk
  })
  const log = createLog({ level: 'info', format: 'text' }, stream)
  t.teardown(() => log.close())
  for (const name of ['first', 'second']) log.info(name)
  t.is(text, '', 'winston is not loaded in the same turn')
  const limit = Date.now() + 20_000
  while (!text.includes('second') && Date.now() < limit) await new Promise(resolve => setTimeout(resolve, 5))
  log.info('third')
  await log.close()
  t.regex(text, /^\S+ info {2}first\n\S+ info {2}second\n\S+ info {2}third\n$/)
})

test('log: a field is written as it was when the line was', async t => {
  const [line] = await lines({ level: 'info', format: 'text' }, log => {
    const cause = new Error('before')
    log.info('x', { cause })
    cause.message = 'after'
  })
  t.regex(line!, / cause=before$/)
})

const LOG = new URL('../src/log.js', import.meta.url).href

for (const [end, code] of [
  ['process.exit(3)', 3],
  ['throw new Error("not caught")', 1],
  ['process.exitCode = 4', 4],
] as const) {
  test(`log: nothing is lost, and all is in order, when the process ends by ${end} before winston is loaded`, t => {
    const count = 1500
    const program = `import { createLog } from ${JSON.stringify(LOG)}
      const log = createLog({ level: 'debug', format: 'text' })
      for (let at = 0; at < ${count}; at++) log.debug('line', { at })
      ${end}`
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
    t.is(child.status, code, child.stderr)
    const written = child.stderr.split('\n').filter(line => line.includes(' debug '))
    t.deepEqual(
      written.map(line => / debug line at=(\d+)$/.exec(line)?.[1]),
      Array.from({ length: count }, (_, at) => String(at)),
    )
  })
}

test('log: the silent one takes everything', t => {
  t.false(silentLog.debugEnabled)
  t.notThrows(() => silentLog.error('x', { a: 1 }))
})
