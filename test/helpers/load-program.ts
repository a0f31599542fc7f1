import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const source = join(root, 'bench/load')
const madeMs = (file: string) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

/** The path of bench/load's program, compiled when its source is newer: tens of thousands of connections a process. */
export function loadProgram(): string {
  const program = join(root, 'build/load')
  const files = readdirSync(source).map(file => join(source, file))
  if (files.every(file => madeMs(file) < madeMs(program))) return program
  mkdirSync(join(root, 'build'), { recursive: true })
  const part = `${program}.${process.pid}`
  const paths = files.filter(file => file.endsWith('.c'))
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-pthread', '-D_GNU_SOURCE', '-o', part, ...paths])
  renameSync(part, program)
  return program
}
