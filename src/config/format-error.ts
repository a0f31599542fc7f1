/** A value that a format refuses. `found` and `allowed` are texts for the user and hold no secret. */
export class FormatError extends Error {
  readonly found: string
  readonly allowed: string

  constructor(found: string, allowed: string) {
    super(`found ${found}, allowed ${allowed}`)
    this.name = 'FormatError'
    this.found = found
    this.allowed = allowed
  }
}
