/** A folder of a server's own for its configuration, keys and passwords, which goes when it ends. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Place, type RealServer, startProgram } from '../servers.ts'

export interface Folder {
  /** Writes a file that only its owner may read; its path. */
  write(name: string, content: string): Promise<string>
  /** The path of a file in it. */
  path(name: string): string
  remove(): Promise<void>
}

export async function makeFolder(prefix: string): Promise<Folder> {
  const folder = await mkdtemp(join(tmpdir(), `${prefix}-`))
  const path = (name: string) => join(folder, name)
  return {
    path,
    write: async (name, content) => {
      await writeFile(path(name), content, { mode: 0o600 })
      return path(name)
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

/** As startProgram; the folder goes with the program, also when it does not start. */
export async function startWithFolder(
  folder: Folder,
  place: Place,
  port: number,
  program: string,
  args: readonly string[],
): Promise<RealServer> {
  return startProgram(place, port, program, args, () => folder.remove())
}
