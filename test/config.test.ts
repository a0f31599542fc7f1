import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { readConfigFile } from '../src/config/file.ts'
import { parseFlags } from '../src/config/flags.ts'
import { flagOf, KEYS, variableOf } from '../src/config/keys.ts'
import { editDistance, suggestion } from '../src/config/suggest.ts'
import { gatewayOptions, type Loaded, loadConfig } from '../src/config.ts'
import { temporaryFolder } from './commands/tungate.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

function load(args: string[], environment: Record<string, string> = {}, requireProxy = false): Loaded {
  const flags = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
  const file = flags.file === undefined ? {} : { file: flags.file }
  return loadConfig({ environment, flags: flags.flags, uid: 1000, requireProxy, ...file })
}

test('config/default.yaml: has every key in the order of the schema, with its default', t => {
  const entries = readConfigFile(join(root, 'config/default.yaml'))
  t.deepEqual(
    entries.map(entry => entry.path),
    KEYS.map(key => key.path),
  )
  for (const [at, key] of KEYS.entries()) t.deepEqual(key.format.parse(entries[at]!.raw), key.default, key.path)
})

test('config/default.yaml: each key has a comment of its own that tells its default', t => {
  const lines = readFileSync(join(root, 'config/default.yaml'), 'utf8').split('\n')
  for (const { path, line } of readConfigFile(join(root, 'config/default.yaml'))) {
    let start = line - 1
    while (lines[start - 1]!.trim().startsWith('#')) start--
    t.regex(lines.slice(start, line - 1).join('\n'), /Default: /, path)
  }
})

test('config/default.yaml: gives the same configuration as no file', t => {
  t.deepEqual(load(['--config', join(root, 'config/default.yaml')]).config, load([]).config)
})

for (const name of ['routing', 'sidecar', 'system-wide']) {
  test(`config/${name}.yaml: is right, and differs from the defaults`, t => {
    const { config, origins } = load(
      ['--config', join(root, `config/${name}.yaml`), '--proxy', 'socks5://h', '--proxy-password-file='],
      {},
      true,
    )
    t.true(config.bind.interface !== '' || config.bind.mark !== 0)
    t.true(origins.size > 4)
  })
}

test('docs/configuration.md: has a row for each key with flag, variable, default and unit', t => {
  const text = readFileSync(join(root, 'docs/configuration.md'), 'utf8')
  const table = text.slice(text.indexOf('## Keys'), text.indexOf('## Upstreams'))
  const rows = table.split('\n').filter(line => line.startsWith('| `'))
  const cell = (value: string) => (value === '' ? '' : `\`${value}\``)
  const expected = KEYS.map(key => {
    const flags = key.short === undefined ? cell(flagOf(key)) : `${cell(key.short)}, ${cell(flagOf(key))}`
    const initial = cell(key.format.print(key.default) || "''")
    return `| \`${key.path}\` | ${flags} | ${cell(variableOf(key))} | ${initial} | ${key.unit} | ${key.meaning} |`
  })
  t.deepEqual(rows, expected)
})

test('docs/errors.md: has every code of the sources', t => {
  const text = readFileSync(join(root, 'docs/errors.md'), 'utf8')
  const codes = new Set<string>()
  for (const name of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts')) continue
    const source = readFileSync(join(root, 'src', name), 'utf8')
    for (const [, code] of source.matchAll(/(?:Error\(\s*|\bcode: )'([A-Z][A-Z0-9_]{3,})'/g)) codes.add(code!)
  }
  t.true(codes.size > 8)
  for (const code of codes) t.true(text.includes(`\`${code}\``), code)
})

test('config: later sources win: defaults, file, variables, flags', t => {
  const file = join(temporaryFolder(t), 'gateway.yaml')
  writeFileSync(file, 'tun:\n  mtu: 2000\n  name: fromfile\nlimits:\n  flows: 7\n')
  const environment = { TUNGATE_TUN_MTU: '3000', TUNGATE_TUN_NAME: 'fromenv', TUNGATE_CONFIG: '/nowhere' }
  const { config, origins } = load(['--config', file, '--mtu', '4000'], environment)
  t.is(config.tun.mtu, 4000)
  t.is(config.tun.name, 'fromenv')
  t.is(config.limits.flows, 7)
  t.is(config.limits.dials, 1024)
  t.is(origins.get('tun.mtu'), '--mtu')
  t.is(origins.get('tun.name'), 'TUNGATE_TUN_NAME')
  t.is(origins.get('limits.flows'), `${file}:5`)
  t.false(origins.has('limits.dials'))
})

test('config: TUNGATE_CONFIG names the file when no flag does', t => {
  const file = join(temporaryFolder(t), 'gateway.json')
  writeFileSync(file, '{\n\t"tun": {\n\t\t"mtu": 2000,\n\t\t"name": "\\u0074un9"\n\t}\n}\n')
  const { config } = load([], { TUNGATE_CONFIG: file })
  t.is(config.tun.mtu, 2000)
  t.is(config.tun.name, 'tun9')
})

test('config: of a flag given twice the last counts, in its short and its long form', t => {
  t.is(load(['--mtu', '2000', '--tun-mtu=3000']).config.tun.mtu, 3000)
  t.is(load(['--tun-mtu', '2000', '--mtu=3000']).config.tun.mtu, 3000)
})

test('config: a file of comments, and one with CRLF, are taken', t => {
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'a.yaml'), '# tun: {mtu: 5}\n')
  t.is(load(['--config', join(folder, 'a.yaml')]).config.tun.mtu, 1500)
  writeFileSync(join(folder, 'b.yaml'), 'tun:\r\n  mtu: "2000"\r\n')
  t.is(load(['--config', join(folder, 'b.yaml')]).config.tun.mtu, 2000)
})

/** For each key two values, as text, and where the second is found in what the gateway is told. */
const SECOND_VALUES: Record<string, [raw: string, value: unknown]> = {
  'tun.name': ['tun7', 'tun7'],
  'tun.fd': ['3', 3],
  'tun.mtu': ['9000', 9000],
  'tun.address4': ['10.9.8.7/24', '10.9.8.7/24'],
  'tun.address6': ['', ''],
  'tun.offload': ['off', 'off'],
  'upstream.handshake': ['strict', 'strict'],
  'upstream.pool': ['256', 256],
  'bind.interface': ['eth0', 'eth0'],
  'bind.mark': ['4294967295', 4_294_967_295],
  'tcp.connectTimeout': ['1500ms', 1500],
  'tcp.halfCloseTimeout': ['90000', 90_000],
  'tcp.idleTimeout': ['5m', 300_000],
  'tcp.keepAlive': ['0', 0],
  'udp.idleTimeout': ['2h', 7_200_000],
  'udp.maxAssociations': ['1', 1],
  'udp.mode': ['tcp', 'tcp'],
  'udp.quic': ['reject', 'reject'],
  'dns.mode': ['map', 'map'],
  'dns.resolver': ['[192.0.2.53]', [{ protocol: 'udp', host: '192.0.2.53', port: 53 }]],
  'dns.split': ['{x.y: 192.0.2.53}', { 'x.y': { protocol: 'udp', host: '192.0.2.53', port: 53 } }],
  'dns.mapFile': ['/x/names', '/x/names'],
  'dns.cacheEntries': ['0', 0],
  'limits.flows': ['65536', 65_536],
  'limits.dials': ['2', 2],
  'limits.dialsPerSource': ['3', 3],
  'icmp.echo': ['reply', 'reply'],
  workers: ['2', 2],
}

for (const key of KEYS.filter(each => /^(workers$|(tun|upstream|bind|tcp|udp|dns|limits|icmp)\.)/.test(each.path))) {
  test(`config: ${key.path} reaches the gateway by flag and by variable, and its text parses back`, t => {
    const [raw, value] = SECOND_VALUES[key.path]!
    const told = (loaded: Loaded) => {
      const [section, name] = key.path.split('.') as [string, string | undefined]
      const options = gatewayOptions(loaded.config) as unknown as Record<string, Record<string, unknown>>
      if (name === undefined) return options[section]
      return options[section]![name] ?? options[section]![`${name}Ms`]
    }
    const proxy = { TUNGATE_PROXY: 'socks5://127.0.0.1' }
    t.deepEqual(told(load([`${flagOf(key)}=${raw}`], proxy)), value)
    t.deepEqual(told(load([], { ...proxy, [variableOf(key)]: raw })), value)
    t.notDeepEqual(told(load([], proxy)), value)
    t.deepEqual(key.format.parse(key.format.print(key.format.parse(raw))), key.format.parse(raw))
    t.deepEqual(key.format.parse(key.format.print(key.default)), key.default)
  })
}

test('config: a small MTU is taken without IPv6', t => {
  t.is(load(['--mtu', '576', '--tun-address6=']).config.tun.mtu, 576)
})

test('config: the result is frozen to its depth', t => {
  const { config } = load(['--proxy', 'socks5://u:p@h'])
  for (const part of [config, config.tun, config.upstreams, config.upstreams.proxy, config.tcp, config.status])
    t.true(Object.isFrozen(part))
})

test('config: the status socket lies where only its owner comes', t => {
  t.is(load([], { XDG_RUNTIME_DIR: '/run/user/1000' }).config.status.socket, '/run/user/1000/tungate/tungate0.sock')
  t.is(load(['--tun', 'tun7']).config.status.socket, '/tmp/tungate-1000/tun7.sock')
  t.deepEqual(load(['--status-socket', '/x/y.sock']).config.status, { socket: '/x/y.sock', chosen: true })
  t.deepEqual(load(['--status-socket=']).config.status, { socket: '', chosen: true })
})

test('config: no flag and no variable is used by two keys', t => {
  const names = KEYS.flatMap(key => [flagOf(key), variableOf(key), ...(key.short === undefined ? [] : [key.short])])
  t.is(new Set(names).size, names.length)
})

test('config: the password comes from a file, without its one newline', t => {
  const file = join(temporaryFolder(t), 'password')
  for (const [content, password] of [
    ['secret\n', 'secret'],
    ['secret\r\n', 'secret'],
    [' s\n\n', ' s\n'],
    ['é', 'é'],
  ] as const) {
    writeFileSync(file, content)
    const { config } = load(['--proxy', 'socks5://me@h'], { TUNGATE_PROXY_PASSWORD_FILE: file })
    t.like(config.upstreams.proxy, { hops: [{ username: 'me', password }], text: 'socks5://me:***@h:1080' })
  }
})

test('config: what is shown of the proxy never holds the password', t => {
  for (const [url, shown] of [
    ['socks5://me:hunter2@h:1', 'socks5://me:***@h:1'],
    ['socks5://me:hunter2:hunter2@hunter2@h', 'socks5://me:***@h:1080'],
    ['socks5://me:%68unter2@[::1]:1', 'socks5://me:***@[::1]:1'],
  ] as const) {
    t.is(load(['--proxy', url]).shown.get('proxy'), shown)
  }
})

test('suggestion: near words, swapped letters, other case and the last part of a key', t => {
  t.is(editDistance('kitten', 'sitting'), 3)
  t.is(editDistance('ab', 'ba'), 1)
  t.is(editDistance('', 'abc'), 3)
  t.is(suggestion('tun.nmae', ['tun.name', 'tun.mtu']), ' (did you mean tun.name?)')
  t.is(suggestion('IDLE_TIMEOUT', ['tcp.keepAlive', 'tcp.idleTimeout']), ' (did you mean tcp.idleTimeout?)')
  t.is(suggestion('qqqqqq', ['tun.name', 'tun.mtu']), '')
  t.is(suggestion('', ['a']), '')
})
