/**
 * src/cli.ts and what it imports → dist/src/bundle/*.cjs for src/tungate.cts: cli.cjs with all that a plain gateway needs at its
 * start, and a script for each part that is loaded when it is needed; the licenses of what is in them; and caches of V8's code. Those
 * of our own parts have all of their code, for no trial run reaches what serves the first connection. Of the packages little is used,
 * so theirs are made by trial runs that touch nothing: `run` is given a descriptor that is no tun.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, transform } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join(root, 'dist/src/bundle')
const require = createRequire(import.meta.url)

/** What a plain gateway imports until it serves. */
const AT_START = ['src/cli.ts', 'src/config.ts', 'src/commands/run.ts', 'src/gateway.ts']

/** Loaded not where they are imported but where the first of their names is used: of Node, packages, and parts of our own. */
const LATER = [
  'node:crypto',
  'node:dns/promises',
  'node:fs/promises',
  'node:net',
  'node:stream',
  'node:tls',
  'node:v8',
  'node:zlib',
]
const PACKAGES = ['convict', 'yaml']
const PARTS = [
  'src/config/file.ts',
  'src/flow/first-look.ts',
  'src/log-terminal.ts',
  'src/plane/name-keeper.ts',
  'src/plane/names-service.ts',
  'src/rules/matcher.ts',
  'src/upstream/datagrams/stream-association.ts',
  'src/upstream/datagrams/through-association.ts',
  'src/upstream/direct/direct-dialer.ts',
  'src/upstream/group/group-dialer.ts',
  'src/upstream/group/group-state.ts',
  'src/upstream/http/http-protocol.ts',
  'src/upstream/socks4/socks4-protocol.ts',
  'src/upstream/http/http-authentication.ts',
  'src/upstream/transport/tls-dial.ts',
  'src/upstream/transport/tls-options.ts',
  'src/upstream/transport/transport-chain.ts',
  'src/upstream/transport/transport-tls.ts',
  'src/upstream/transport/transport-unix.ts',
]
const scriptOf = path => `./${basename(path, '.ts')}.cjs`

const later = {
  name: 'later',
  setup(bundler) {
    const onImport = (args, path, from) => {
      if (args.namespace === 'later' || args.kind === 'dynamic-import') return { path: from, external: true }
      return args.kind === 'import-statement' || args.kind === 'require-call' ? { path, namespace: 'later', pluginData: from } : undefined
    }
    bundler.onResolve({ filter: new RegExp(`^(${LATER.join('|')})$`) }, args => onImport(args, args.path, args.path))
    bundler.onResolve({ filter: new RegExp(`^(${PACKAGES.join('|')})$`) }, args => onImport(args, args.path, `./${args.path}.cjs`))
    bundler.onResolve({ filter: /^\..*\.ts$/ }, args => {
      const path = relative(root, join(args.resolveDir, args.path))
      return PARTS.includes(path) ? onImport(args, path, scriptOf(path)) : undefined
    })
    bundler.onResolve({ filter: /^\.\/[^/]*\.cjs$/ }, ({ path, namespace }) =>
      namespace === 'later' ? { path, external: true } : undefined,
    )
    // It has no names of its own, so that none are copied when it is imported: hundreds of getters would be made, for two of them.
    bundler.onLoad({ filter: /./, namespace: 'later' }, ({ pluginData }) => ({
      contents: `const load = () => require(${JSON.stringify(pluginData)})
        const get = (_, name) => name === '__esModule' ? undefined : load()[name]
        const apply = (_, self, values) => Reflect.apply(load(), self, values)
        const prototype = new Proxy({}, { get })
        module.exports = new Proxy(() => {}, { get, apply, ownKeys: () => [], getPrototypeOf: () => prototype })`,
    }))
  },
}

const SHARED = {
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  // Names stay, for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  absWorkingDir: root,
  // In production winston's own diagnostics need no colours.
  define: { 'import.meta.url': 'moduleUrl', 'process.env.NODE_ENV': '"production"' },
}

/** A function for each script, as src/tungate.cts calls it. */
const wrapped = (name, code) => `"${name}":function(module,require,moduleUrl){var exports=module.exports;${code}}`
const writeScripts = (file, scripts) => writeFileSync(file, `({${scripts.join(',\n')}})`)

async function bundleCli() {
  const result = await build({
    ...SHARED,
    format: 'esm',
    splitting: true,
    entryPoints: Object.fromEntries(['src/cli.ts', ...PARTS].map(path => [basename(path, '.ts'), path])),
    outdir: folder,
    outExtension: { '.js': '.cjs' },
    chunkNames: '[name].[hash]',
    external: ['./commands/demo.ts'],
    plugins: [later],
    write: false,
  })
  const { outputs } = result.metafile
  const atStart = new Set()
  const addWithImports = path => {
    if (atStart.has(path) || outputs[path] === undefined) return
    atStart.add(path)
    for (const { path: imported, kind } of outputs[path].imports) if (kind === 'import-statement') addWithImports(imported)
  }
  for (const [path, { entryPoint }] of Object.entries(outputs)) if (AT_START.includes(entryPoint)) addWithImports(path)
  const start = []
  for (const { path, text } of result.outputFiles) {
    const { code } = await transform(text, {
      format: 'cjs',
      platform: 'node',
      target: SHARED.target,
      supported: { 'dynamic-import': false },
      minifyWhitespace: true,
      minifySyntax: true,
    })
    const script = wrapped(`./${basename(path)}`, code)
    if (atStart.has(relative(root, path))) start.push(script)
    else writeScripts(path, [script])
  }
  writeScripts(join(folder, 'cli.cjs'), start)
  return result
}

async function bundlePackage(name) {
  const result = await build({ ...SHARED, format: 'cjs', entryPoints: [require.resolve(name)], write: false, outfile: `${name}.cjs` })
  writeScripts(join(folder, `${name}.cjs`), [wrapped(`./${name}.cjs`, result.outputFiles[0].text)])
  return result
}

/** A thread of `workers`: as one file, so that it opens no hundred at once. */
function bundleWorker() {
  return build({
    ...SHARED,
    define: {},
    format: 'esm',
    packages: 'external',
    entryPoints: ['src/plane/plane-worker.ts'],
    outfile: join(folder, 'plane-worker.mjs'),
  })
}

/** The licenses ask for it: their texts, for each package of which something is in a bundle. */
function writeNotice(results) {
  const inputs = results.flatMap(({ metafile }) => Object.keys(metafile.inputs))
  const packages = new Set(inputs.map(input => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]).filter(Boolean))
  const parts = [...packages].sort().map(path => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'))
    const file = readdirSync(join(root, path)).find(each => /^licen[cs]e/i.test(each))
    const text = file === undefined ? `License: ${license}\n` : readFileSync(join(root, path, file), 'utf8')
    return `${name} ${version}\n\n${text.trim()}\n`
  })
  writeFileSync(join(folder, 'NOTICE'), `In these files are parts of:\n\n${parts.join(`\n${'-'.repeat(80)}\n\n`)}`)
}

/** Each run adds what it has compiled to the caches that it was given. */
function makeCaches() {
  const place = mkdtempSync(join(tmpdir(), 'tungate-bundle-'))
  const proxy = '--proxy=socks5://me:secret@127.0.0.1:9'
  const runs = [
    [1, 'run', proxy, '--tun-fd=3', `--status-socket=${place}/status.sock`],
    [0, 'config', 'check', proxy, '--config=config/default.yaml'],
  ]
  try {
    for (const [code, ...args] of runs) {
      const child = spawnNode('--require=./setup/record-code.cjs', 'dist/src/tungate.cjs', ...args)
      if (child.status !== code) throw new Error(`tungate ${args[0]} ended with ${child.status}: ${child.stderr}`)
    }
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

function spawnNode(...args) {
  const { PATH } = process.env
  const stdio = ['ignore', 'pipe', 'pipe', 'ignore']
  return spawnSync(process.execPath, args, { cwd: root, env: { PATH }, stdio, encoding: 'utf8', timeout: 30_000 })
}

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const results = await Promise.all([bundleCli(), bundleWorker(), ...PACKAGES.map(bundlePackage)])
for (const name of readdirSync(folder).filter(each => each.endsWith('.cjs'))) {
  const foreign = readFileSync(join(folder, name)).findIndex(byte => byte > 127)
  if (foreign >= 0) throw new Error(`${name}: byte ${foreign} is not ASCII`)
}
writeNotice(results)
makeCaches()
