#!/usr/bin/env node
/**
 * The command. It runs src/cli.ts as setup/bundle.mjs has made it: one script with all that a gateway needs, and beside it
 * what V8 compiled of it in a trial run. That, and no ES module loader, is three quarters of the start.
 *
 * A cache is taken only by the version of Node that made it; any other compiles the script, and all is the same but for 40 ms.
 * V8 looks at lengths and versions alone, and ends the process over a wrong byte. So the file has the code twice and the script
 * that it is of (setup/record-code.cjs): comparing them takes a fifth of a millisecond, a sum in this language eight.
 */
const { readFileSync } = require('node:fs') as typeof import('node:fs')
const { pathToFileURL } = require('node:url') as typeof import('node:url')
const { Script } = require('node:vm') as typeof import('node:vm')

type Wrapper = (exports: object, require: (name: string) => unknown, moduleUrl: string) => void

const wrappers = new Map<string, Wrapper>()
const modules = new Map<string, object>()
const moduleUrl = pathToFileURL(`${__dirname}/bundle/cli.cjs`).href

/** A script of the bundle is functions by the names of modules. */
function load(name: string): void {
  const file = `${__dirname}/bundle/${name}`
  const source = readFileSync(file)
  const cache = file.replace(/\.cjs$/, `-${process.version}-${process.arch}.cache`)
  const cachedData = readCache(cache, source)
  // ASCII, which setup/bundle.mjs has made sure of.
  const script = new Script(source.toString('latin1'), {
    filename: file,
    ...(cachedData === undefined ? {} : { cachedData }),
  })
  for (const [name, wrapper] of Object.entries(script.runInThisContext() as Record<string, Wrapper>))
    wrappers.set(name, wrapper)
}

/** A module of the bundle begins with `./`; it is loaded when it is first asked for. */
function requireModule(name: string): unknown {
  if (!name.startsWith('./')) return require(name)
  const known = modules.get(name)
  if (known !== undefined) return known
  if (!wrappers.has(name)) load(name)
  const module = { exports: {} }
  wrappers.get(name)!(module, requireModule, moduleUrl)
  const { exports: made } = module
  // Values in place of getters: modules that import each other are one here.
  const exports = '__esModule' in made ? Object.defineProperty({ ...made }, '__esModule', { value: true }) : made
  modules.set(name, exports)
  return exports
}

function readCache(file: string, source: Buffer): Buffer | undefined {
  try {
    const bytes = readFileSync(file)
    const length = (bytes.length - source.length) / 2
    const code = bytes.subarray(0, length)
    const isWhole = code.equals(bytes.subarray(length, 2 * length)) && bytes.subarray(2 * length).equals(source)
    return isWhole ? code : undefined
  } catch {
    return undefined
  }
}

// The demo starts programs that lie beside it; half a second more of start is none.
if (process.argv[2] === 'demo') void import('./cli.ts')
else {
  load('cli.cjs')
  requireModule('./cli.cjs')
}
