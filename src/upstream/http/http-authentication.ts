/**
 * User and password for an HTTP proxy: Basic (RFC 7617) or Digest (RFC 7616), whichever its first 407 says; nothing is
 * shown before. A proxy may take the counts of a nonce in order only, and dials run side by side: so each dial has a
 * nonce of its own, which serves the next one when the proxy has taken it.
 */
import { randomBytes } from 'node:crypto'
import type { DialError } from '../dialer.ts'
import type { Challenge } from './http-challenge.ts'
import { answerDigest, type DigestChallenge, readDigest, strengthOf } from './http-digest.ts'

export interface HttpCredentials {
  readonly username?: string | undefined
  readonly password?: string | undefined
}

interface Nonce {
  readonly challenge: DigestChallenge
  readonly username: string
  /** One for all of its requests, which is what a session (`-sess`) is made of. */
  readonly cnonce: string
  count: number
}

/** One request of a dial. */
export interface Attempt {
  /** For the field Proxy-Authorization, a character for a byte; '' for none. */
  readonly authorization: string
  /** A character for a byte. */
  readonly username: string
  /** Of Digest. */
  readonly nonce: Nonce | undefined
  /** The proxy has told this dial the nonce, just before. */
  readonly isFresh: boolean
  /** Answers to challenges that this dial has given before. */
  readonly answers: number
}

/** Idle ones: dials above it ask for one. */
const MAX_NONCES = 64
/** Counts are kept of so many: of an older one that is told again they begin anew. */
const MAX_KNOWN = 1_024
/** What one dial says to challenges before it gives up: one that is unlucky with two nonces needs three. */
const MAX_ANSWERS = 4

export class HttpAuthentication {
  readonly #username: string | undefined
  readonly #password: string
  readonly #newCnonce: () => string
  /** What the proxy wanted last. */
  #scheme: 'basic' | 'digest' | undefined
  readonly #idle: Nonce[] = []
  /** By user name and nonce: all that it has told, the oldest first. */
  readonly #known = new Map<string, Nonce>()

  /** @param newCnonce for tests */
  constructor(
    { username, password }: HttpCredentials,
    newCnonce: () => string = () => randomBytes(18).toString('base64'),
  ) {
    this.#username = username === undefined ? undefined : bytesOf(username)
    this.#password = bytesOf(password ?? '')
    this.#newCnonce = newCnonce
  }

  /**
   * The first request of a dial.
   * @param username another one than the configured one (it may carry the client)
   */
  first(authority: string, username?: string): Attempt {
    const name = username === undefined ? (this.#username ?? '') : bytesOf(username)
    const none = { authorization: '', username: name, nonce: undefined, isFresh: false, answers: 0 }
    if (this.#scheme === 'basic' && !name.includes(':')) return { ...none, authorization: this.#basic(name) }
    const at = this.#scheme === 'digest' ? this.#idle.findLastIndex(nonce => nonce.username === name) : -1
    if (at < 0) return none
    const [nonce] = this.#idle.splice(at, 1)
    return { ...none, nonce, authorization: this.#digest(nonce!, authority) }
  }

  /** The proxy has answered anything but 407 to it. */
  passed({ nonce }: Attempt): void {
    if (nonce === undefined || this.#idle.includes(nonce)) return
    if (this.#idle.length >= MAX_NONCES) this.#idle.shift()
    this.#idle.push(nonce)
  }

  /** The proxy has answered 407: the next request, on a connection that still stands or on a new one; or why there is none. */
  challenged(attempt: Attempt, challenges: readonly Challenge[], authority: string): Attempt | DialError {
    if (this.#username === undefined) {
      return failed('the proxy wants a user name and a password: none is configured')
    }
    const digest = strongest(challenges)
    const hasBasic = challenges.some(({ scheme }) => scheme === 'basic')
    if (digest === undefined && !hasBasic) return failed(unsupported(challenges))
    const { username, nonce, isFresh } = attempt
    if (digest === undefined && username.includes(':')) return failed(COLON)
    const wasBasic = attempt.authorization !== '' && nonce === undefined
    if (digest === undefined ? wasBasic : isFresh && !digest.isStale) return failed(DENIED)
    if (attempt.answers >= MAX_ANSWERS) return failed(UNDECIDED)
    const next = { authorization: '', username, nonce: undefined, isFresh: false, answers: attempt.answers + 1 }
    if (digest === undefined) {
      this.#scheme = 'basic'
      return { ...next, authorization: this.#basic(username) }
    }
    this.#scheme = 'digest'
    const key = `${username}\0${digest.nonce}`
    // squid tells the user's latest nonce for one that has gone stale, whoever uses it: who asks with none gets his own.
    if (attempt.authorization !== '' && this.#known.has(key)) return next
    const told = this.#nonceOf(key, digest, username)
    return { ...next, nonce: told, isFresh: true, authorization: this.#digest(told, authority) }
  }

  /** A proxy may have one nonce for all: its count goes on. */
  #nonceOf(key: string, challenge: DigestChallenge, username: string): Nonce {
    const known = this.#known.get(key)
    if (known !== undefined) {
      const at = this.#idle.indexOf(known)
      if (at >= 0) this.#idle.splice(at, 1)
      return known
    }
    const nonce = { challenge, username, cnonce: this.#newCnonce(), count: 0 }
    this.#known.set(key, nonce)
    if (this.#known.size > MAX_KNOWN) this.#known.delete(this.#known.keys().next().value!)
    return nonce
  }

  #basic(username: string): string {
    return `Basic ${Buffer.from(`${username}:${this.#password}`, 'latin1').toString('base64')}`
  }

  #digest(nonce: Nonce, uri: string): string {
    nonce.count++
    const { challenge, username, cnonce, count } = nonce
    const password = this.#password
    return answerDigest(challenge, { username, password, method: 'CONNECT', uri, cnonce, count })
  }
}

/** UTF-8, a character for a byte. */
const bytesOf = (text: string) => Buffer.from(text).toString('latin1')

export const DENIED = 'the proxy refused the user name or the password: check both in the configuration'
/** RFC 7617 §2: it would end the name. */
const COLON = 'the proxy wants Basic, which carries no colon in a user name: {source} is an IPv6 address here'
const UNDECIDED = 'the proxy asks for the password again and again, and does not refuse it'

const failed = (message: string): DialError => ({ failure: 'authentication', message })

function strongest(challenges: readonly Challenge[]): DigestChallenge | undefined {
  let best: DigestChallenge | undefined
  for (const challenge of challenges) {
    const digest = readDigest(challenge)
    if (digest !== undefined && (best === undefined || strengthOf(digest) > strengthOf(best))) best = digest
  }
  return best
}

function unsupported(challenges: readonly Challenge[]): string {
  const schemes = [...new Set(challenges.map(({ scheme }) => scheme))].filter(scheme =>
    /^[a-z0-9-]{1,20}$/.test(scheme),
  )
  const wanted = schemes.length === 0 ? 'a password, and not how' : schemes.slice(0, 5).join(', ')
  return `the proxy wants ${wanted}: Basic, and Digest with MD5 or SHA, are what can be given`
}
