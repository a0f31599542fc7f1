/** The host in the head of an HTTP/1 request (RFC 9112 sections 3 and 5). */
import { canonicalDomain } from './domain-name.ts'

const NEWLINE = 10

/** The host so far; 'none': it is no such request, or names no host that is a domain. */
export type Host = { readonly domain: string } | 'more' | 'none'

/** RFC 9110 section 5.6.2: tchar. Methods in use have at most 17 characters (UPDATEREDIRECTREF). */
const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}( |$)/
const REQUEST_LINE = /^(\S+) (\S+) HTTP\/1\.[0-9]$/

/** Reads the head line by line, as it comes. */
export class HostReader {
  /** What came of the line so far, one character a byte. */
  #line = ''
  #isFirst = true

  /** What came behind the bytes of the calls before. */
  push(bytes: Uint8Array): Host {
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(NEWLINE, at)
      this.#line += Buffer.from(bytes.subarray(at, end < 0 ? bytes.length : end)).toString('latin1')
      if (this.#isFirst && !METHOD.test(this.#line.slice(0, 21))) return 'none'
      if (end < 0) return 'more'
      const host = this.#readLine(this.#line.replace(/\r$/, ''))
      if (host !== 'more') return host
      this.#line = ''
      this.#isFirst = false
      at = end + 1
    }
    return 'more'
  }

  #readLine(line: string): Host {
    if (this.#isFirst) {
      const request = REQUEST_LINE.exec(line)
      if (request === null) return 'none'
      const authority = authorityOf(request[1]!, request[2]!)
      return authority === undefined ? 'more' : hostOf(authority)
    }
    if (line === '') return 'none'
    const field = /^host:[ \t]*(.*?)[ \t]*$/i.exec(line)
    return field === null ? 'more' : hostOf(field[1]!)
  }
}

/** Of the forms of section 3.2 those with an authority, which wins over the field Host (section 3.2.2). */
function authorityOf(method: string, target: string): string | undefined {
  if (method === 'CONNECT') return target
  return /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#@]*)/i.exec(target)?.[1]
}

/** `name` or `name:port`. An address is no domain. */
function hostOf(authority: string): Host {
  const name = /^([^:]*)(?::[0-9]*)?$/.exec(authority)?.[1] ?? ''
  const domain = /[^\0-\x7f]/.test(name) ? undefined : canonicalDomain(name)
  return domain === undefined ? 'none' : { domain }
}
