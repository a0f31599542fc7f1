/** A thread's entry: compiles rules once, says what came of it, and ends. */
import { parentPort, workerData } from 'node:worker_threads'
import { ConfigError } from '../errors.ts'
import { type CompiledRules, type CompileOptions, compileText } from './compile.ts'

export interface CompileJob {
  readonly text: string
  readonly options: CompileOptions
}

/** `fault`: the message of a ConfigError. */
export type CompileResult = { readonly rules: CompiledRules } | { readonly fault: string }

function result({ text, options }: CompileJob): CompileResult {
  try {
    return { rules: compileText(text, options) }
  } catch (error) {
    if (error instanceof ConfigError) return { fault: error.message }
    throw error
  }
}

parentPort!.postMessage(result(workerData as CompileJob))
