/**
 * Which resolver is asked for a name: that of the longest suffix, of whole labels, that the name ends with. Found in as many
 * look-ups as the longest suffix has labels, however many suffixes there are.
 */
export class SuffixTable<T> {
  readonly #bySuffix = new Map<string, T>()
  #maxLabels = 0

  /** `cluster.local`, also with dots around it; `.` or '' for all names. Upper and lower case are the same. */
  set(suffix: string, value: T): void {
    const normal = normalise(suffix)
    this.#bySuffix.set(normal, value)
    this.#maxLabels = Math.max(this.#maxLabels, normal === '' ? 0 : normal.split('.').length)
  }

  get size(): number {
    return this.#bySuffix.size
  }

  /** `name` in lower case and without a dot at its end, as `nameOf` gives it; undefined when no suffix fits. */
  find(name: string): T | undefined {
    let at = name === '' ? MISSING : this.#longestSuffixAt(name)
    while (at !== MISSING) {
      const found = this.#bySuffix.get(name.slice(at))
      if (found !== undefined) return found
      const dot = name.indexOf('.', at)
      at = dot === MISSING ? MISSING : dot + 1
    }
    return this.#bySuffix.get('')
  }

  /** Where the last `#maxLabels` labels begin. */
  #longestSuffixAt(name: string): number {
    let at = name.length
    for (let labels = 0; labels < this.#maxLabels && at > 0; labels++) {
      const dot = name.lastIndexOf('.', at - 1)
      if (dot === MISSING) return 0
      at = dot
    }
    return at + 1
  }
}

/** What indexOf says. */
const MISSING = -1

function normalise(suffix: string): string {
  return suffix.replace(/^\.+|\.+$/g, '').toLowerCase()
}
