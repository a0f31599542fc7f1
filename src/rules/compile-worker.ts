/** A thread's entry: compiles rules once, says what came of it, and ends. */

import { parentPort, workerData } from 'node:worker_threads'
import { ConfigError } from '../errors.ts'
import { type CompiledRules, type CompileOptions, compileRaws, compileText } from './compile.ts'
import type { RawRule } from './raw-rule.ts'

export interface CompileJob {
  /** The text of a file, or what was read of it already. */
  readonly rules: string | readonly RawRule[]
  readonly options: CompileOptions
}

/** `fault`: the message of a ConfigError. */
export type CompileResult = { readonly rules: CompiledRules } | { readonly fault: string }

function result({ rules, options }: CompileJob): CompileResult {
  try {
    return { rules: typeof rules === 'string' ? compileText(rules, options) : compileRaws(rules, options) }
  } catch (error) {
    if (error instanceof ConfigError) return { fault: error.message }
    throw error
  }
}

parentPort!.postMessage(result(workerData as CompileJob))
