/**
 * Files of lists, one entry a line. `#` begins a comment, a line that begins with `!` or `;` is one. Addresses: prefixes or
 * single ones. Domains: a plain list, a hosts file (`0.0.0.0 name name`), or lines with a sign for the names below.
 */
import { FormatError } from '../config/format-error.ts'
import { parseAddress } from '../endpoint.ts'
import { quote } from '../redact.ts'
import { canonicalDomain } from './domain-name.ts'
import type { Cidr, DomainPattern } from './rule.ts'
import { parseCidr } from './values.ts'

/** A wrong line of a list: `reason` says what was found and what is allowed. */
export class ListError extends Error {
  /** 1 for the first. */
  readonly line: number

  constructor(line: number, reason: string) {
    super(reason)
    this.line = line
  }
}

/** Throws ListError. */
export function parseCidrList(text: string): Cidr[] {
  const found: Cidr[] = []
  eachLine(text, entry => {
    found.push(parseCidr(entry))
  })
  return found
}

/**
 * `below`: whether a name without a sign stands for those below it too; `.name`, `*.name`, `+.name` and `||name^` always do.
 * Throws ListError.
 */
export function parseDomainList(text: string, below: boolean): DomainPattern[] {
  const found: DomainPattern[] = []
  eachLine(text, entry => {
    const words = entry.split(/[ \t]+/)
    if (words.length > 1 && parseAddress(words[0]!.replace(/%.*$/, '')) !== undefined) {
      for (const word of words.slice(1)) if (!isOfTheMachine(word)) found.push({ name: domain(word), below })
    } else found.push(listedDomain(entry, below))
  })
  return found
}

const DOMAIN_ALLOWED = 'a domain name, .name for those below it too, or a line of a hosts file'

function listedDomain(entry: string, below: boolean): DomainPattern {
  const signed = /^(?:\*\.|\+\.|\.|\|\|)(.+?)\^?$/.exec(entry)
  return signed === null ? { name: domain(entry), below } : { name: domain(signed[1]!), below: true }
}

function domain(text: string): string {
  const name = canonicalDomain(text)
  if (name === undefined) throw new FormatError(quote(text), DOMAIN_ALLOWED)
  return name
}

/** What hosts files hold besides what they are there for: names of the machine itself, and `0.0.0.0 0.0.0.0`. */
function isOfTheMachine(word: string): boolean {
  return /^(localhost(\.localdomain)?|local|broadcasthost|ip6-[a-z]+)$/i.test(word) || parseAddress(word) !== undefined
}

function eachLine(text: string, take: (entry: string) => void): void {
  let line = 1
  for (let at = 0; at < text.length; line++) {
    const next = text.indexOf('\n', at)
    const end = next < 0 ? text.length : next
    const row = text.slice(at, end)
    const comment = row.indexOf('#')
    const entry = (comment < 0 ? row : row.slice(0, comment)).trim()
    at = end + 1
    if (entry === '' || entry.startsWith('!') || entry.startsWith(';')) continue
    try {
      take(entry)
    } catch (error) {
      throw error instanceof FormatError ? new ListError(line, error.message) : error
    }
  }
}
