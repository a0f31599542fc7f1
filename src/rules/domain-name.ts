import { domainToASCII } from 'node:url'

/** RFC 1035 section 2.3.4, without the root's dot. */
const MAX_NAME_BYTES = 253

/**
 * A host name in lower case, in ASCII (RFC 5890 A-labels) and without the dot of the root; undefined when it is none, or is
 * an address. Labels may hold `_`, which containers and services use.
 */
export function canonicalDomain(text: string): string | undefined {
  const ascii = /^[\0-\x7f]*$/.test(text) ? text : domainToASCII(text)
  const name = (ascii.endsWith('.') ? ascii.slice(0, -1) : ascii).toLowerCase()
  if (name.length > MAX_NAME_BYTES || !NAME.test(name)) return undefined
  // RFC 3696 section 2: no top-level domain is all digits, so it is an IPv4 address or an attempt at one
  return /(^|\.)[0-9]+$/.test(name) ? undefined : name
}

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?'
const NAME = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`)
