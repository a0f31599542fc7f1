/** Runs measure.ts in a process of its own, with V8 as still as it can be made, and the counter of system calls in front. */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Counts } from './probe.ts'
import { compilerVersion } from './wasm-meter.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const source = path('../../../test/cost/system-calls.c')
const wasm = path('../../../wasm/lwip.wasm')
const lock = path('../../../wasm/lwip.lock')
const program = path('measure.js')

/** Nothing is optimised away, nothing happens in another thread, and no collection comes within a round. */
const V8 = [
  '--expose-gc',
  '--no-opt',
  '--no-maglev',
  '--single-threaded',
  '--no-lazy-feedback-allocation',
  '--no-flush-bytecode',
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
]
/** As many as system-calls.c has. */
const ROWS_BYTES = 64 * 32
const TIMEOUT_MS = 240_000

/** What costs depend on beside our own code. */
export interface Made {
  /** Major version of the compiler of wasm/lwip.wasm. */
  readonly clang: string
  /** Major version. */
  readonly node: string
  readonly lwip: string
}

export interface Measured {
  readonly made: Made
  readonly operations: Readonly<Record<string, Counts>>
}

export async function measure(): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), 'cost-'))
  try {
    const library = join(folder, 'system-calls.so')
    const rows = join(folder, 'rows')
    const flags = ['-O2', '-fPIC', '-shared', '-Wall', '-Wextra', '-Werror', source, '-o', library]
    execFileSync(process.env.CC ?? 'cc', flags, { stdio: ['ignore', 'inherit', 'inherit'] })
    writeFileSync(rows, new Uint8Array(ROWS_BYTES))
    const output = await run({ LD_PRELOAD: library, COST_SYSTEM_CALLS: rows })
    return { made: describeMade(), operations: JSON.parse(output) as Record<string, Counts> }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function describeMade(): Made {
  const major = (version: string) => version.split('.')[0]!
  const lwip = /^version\s+([^+\s]+)/m.exec(readFileSync(lock, 'utf8'))![1]!
  return { clang: major(compilerVersion(readFileSync(wasm))), node: major(process.versions.node), lwip }
}

/** What it printed. Rejects when it failed, or took too long. */
function run(environment: Record<string, string>): Promise<string> {
  // what others set for Node (coverage, loaders) would be measured with us
  const { NODE_OPTIONS: _options, NODE_V8_COVERAGE: _coverage, ...rest } = process.env
  const child = spawn(process.execPath, [...V8, program], {
    env: { ...rest, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  })
  return new Promise((resolve, reject) => {
    let output = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      output += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      errors += text
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve(output)
      else reject(new Error(`the measured process ended with ${signal ?? `exit code ${code}`}\n${errors}`))
    })
  })
}
