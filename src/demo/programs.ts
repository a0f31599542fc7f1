/** The programs that the demo starts, and the Debian packages that they come from. */
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

const PACKAGES: Readonly<Record<string, string>> = {
  curl: 'curl',
  ip: 'iproute2',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  mount: 'mount',
  getent: 'libc-bin',
}

/** `further`: folders to look into beside those of PATH. */
export function isOnPath(program: string, further: readonly string[] = []): boolean {
  const folders = [...(process.env.PATH ?? '').split(':'), ...further]
  return folders.some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

export interface Missing {
  readonly programs: readonly string[]
  readonly packages: readonly string[]
}

/** undefined: all are there. */
export function missingPrograms(): Missing | undefined {
  const programs = Object.keys(PACKAGES).filter(program => !isOnPath(program))
  if (programs.length === 0) return undefined
  return { programs, packages: [...new Set(programs.map(program => PACKAGES[program]!))] }
}
