/** Where in a value that has parts: the line in its file (1 for the first, 0 where there are none) and what follows the key. */
export interface Place {
  readonly line: number
  readonly within: string
}

/** A value that a format refuses. `found` and `allowed` are texts for the user and hold no secret. */
export class FormatError extends Error {
  readonly found: string
  readonly allowed: string
  readonly place: Place | undefined

  constructor(found: string, allowed: string, place?: Place) {
    super(`found ${found}, allowed ${allowed}`)
    this.name = 'FormatError'
    this.found = found
    this.allowed = allowed
    this.place = place
  }
}

/** The same error, told of a part of the value; a place that is known already stays behind it. */
export function atPlace<T>({ line, within }: Place, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    const inner = error.place ?? { line: 0, within: '' }
    throw new FormatError(error.found, error.allowed, { line: inner.line || line, within: within + inner.within })
  }
}
