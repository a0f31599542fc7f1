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

/** What is loaded when it is first used: scripts of their own beside cli.cjs. */
const PARTS = new Map<string, unknown>([
  ['winston', undefined],
  ['yaml', undefined],
])

function load(name: string): unknown {
  const file = `${__dirname}/bundle/${name}.cjs`
  const source = readFileSync(file)
  const cachedData = readCache(`${__dirname}/bundle/${name}-${process.version}-${process.arch}.cache`, source)
  // ASCII, which setup/bundle.mjs has made sure of.
  const script = new Script(source.toString('latin1'), {
    filename: file,
    ...(cachedData === undefined ? {} : { cachedData }),
  })
  const module = { exports: {} }
  const wrapper = script.runInThisContext() as Wrapper
  wrapper.call(module, module, requirePart, pathToFileURL(file).href)
  return module.exports
}

function requirePart(name: string): unknown {
  if (!PARTS.has(name)) return require(name)
  const part = PARTS.get(name) ?? load(name)
  PARTS.set(name, part)
  return part
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
else load('cli')
