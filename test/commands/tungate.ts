/** The real command in a process of its own, with an environment that holds nothing of tungate's but what is given. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseFlags } from '../../src/config/flags.ts'
import { loadConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import { commandFile } from '../helpers/command-file.ts'

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  readonly elapsedMs: number
}

export function tungate(
  args: readonly string[],
  environment: Record<string, string> = {},
  prefix: readonly string[] = [],
): Promise<Ended> {
  const [program, ...words] = [...prefix, process.execPath, commandFile, ...args] as [string, ...string[]]
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const child = spawn(program, words, {
      env: { PATH: process.env.PATH, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code, stdout, stderr, elapsedMs: performance.now() - startedAt }))
  })
}

/** A folder that goes away with the test, also when it fails. */
export function temporaryFolder(t: { teardown(fn: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Loads as `tungate run` does; the message of the error. */
export function refusal(
  t: { fail(message: string): never },
  args: string[],
  environment: Record<string, string> = {},
): string {
  try {
    const flags = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
    const file = flags.file === undefined ? {} : { file: flags.file }
    loadConfig({ environment, flags: flags.flags, uid: 0, requireProxy: true, ...file })
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return t.fail('the configuration was taken')
}
