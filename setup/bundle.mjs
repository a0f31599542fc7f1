/**
 * src/cli.ts and what it imports → dist/src/bundle/cli.cjs, winston.cjs, yaml.cjs for src/tungate.cts; the licenses of what is in
 * them; and caches of V8's code, made by trial runs that touch nothing: `run` is given a descriptor that is no tun.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join(root, 'dist/src/bundle')
const require = createRequire(import.meta.url)

/** Loaded not where they are imported but where the first of their names is used. */
const LAZY = [
  'node:crypto',
  'node:dns/promises',
  'node:fs/promises',
  'node:net',
  'node:stream',
  'node:tls',
  'node:v8',
  'node:zlib',
  'winston',
  'yaml',
]
const PARTS = ['winston', 'yaml']

const lazy = {
  name: 'lazy',
  setup(bundler) {
    const filter = new RegExp(`^(${LAZY.join('|')})$`)
    bundler.onResolve({ filter }, ({ path, namespace, kind }) =>
      namespace === 'lazy' || kind === 'dynamic-import' ? { path, external: true } : { path, namespace: 'lazy' },
    )
    bundler.onLoad({ filter, namespace: 'lazy' }, ({ path }) => ({
      contents: `for (const name of ${JSON.stringify(Object.keys(require(path)))})
        Object.defineProperty(exports, name, { enumerable: true, get: () => require(${JSON.stringify(path)})[name] })`,
    }))
  },
}

const SHARED = {
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  format: 'cjs',
  // Names stay, for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  absWorkingDir: root,
  banner: { js: '(function (module, require, moduleUrl) { var exports = module.exports;' },
  footer: { js: '})' },
}

function bundleCli() {
  return build({
    ...SHARED,
    entryPoints: ['src/cli.ts'],
    outfile: join(folder, 'cli.cjs'),
    define: { 'import.meta.url': 'moduleUrl' },
    supported: { 'dynamic-import': false },
    external: ['./commands/demo.ts'],
    plugins: [lazy],
  })
}

/** A thread of `workers`: as one file, so that it opens no hundred at once. */
function bundleWorker() {
  return build({
    ...SHARED,
    format: 'esm',
    banner: {},
    footer: {},
    packages: 'external',
    entryPoints: ['src/plane/plane-worker.ts'],
    outfile: join(folder, 'plane-worker.mjs'),
  })
}

/** In production winston's own diagnostics need no colours. */
function bundlePart(name) {
  return build({
    ...SHARED,
    entryPoints: [require.resolve(name)],
    outfile: join(folder, `${name}.cjs`),
    define: { 'process.env.NODE_ENV': '"production"' },
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

/** Each run adds what it has compiled to the cache that it was given. */
function makeCaches() {
  const place = mkdtempSync(join(tmpdir(), 'tungate-bundle-'))
  const proxy = '--proxy=socks5://me:secret@127.0.0.1:9'
  const runs = [
    [1, 'run', proxy, '--tun-fd=3', `--status-socket=${place}/status.sock`],
    [0, 'config', 'check', proxy, '--config=config/default.yaml'],
  ]
  try {
    for (const [code, ...args] of runs) {
      const { PATH } = process.env
      const child = spawnSync(process.execPath, ['--require=./setup/record-code.cjs', 'dist/src/tungate.cjs', ...args], {
        cwd: root,
        env: { PATH },
        stdio: ['ignore', 'pipe', 'pipe', 'ignore'],
        encoding: 'utf8',
        timeout: 30_000,
      })
      if (child.status !== code) throw new Error(`tungate ${args[0]} ended with ${child.status}: ${child.stderr}`)
    }
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const results = await Promise.all([bundleCli(), bundleWorker(), ...PARTS.map(bundlePart)])
for (const name of ['cli', ...PARTS]) {
  const foreign = readFileSync(join(folder, `${name}.cjs`)).findIndex(byte => byte > 127)
  if (foreign >= 0) throw new Error(`${name}.cjs: byte ${foreign} is not ASCII`)
}
writeNotice(results)
makeCaches()
