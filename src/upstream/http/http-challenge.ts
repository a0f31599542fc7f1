/** What a proxy asks for in Proxy-Authenticate (RFC 9110 §11.3), read as leniently as is safe. */

/** Texts have a character for a byte. */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string
  /** By lower-case name; of one that is repeated, the first. */
  readonly parameters: ReadonlyMap<string, string>
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const SEPARATORS = /[ \t\r\n,]*/y
const NAME = new RegExp(TOKEN, 'y')
const EQUALS = /[ \t]*=[ \t]*/y
const VALUE = new RegExp(`"((?:[^"\\\\]|\\\\[\\s\\S])*)"|(${TOKEN})`, 'y')
/** RFC 9110 §11.2. */
const TOKEN68 = /[ \t]+[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y

/** The challenges of all fields together, in their order. Reading ends at what is no challenge. */
export function parseChallenges(fields: readonly string[]): Challenge[] {
  return fields.flatMap(parseField)
}

function parseField(text: string): Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = []
  let at = 0
  const take = (pattern: RegExp) => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match !== null) at = pattern.lastIndex
    return match
  }
  for (;;) {
    take(SEPARATORS)
    const name = take(NAME)?.[0]?.toLowerCase()
    if (name === undefined) break
    const current = found.at(-1)
    if (current !== undefined && take(EQUALS) !== null) {
      const value = take(VALUE)
      // A quoted value without its end: what it belongs to is not all there.
      if (value === null) return found.slice(0, -1)
      const unquoted = value[2] ?? value[1]!.replace(/\\([\s\S])/g, '$1')
      if (!current.parameters.has(name)) current.parameters.set(name, unquoted)
    } else {
      found.push({ scheme: name, parameters: new Map() })
      take(TOKEN68)
    }
  }
  return found
}
