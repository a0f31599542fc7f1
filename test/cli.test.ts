import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { readConfigFile } from '../src/config/file.ts'
import { KEYS } from '../src/config/keys.ts'
import { temporaryFolder, tungate } from './commands/tungate.ts'
import { commandFile } from './helpers/command-file.ts'

test('tungate --version: is that of package.json', async t => {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const ended = await tungate(['--version'])
  t.is(ended.stdout, `${JSON.parse(text).version}\n`)
  t.is(ended.code, 0)
})

test('tungate --help: fits a screen of 80 by 24, and so do status and demo', async t => {
  for (const args of [['--help'], ['-h'], ['help'], ['help', 'status'], ['demo', '--help'], ['status', '-h']]) {
    const ended = await tungate(args)
    t.is(ended.code, 0)
    const rows = ended.stdout.trimEnd().split('\n')
    t.true(rows.length <= 24, `${rows.length} rows`)
    for (const row of rows) t.true(row.length <= 86, row)
  }
})

test('tungate run --help: has every key once, and help config its variable', async t => {
  const run = (await tungate(['run', '--help'])).stdout
  for (const key of KEYS) t.is(run.split(key.meaning).length, 2, key.path)
  t.is((await tungate(['help', 'run'])).stdout, run)
  const config = (await tungate(['help', 'config'])).stdout
  for (const key of KEYS) t.true(config.includes(`  ${key.path} `), key.path)
})

const USAGE: [args: string[], expected: RegExp][] = [
  [['rnu'], /^tungate: "rnu": unknown command \(did you mean run\?\)\n$/],
  [['xyzzy'], /^tungate: "xyzzy": unknown command, allowed run, status, explain, demo, config, help\n$/],
  [['--tun', 'x'], /^tungate: "--tun": found a flag, allowed a command first/],
  [['help', 'rnu'], /did you mean run/],
  [['config'], /^tungate: config: found nothing, allowed config check or config show\n$/],
  [['config', 'chekc'], /^tungate: config: found "chekc" \(did you mean check\?\)/],
  [['config', 'check', 'x'], /^tungate: "x": config check takes flags only\n$/],
  [['run', 'x'], /^tungate: "x": run takes flags only/],
  [['run', '-x'], /^tungate: -x: unknown flag of run/],
  [['run', '--help=1'], /^tungate: --help: takes no value\n$/],
  [['run', '--proxy', '--mtu', '5'], /^tungate: --proxy: found no value for proxy/],
  [['status', '--mtu', '5'], /^tungate: --mtu: unknown flag of status/],
  [['status', '--jsno'], /^tungate: --jsno: unknown flag of status \(did you mean --json\?\)\n$/],
  [['status', '--status-socket='], /^tungate: status\.socket: found '' \(off\)/],
  [['socks5://u:hunter2@h'], /^tungate: "socks5:\/\/\*\*\*@h": unknown command/],
  [['run', '--prxy=socks5://u:hunter2@h'], /^tungate: --prxy: unknown flag of run \(did you mean --proxy\?\)\n$/],
]

for (const [args, expected] of USAGE) {
  test(`tungate ${args.join(' ')}: is one line and exit code 2`, async t => {
    const ended = await tungate(args)
    t.is(ended.code, 2)
    t.is(ended.stdout, '')
    t.regex(ended.stderr, expected)
    t.regex(ended.stderr, /^[^\n]*\n$/)
    t.false(ended.stderr.includes('hunter2'))
  })
}

test('tungate: alone it prints the help as an error', async t => {
  const ended = await tungate([])
  t.is(ended.code, 2)
  t.regex(ended.stderr, /^tungate: packets routed into a tun device/)
})

test('tungate config check: tells what is set, and by what', async t => {
  const ended = await tungate(['config', 'check', '--mtu', '9000'], { TUNGATE_PROXY: 'socks5://h' })
  t.is(ended.stdout, 'the configuration is right: 2 keys set by TUNGATE_PROXY, --mtu\n')
  t.is(ended.code, 0)
})

test('tungate config show: is a file that can be read again, without the password', async t => {
  const file = join(temporaryFolder(t), 'shown.yaml')
  const args = [
    'config',
    'show',
    '--proxy',
    'socks5://me:hunter2@[::1] https://you:hunter2@h',
    '--upstreams',
    '{office: "socks5://a:hunter2@b", all: {group: failover, members: [office]}}',
    '--mtu',
    '9000',
    '--tun-address6=',
    '--echo',
    'reply',
    '--tun',
    "a'b",
  ]
  const ended = await tungate(args)
  t.is(ended.code, 0)
  t.regex(ended.stdout, /^proxy: \['socks5:\/\/me:\*\*\*@\[::1\]:1080', 'https:\/\/you:\*\*\*@h:443'\] +# --proxy$/m)
  t.regex(
    ended.stdout,
    /^upstreams: \{ office: 'socks5:\/\/a:\*\*\*@b:1080', all: \{ group: failover, members: \[office\], probe: 10s \} \} +# --upstreams$/m,
  )
  t.regex(ended.stdout, /^ {2}mtu: 9000 +# --mtu$/m)
  t.regex(ended.stdout, /^ {2}dials: 1024 +# default$/m)
  t.false(ended.stdout.includes('hunter2'))
  writeFileSync(file, ended.stdout)
  const values = new Map(readConfigFile(file).map(entry => [entry.path, entry.raw]))
  t.deepEqual(
    [...values.keys()],
    KEYS.map(key => key.path),
  )
  t.deepEqual(
    [values.get('tun.mtu'), values.get('tun.address6'), values.get('tun.name'), values.get('icmp.echo')],
    ['9000', '', "a'b", 'reply'],
  )
})

test('tungate: stack traces are for TUNGATE_LOG_LEVEL=debug', async t => {
  const args = ['run', '--proxy', 'socks5://h', '--mtu', '12abc']
  t.notRegex((await tungate(args)).stderr, /\n\s+at /)
  t.regex((await tungate(args, { TUNGATE_LOG_LEVEL: 'debug' })).stderr, /^tungate: --mtu: .*\n(.*\n)*\s+at /)
})

const REPORT = fileURLToPath(new URL('./helpers/report-loaded.cjs', import.meta.url))

/** What the command loads; its output goes to a file, for which Node needs less than for a pipe. */
function loadedBy(args: readonly string[], code: number): Set<string> {
  const { status, output } = spawnSync(process.execPath, ['--require', REPORT, commandFile, ...args], {
    env: { PATH: process.env.PATH },
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'ignore'],
  })
  const loaded = new Set(JSON.parse(output[3]!) as string[])
  if (status !== code || !loaded.has('cli.cjs')) throw new Error(`${args}: ${status}, ${[...loaded]}`)
  return loaded
}

test('tungate: loads what a command needs, and no more', t => {
  const heavy = /^(winston\.|yaml\.|file\.|tungate\.node|node:(net|crypto|tls|dns\/promises)$)/
  const heavyOf = (args: readonly string[], code = 0) => [...loadedBy(args, code)].filter(name => heavy.test(name))
  const proxy = ['--proxy', 'socks5://192.0.2.1']
  const file = fileURLToPath(new URL('../../config/default.yaml', import.meta.url))
  t.deepEqual(heavyOf(['--help']), [])
  t.deepEqual(heavyOf(['--version']), [])
  t.deepEqual(heavyOf(['config', 'check', ...proxy]), [])
  t.deepEqual(heavyOf(['config', 'check', ...proxy, '--config', file]), ['file.cjs', 'yaml.cjs'])
  // A descriptor that is no tun: the end of a start without a device.
  const run = [...loadedBy(['run', ...proxy, '--tun-fd', '4', '--status-socket', ''], 1)]
  const scripts = run.filter(name => /\.(cjs|node)$/.test(name)).map(name => name.replace(/\.[A-Z0-9]{8}\./, '.'))
  t.deepEqual(scripts, ['cli.cjs', 'convict.cjs', 'tungate.node', 'winston.cjs'])
  t.deepEqual(
    run.filter(name => /^node:(net|crypto|tls|dns\/promises)$/.test(name)),
    [],
  )
})

test('tungate: a reader that goes away is no error', t => {
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', `"$0" "$1" help run | true; "$0" "$1" help run >/dev/full`, process.execPath, commandFile],
    {
      env: { PATH: process.env.PATH },
      encoding: 'utf8',
    },
  )
  t.is(stderr, '')
  t.is(status, 0)
})
