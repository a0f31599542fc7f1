/** Digest (RFC 7616) for CONNECT: a challenge, and the answer to it. Texts have a character for a byte. */
import { createHash, getHashes } from 'node:crypto'
import type { Challenge } from './http-challenge.ts'

export interface DigestChallenge {
  /** As the proxy wrote it; undefined when it did not. */
  readonly algorithm: string | undefined
  /** Node's name of the hash. */
  readonly hash: string
  readonly isSession: boolean
  readonly realm: string
  readonly nonce: string
  readonly opaque: string | undefined
  /** qop=auth; false for a proxy of RFC 2069, which has no qop. */
  readonly hasQop: boolean
  /** The answer was right, but for its nonce. */
  readonly isStale: boolean
  /** It wants the hash of the user name in place of the name. */
  readonly hashesUser: boolean
  /** It says that names are UTF-8 (they always are, from us). */
  readonly isUtf8: boolean
}

/** Weakest first (RFC 7616 §3.2 and §6.1). */
const HASHES: readonly (readonly [algorithm: string, hash: string])[] = [
  ['MD5', 'md5'],
  ['SHA-256', 'sha256'],
  ['SHA-512-256', 'sha512-256'],
]
/** Of realm, nonce and opaque together, which go back with each request. A tab, which may come, may not go. */
const MAX_ECHO_BYTES = 1_024

/** undefined: no Digest, or none that can be answered. */
export function readDigest({ scheme, parameters }: Challenge): DigestChallenge | undefined {
  const [, name = 'MD5', session] = /^(.*?)(-sess)?$/i.exec(parameters.get('algorithm') ?? 'MD5') ?? []
  const hash = HASHES.find(([algorithm]) => algorithm === name.toUpperCase())?.[1]
  const realm = parameters.get('realm')
  const nonce = parameters.get('nonce')
  const opaque = parameters.get('opaque')
  const qop = parameters.get('qop')
  const hasQop = qop !== undefined && /(^|[\s,])auth([\s,]|$)/i.test(qop)
  if (scheme !== 'digest' || hash === undefined || !getHashes().includes(hash)) return undefined
  if (realm === undefined || nonce === undefined || (qop !== undefined && !hasQop)) return undefined
  const echo = realm + nonce + (opaque ?? '')
  if (echo.length > MAX_ECHO_BYTES || echo.includes('\t')) return undefined
  const isTrue = (key: string) => parameters.get(key)?.toLowerCase() === 'true'
  return {
    algorithm: parameters.get('algorithm'),
    hash,
    isSession: session !== undefined,
    realm,
    nonce,
    opaque,
    hasQop,
    isStale: isTrue('stale'),
    hashesUser: isTrue('userhash'),
    isUtf8: parameters.get('charset')?.toUpperCase() === 'UTF-8',
  }
}

/** 0 to 2: which of two challenges is stronger. */
export function strengthOf({ hash }: DigestChallenge): number {
  return HASHES.findIndex(([, name]) => name === hash)
}

export interface DigestRequest {
  readonly username: string
  readonly password: string
  readonly method: string
  readonly uri: string
  readonly cnonce: string
  /** 1 for the first request with this nonce. */
  readonly count: number
}

/** The value of Proxy-Authorization (RFC 7616 §3.4). */
export function answerDigest(challenge: DigestChallenge, request: DigestRequest): string {
  const { algorithm, hash, isSession, realm, nonce, opaque, hasQop } = challenge
  const { username, password, method, uri, cnonce } = request
  const digest = (text: string) => createHash(hash).update(text, 'latin1').digest('hex')
  const count = request.count.toString(16).padStart(8, '0')
  const secret = digest(`${username}:${realm}:${password}`)
  const a1 = isSession ? digest(`${secret}:${nonce}:${cnonce}`) : secret
  const a2 = digest(`${method}:${uri}`)
  const response = digest(hasQop ? `${a1}:${nonce}:${count}:${cnonce}:auth:${a2}` : `${a1}:${nonce}:${a2}`)
  const fields = [
    userField(challenge, username, digest),
    `realm=${quoted(realm)}`,
    `nonce=${quoted(nonce)}`,
    `uri=${quoted(uri)}`,
    ...(algorithm === undefined ? [] : [`algorithm=${algorithm}`]),
    `response="${response}"`,
    ...(opaque === undefined ? [] : [`opaque=${quoted(opaque)}`]),
    ...(hasQop ? ['qop=auth', `nc=${count}`] : []),
    ...(hasQop || isSession ? [`cnonce=${quoted(cnonce)}`] : []),
    ...(challenge.hashesUser ? ['userhash=true'] : []),
  ]
  return `Digest ${fields.join(', ')}`
}

/** RFC 7616 §3.4.4: a name that is not ASCII goes percent-encoded (RFC 8187) to a proxy that knows of UTF-8. */
function userField(challenge: DigestChallenge, username: string, digest: (text: string) => string): string {
  if (challenge.hashesUser) return `username="${digest(`${username}:${challenge.realm}`)}"`
  if (!challenge.isUtf8 || !/[\x80-\xff]/.test(username)) return `username=${quoted(username)}`
  const encoded = username.replace(
    /[^!#$&+.^_`|~0-9A-Za-z-]/g,
    character => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )
  return `username*=UTF-8''${encoded}`
}

const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
