/**
 * Tells when files have changed, however they are replaced: written in place, by a rename, or by a symbolic link that leads
 * elsewhere. The folders are watched, and what counts is that a file is another one then, or has other content.
 */
import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'

/** Editors and copies come in pieces: so long after the last of them. */
const SETTLE_MS = 200
/** Where they do not end. */
const MAX_SETTLE_MS = 2_000

export class FilesWatch {
  readonly #onChange: () => void
  /** Told once for each folder that cannot be watched. */
  readonly #onTrouble: (folder: string, reason: string) => void
  readonly #watchers = new Map<string, FSWatcher>()
  readonly #troubled = new Set<string>()
  #prints = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined
  #since = 0
  #closed = false

  constructor(onChange: () => void, onTrouble: (folder: string, reason: string) => void) {
    this.#onChange = onChange
    this.#onTrouble = onTrouble
  }

  /** They are about to be read: changes from now on count. */
  look(): void {
    this.#prints = new Map([...this.#prints.keys()].map(file => [file, printOf(file)]))
    this.#follow()
  }

  /** Absolute paths, in the place of those before. Of new ones, changes from now on count. */
  set(files: readonly string[]): void {
    this.#prints = new Map(files.map(file => [file, this.#prints.get(file) ?? printOf(file)]))
    this.#follow()
  }

  /** The folders that links lead to by now. */
  #follow(): void {
    if (this.#closed) return
    const files = [...this.#prints.keys()]
    const folders = new Set(files.flatMap(file => [dirname(file), dirname(realPath(file))]))
    for (const [folder, watcher] of this.#watchers) {
      if (folders.has(folder)) continue
      watcher.close()
      this.#watchers.delete(folder)
    }
    for (const folder of folders) if (!this.#watchers.has(folder)) this.#watch(folder)
  }

  #watch(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#onEvent())
      watcher.on('error', error => this.#tell(folder, error))
      this.#watchers.set(folder, watcher)
    } catch (error) {
      this.#tell(folder, error)
    }
  }

  #tell(folder: string, error: unknown): void {
    if (this.#troubled.has(folder)) return
    this.#troubled.add(folder)
    this.#onTrouble(folder, error instanceof Error ? error.message : String(error))
  }

  #onEvent(): void {
    const now = performance.now()
    if (this.#timer === undefined) this.#since = now
    else clearTimeout(this.#timer)
    const ms = Math.max(0, Math.min(SETTLE_MS, this.#since + MAX_SETTLE_MS - now))
    this.#timer = setTimeout(() => this.#settled(), ms)
  }

  #settled(): void {
    this.#timer = undefined
    const before = this.#prints
    this.look()
    if ([...this.#prints].some(([file, print]) => before.get(file) !== print)) this.#onChange()
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }
}

/** Of the file that a path leads to; '' when there is none. */
function printOf(file: string): string {
  try {
    const { dev, ino, size, mtimeNs } = statSync(file, { bigint: true })
    return `${dev}:${ino}:${size}:${mtimeNs}`
  } catch {
    return ''
  }
}

function realPath(file: string): string {
  try {
    return realpathSync(file)
  } catch {
    return file
  }
}
