import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

/** An import line: `file` and `target` are paths below src. */
interface Arrow {
  readonly file: string
  readonly target: string
  /** `import type`, or an `export type … from`. */
  readonly isType: boolean
}

/** Files of src/ itself that import nothing of the project but one another. */
const LEAVES = [
  'endpoint.ts',
  'errors.ts',
  'options.ts',
  'redact.ts',
  'log.ts',
  'log-limits.ts',
  'log-sink.ts',
  'log-terminal.ts',
  'status.ts',
  'metrics.ts',
]

/**
 * Who may import whom. `room` is a folder of src/, or a file of it; `type room` allows types alone. A room may always
 * import itself and the leaves.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  leaf: [],
  io: [],
  stack: [],
  tun: ['io'],
  upstream: ['io', 'config/regular-file.ts'],
  dns: [],
  flow: [
    'dns/port.ts',
    'dns/wire.ts',
    'dns/answer.ts',
    'io',
    'resolver',
    'rules/sniff.ts',
    'type stack',
    'type tun/tun.ts',
    'type upstream/dialer.ts',
  ],
  resolver: ['dns', 'io', 'type upstream/dialer.ts'],
  rules: ['config'],
  plane: ['dns', 'io', 'resolver', 'stack', 'tun', 'upstream', 'flow', 'rules'],
  'gateway.ts': ['io', 'tun', 'plane', 'config', 'rules'],
  config: [],
  demo: ['upstream/socks5/socks5-codec.ts'],
  commands: ['config', 'demo', 'rules', 'upstream/transport/tls-options.ts', 'gateway.ts'],
  'cli.ts': ['commands', 'config', 'gateway.ts'],
  'tungate.cts': ['cli.ts'],
}

function roomOf(file: string): string {
  if (LEAVES.includes(file)) return 'leaf'
  if (file === 'config.ts') return 'config'
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file
}

/** Every static and dynamic import, and every re-export, of a file of the project. */
function arrowsOf(file: string, source: string): Arrow[] {
  const arrows: Arrow[] = []
  const pattern = /\b(?:(import|export)\s+(type\s)?(?:[^'"`;]*?\bfrom\s+)?|import\(\s*)(['"])(\.[^'"]+)\3/g
  for (const match of source.matchAll(pattern)) {
    const target = join(dirname(file), match[4]!)
    arrows.push({ file, target, isType: match[2] !== undefined })
  }
  return arrows
}

/** Why an arrow is wrong; undefined when it is right. */
function faultOf({ file, target, isType }: Arrow): string | undefined {
  const from = roomOf(file)
  const to = roomOf(target)
  const rules = ROOMS[from]
  if (rules === undefined) return `${file}: a room that the table does not know`
  if (target.startsWith('..')) return `${file} imports ${target}: outside of src`
  if (to === from || to === 'leaf') return undefined
  const places = [to, target]
  if (places.some(place => rules.includes(place))) return undefined
  if (isType && places.some(place => rules.includes(`type ${place}`))) return undefined
  return `${file} imports ${target}: ${from} may not import ${to}${isType ? '' : ' (or only its types)'}`
}

/** A way from a file back to itself. */
function cycleIn(arrows: readonly Arrow[]): string | undefined {
  const targets = new Map<string, string[]>()
  for (const { file, target } of arrows) targets.set(file, [...(targets.get(file) ?? []), target])
  const done = new Set<string>()
  const walk = (file: string, path: readonly string[]): string | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file].join(' → ')
    if (done.has(file)) return undefined
    for (const target of targets.get(file) ?? []) {
      const found = walk(target, [...path, file])
      if (found) return found
    }
    done.add(file)
    return undefined
  }
  for (const file of targets.keys()) {
    const found = walk(file, [])
    if (found) return found
  }
  return undefined
}

// dist/test/architecture.test.js → the sources
const root = fileURLToPath(new URL('../../src', import.meta.url))
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(file => /\.c?ts$/.test(file))
const sources = new Map(files.map(file => [relative('.', file), readFileSync(join(root, file), 'utf8')]))
const arrows = [...sources].flatMap(([file, source]) => arrowsOf(file, source))

test('architecture: every import follows the arrows', t => {
  t.true(arrows.length > 80, 'the import lines were found')
  t.deepEqual(arrows.map(faultOf).filter(Boolean), [])
})

test('architecture: every import names a file that is there, with its .ts', t => {
  const missing = arrows.filter(({ target }) => !sources.has(target))
  t.deepEqual(missing, [])
})

test('architecture: no file leads back to itself', t => {
  t.is(cycleIn(arrows), undefined)
})

test('architecture: no index.ts, and no file that only re-exports', t => {
  t.deepEqual(
    files.filter(file => /(^|\/)index\.ts$/.test(file)),
    [],
  )
  for (const [file, source] of sources) {
    const rest = source.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '').replace(/export\s[^;]*?from\s+'[^']+'/g, '')
    t.not(rest.trim(), '', `${file} is a barrel`)
  }
})

test('architecture: process.argv and process.env are read by tungate, cli, commands and config alone', t => {
  const readers = [...sources].filter(([, source]) => /process\.(argv|env)\b/.test(source)).map(([file]) => file)
  const allowed = (file: string) => ['tungate.cts', 'cli.ts', 'config', 'commands', 'demo'].includes(roomOf(file))
  t.deepEqual(
    readers.filter(file => !allowed(file)),
    [],
  )
})

const wrong: readonly [file: string, line: string][] = [
  ['endpoint.ts', "import { Stack } from './stack/stack.ts'"],
  ['stack/stack.ts', "import type { Tun } from '../tun/tun.ts'"],
  ['tun/linux.ts', "import { Stack } from '../stack/stack.ts'"],
  ['upstream/proxy/proxy-dialer.ts', "import { DataPlane } from '../../flow/data-plane.ts'"],
  ['upstream/proxy/proxy-dialer.ts', "import type { Stack } from '../../stack/stack.ts'"],
  ['io/socket.ts', "import type { Dialer } from '../upstream/dialer.ts'"],
  ['flow/tcp-flow.ts', "import { Stack } from '../stack/stack.ts'"],
  ['flow/tcp-flow.ts', "import { ProxyDialer } from '../upstream/proxy/proxy-dialer.ts'"],
  ['flow/data-plane.ts', "import { LinuxTun } from '../tun/linux.ts'"],
  ['flow/data-plane.ts', "const more = await import('../gateway.ts')"],
  ['gateway.ts', "import { run } from './commands/run.ts'"],
  ['gateway.ts', "import { DataPlane } from './flow/data-plane.ts'"],
  ['plane/plane-worker.ts', "import { createGateway } from '../gateway.ts'"],
  ['config/file.ts', "export { createGateway } from '../gateway.ts'"],
  ['demo/udp-echo.ts', "import { addon } from '../io/addon.ts'"],
  ['commands/run.ts', "import { DataPlane } from '../flow/data-plane.ts'"],
  ['cli.ts', "import { Stack } from './stack/stack.ts'"],
  ['tungate.cts', "const gateway = await import('./gateway.ts')"],
  ['new-room/file.ts', "import { x } from '../endpoint.ts'"],
  ['status.ts', "import manifest from '../package.ts'"],
]

test('architecture: a wrong arrow is seen', t => {
  for (const [file, line] of wrong) {
    const found = arrowsOf(file, line)
    t.is(found.length, 1, line)
    t.truthy(faultOf(found[0]!), `${file}: ${line}`)
  }
  const multiline = "import {\n  type A,\n  b,\n} from '../stack/stack.ts'"
  t.truthy(faultOf(arrowsOf('flow/tcp-flow.ts', multiline)[0]!))
})

test('architecture: a right arrow is let pass', t => {
  for (const [file, line] of [
    ['flow/tcp-flow.ts', "import type { Stack } from '../stack/stack.ts'"],
    ['flow/tcp-flow.ts', "import { addon } from '../io/addon.ts'"],
    ['tun/linux.ts', "import { SystemError } from '../errors.ts'"],
  ] as const)
    t.is(faultOf(arrowsOf(file, line)[0]!), undefined)
})

test('architecture: a circle is seen', t => {
  const circle = [
    ['a.ts', 'b.ts'],
    ['b.ts', 'c.ts'],
    ['c.ts', 'b.ts'],
  ].map(([file, target]) => ({ file: file!, target: target!, isType: false }))
  t.is(cycleIn(circle), 'b.ts → c.ts → b.ts')
})
