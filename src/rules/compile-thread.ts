/**
 * Rules compiled in a thread of their own: long lists take some hundred milliseconds, for which a reload must not hold up the
 * data path. The tables are in shared memory, so nothing is copied when they come.
 */
import { Worker } from 'node:worker_threads'
import { ConfigError, GatewayError } from '../errors.ts'
import type { CompiledRules, CompileOptions } from './compile.ts'
import type { CompileJob, CompileResult } from './compile-worker.ts'

// As seen from here, and from the bundle beside this folder.
const WORKER_ENTRY = new URL('../rules/compile-worker.js', import.meta.url)

/**
 * As compileText, or compileRaws. Rejects with ConfigError for the first mistake, with GatewayError when the thread fails (out of memory), and
 * with the signal's reason when it is aborted. The thread is gone when the promise is settled.
 */
export async function compileApart(
  rules: CompileJob['rules'],
  options: CompileOptions,
  signal?: AbortSignal,
): Promise<CompiledRules> {
  signal?.throwIfAborted()
  const workerData: CompileJob = { rules, options }
  const worker = new Worker(WORKER_ENTRY, { workerData, execArgv: [] })
  let abort = () => {}
  try {
    const result = await new Promise<CompileResult>((resolve, reject) => {
      abort = () => reject(signal?.reason)
      signal?.addEventListener('abort', abort)
      const failed = (cause: unknown) =>
        reject(new GatewayError('INTERNAL', 'the thread that compiles rules failed', { cause }))
      worker.on('message', resolve)
      worker.on('error', failed)
      worker.on('exit', failed)
    })
    if ('fault' in result) throw new ConfigError('CONFIG_FILE', result.fault)
    return result.rules
  } finally {
    signal?.removeEventListener('abort', abort)
    await worker.terminate()
  }
}
