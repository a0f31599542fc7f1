/**
 * What the gateway costs, counted and not timed. `installProbe` must have run before the stack is imported: it meters
 * the module as it is compiled, and puts itself between the addon and the poller. Clock and timers stand still unless
 * the script moves them, so a run is the same each time.
 */

import { readFileSync } from 'node:fs'
import { type Profiler, Session } from 'node:inspector'
import { createRequire, syncBuiltinESMExports } from 'node:module'
import { getHeapStatistics } from 'node:v8'
import { type Addon, addon, type Io } from '../../src/io/addon.ts'
import { countTokens, type TokenCounter } from './tokens.ts'
import { METER, meterModule } from './wasm-meter.ts'

/** Counts by name: `wasm instructions`, `call readv`, … */
export type Counts = Record<string, number>

export interface Probe {
  /** All counts since the process began, but for JavaScript: since the call before. */
  read(): Counts
  /** Heap that is used in `section` counts; what the test itself uses does not. */
  metered<Result>(section: () => Result): Result
  /** `ms` later: calls every interval once, and what is due. */
  advance(ms: number): void
}

const SOURCE = /\/dist\/src\/(?!demo\/)/

let heapBytes = 0
let wasmCalls = 0
let meters: (() => { instructions: number; bytes: number }) | undefined

export function installProbe(systemCallsFile: string): Probe {
  const clock = stopTime()
  stopChance()
  meterWebAssembly()
  meterWakeUps()
  const javaScript = meterJavaScript()
  const read = (): Counts => {
    const counts: Counts = { ...javaScript(), 'heap bytes': heapBytes, 'wasm calls': wasmCalls }
    const wasm = meters?.() ?? { instructions: 0, bytes: 0 }
    counts['wasm instructions'] = wasm.instructions
    counts['wasm bytes moved'] = wasm.bytes
    Object.assign(counts, readSystemCalls(systemCallsFile))
    calibrate()
    return counts
  }
  return { read, metered, advance: clock }
}

// ---- time ----

/** A timer of Node, as far as its owner asks for more than its end. */
class Timer {
  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

function stopTime(): (ms: number) => void {
  const intervals = new Map<Timer, () => void>()
  const timeouts = new Map<Timer, { due: number; run: () => void }>()
  let now = 1_000
  performance.now = () => now
  const immediate = globalThis.setImmediate
  Object.assign(globalThis, {
    setInterval: (run: () => void) => kept(intervals, run),
    clearInterval: (timer: Timer) => void intervals.delete(timer),
    setTimeout: (run: () => void, ms = 0) => kept(timeouts, { due: now + ms, run }),
    clearTimeout: (timer: Timer) => void timeouts.delete(timer),
    setImmediate: Object.assign((run: () => void) => immediate(() => metered(run)), immediate),
  })
  return ms => {
    now += ms
    for (const run of [...intervals.values()]) metered(run)
    for (const [timer, { due, run }] of timeouts) {
      if (due > now) continue
      timeouts.delete(timer)
      metered(run)
    }
  }
}

function kept<Value>(timers: Map<Timer, Value>, value: Value): Timer {
  const timer = new Timer()
  timers.set(timer, value)
  return timer
}

/** Keys of hashes and first sequence numbers are the same each time. */
function stopChance(): void {
  const crypto = createRequire(import.meta.url)('node:crypto') as { randomFillSync: unknown }
  crypto.randomFillSync = (bytes: Uint8Array, offset = 0, size = bytes.length - offset) =>
    bytes.fill(7, offset, offset + size)
  syncBuiltinESMExports()
}

// ---- heap ----

let isMetering = false
/** What asking costs. */
let asking = 0

function metered<Result>(section: () => Result): Result {
  if (isMetering) return section()
  isMetering = true
  const before = getHeapStatistics().used_heap_size
  try {
    return section()
  } finally {
    heapBytes += getHeapStatistics().used_heap_size - before - asking
    isMetering = false
  }
}

/** An empty section: the heap that it seems to use. */
function calibrate(): void {
  const counted = heapBytes
  asking = 0
  metered(nothing)
  asking = heapBytes - counted
  heapBytes = counted
}

function nothing(): void {}

function meterWakeUps(): void {
  addon.Io = new Proxy(addon.Io, {
    construct(Real, [memory, ready, onReady]: ConstructorParameters<Addon['Io']>): Io {
      return new Real(memory, ready, count => metered(() => onReady(count)))
    },
  })
}

// ---- WebAssembly ----

type Call = (...args: number[]) => number
interface Real {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object, imports: object) => { exports: Record<string, Call | { value: bigint }> }
}

function meterWebAssembly(): void {
  const real = (globalThis as unknown as { WebAssembly: Real }).WebAssembly
  const { Module, Instance } = real
  real.Module = class extends Module {
    constructor(bytes: Uint8Array) {
      super(meterModule(bytes))
    }
  }
  real.Instance = class {
    readonly exports: Record<string, unknown>
    constructor(module: object, imports: object) {
      const { exports } = new Instance(module, imports)
      const global = (name: string) => exports[name] as { value: bigint }
      meters = () => ({
        instructions: Number(global(METER.instructions).value),
        bytes: Number(global(METER.bytes).value),
      })
      this.exports = Object.fromEntries(Object.entries(exports).map(([name, one]) => [name, counted(one)]))
    }
  } as unknown as Real['Instance']
}

/** Without a rest parameter, which would be heap. */
function counted(exported: unknown): unknown {
  if (typeof exported !== 'function') return exported
  const call = exported as Call
  return (a: number, b: number, c: number, d: number, e: number, f: number) => {
    wasmCalls++
    return call(a, b, c, d, e, f)
  }
}

// ---- JavaScript ----

/** Calls of functions, and tokens of their source that were executed, since the call before. */
function meterJavaScript(): () => Counts {
  const session = new Session()
  session.connect()
  session.post('Profiler.enable')
  session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  const sources = new Map<string, TokenCounter>()
  return () => {
    let found: Profiler.ScriptCoverage[] = []
    session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error
      found = result
    })
    const counts: Counts = { 'js calls': 0, 'js tokens': 0 }
    for (const { url, functions } of found) {
      if (!SOURCE.test(url)) continue
      const tokens = sources.get(url) ?? countTokens(readFileSync(new URL(url), 'utf8'))
      sources.set(url, tokens)
      for (const one of functions) addFunction(counts, one, functions, tokens)
    }
    return counts
  }
}

/**
 * Ranges are nested, each inside of the last one before it that has not ended: the innermost one counts. A function in
 * another is a range of it that is not executed with it; so are the methods in the function that sets a class's fields,
 * whose range is all of the class.
 */
function addFunction(
  counts: Counts,
  one: Profiler.FunctionCoverage,
  all: readonly Profiler.FunctionCoverage[],
  tokens: TokenCounter,
): void {
  const whole = one.ranges[0]!
  if (whole.count === 0) return
  counts['js calls']! += whole.count
  const isInside = ({ startOffset, endOffset }: Profiler.CoverageRange) =>
    startOffset >= whole.startOffset && endOffset <= whole.endOffset
  const inner = all
    .filter(other => other !== one && isInside(other.ranges[0]!))
    .map(({ ranges }) => ({ ...ranges[0]!, count: 0 }))
  const ranges = [...one.ranges, ...inner].sort((a, b) => a.startOffset - b.startOffset || b.endOffset - a.endOffset)
  const around: Profiler.CoverageRange[] = []
  for (const range of ranges) {
    while (around.length > 0 && around.at(-1)!.endOffset <= range.startOffset) around.pop()
    const outer = around.at(-1)?.count ?? 0
    counts['js tokens']! += (range.count - outer) * tokens(range.startOffset, range.endOffset)
    around.push(range)
  }
}

// ---- system calls ----

const ROW_BYTES = 32
const NAME_BYTES = 24

/** The rows of system-calls.c. */
function readSystemCalls(file: string): Counts {
  const rows = readFileSync(file)
  const counts: Counts = {}
  for (let at = 0; rows[at] !== 0 && at < rows.length; at += ROW_BYTES) {
    const name = rows.toString('latin1', at, rows.indexOf(0, at))
    counts[`call ${name}`] = Number(rows.readBigUInt64LE(at + NAME_BYTES))
  }
  return counts
}
