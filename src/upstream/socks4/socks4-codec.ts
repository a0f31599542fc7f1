/**
 * The messages of SOCKS4 (Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls") and of its extension 4a for
 * names, as pure functions in the manner of socks5-codec.ts. There is no IPv6, no UDP and no password.
 */
import type { Destination } from '../../endpoint.ts'
import type { DialError, DialFailure } from '../dialer.ts'
import { MALFORMED, NEED_MORE } from '../socks5/socks5-codec.ts'

/** The field CD of a reply. */
export const Reply4 = { granted: 90, rejected: 91, noIdentd: 92, wrongUser: 93 } as const
export type Reply4 = (typeof Reply4)[keyof typeof Reply4]

const VERSION = 4
/** "VN is the version of the reply code and should be 0"; some servers say 4. */
const REPLY_VERSION = 0
const CONNECT = 1
const REPLY_BYTES = 8
const UNKNOWN = -1

/** Bytes of the longest request: user and name of 255 bytes each. */
export const MAX_REQUEST4_BYTES = 8 + 256 + 256

export interface Reply4Fields {
  /** Known (not -1) as soon as its byte has come, even when the rest is missing. */
  reply: number
  port: number
  /** Where the 4 bytes of the address begin. */
  addressAt: number
}

export function reply4Fields(): Reply4Fields {
  return { reply: UNKNOWN, port: 0, addressAt: 0 }
}

/**
 * `VN CD DSTPORT DSTIP USERID 0`, and with a name `0.0.0.1` for DSTIP and `NAME 0` behind it (4a). User and name may hold
 * no NUL, an address no IPv6 and none from 0.0.0.1 to 0.0.0.255, which means that a name follows.
 */
export function encodeRequest4(bytes: Uint8Array, at: number, destination: Destination, user: Uint8Array): number {
  requireText('user', user, 0)
  requireRoom(bytes, at, 9 + user.length)
  bytes[at] = VERSION
  bytes[at + 1] = CONNECT
  bytes[at + 2] = destination.port >> 8
  bytes[at + 3] = destination.port & 255
  bytes.set(user, at + 8)
  bytes[at + 8 + user.length] = 0
  const length = 9 + user.length
  if ('name' in destination) {
    writeAddress(bytes, at + 4, 0, 0, 0, 1)
    return length + encodeName(bytes, at + length, destination.name)
  }
  const { address } = destination
  if (address.length !== 4) throw new RangeError('SOCKS4: an address has 4 bytes: there is no IPv6')
  const [a, b, c, d] = address as unknown as [number, number, number, number]
  if (a === 0 && b === 0 && c === 0 && d !== 0) throw new RangeError(`SOCKS4: 0.0.0.${d} stands for a name`)
  writeAddress(bytes, at + 4, a, b, c, d)
  return length
}

/** `VN CD DSTPORT DSTIP`, 8 bytes. A server that refuses may close behind CD: `out.reply` is valid then too. */
export function parseReply4(bytes: Uint8Array, at: number, length: number, out: Reply4Fields): number {
  out.reply = UNKNOWN
  if (length > 0 && bytes[at] !== REPLY_VERSION && bytes[at] !== VERSION) return MALFORMED
  if (length > 1) out.reply = bytes[at + 1]!
  if (length < REPLY_BYTES) return NEED_MORE
  out.port = (bytes[at + 2]! << 8) | bytes[at + 3]!
  out.addressAt = at + 4
  return REPLY_BYTES
}

const REPLIES: { readonly [reply: number]: readonly [DialFailure, string] } = {
  [Reply4.rejected]: ['general', 'rejected or failed'],
  [Reply4.noIdentd]: ['authentication', 'it cannot ask the identd of this machine who the user is'],
  [Reply4.wrongUser]: ['authentication', 'the identd of this machine names another user'],
}

/** By a reply that is not 90. */
export function refusedBy4(reply: number): DialError {
  const [failure, text] = REPLIES[reply] ?? ['general', 'an unknown reason']
  return { failure, message: `the proxy answered ${reply} (${text})` }
}

const utf8 = new TextEncoder()

function encodeName(bytes: Uint8Array, at: number, name: string): number {
  const encoded = utf8.encode(name)
  requireText('host name', encoded, 1)
  requireRoom(bytes, at, encoded.length + 1)
  bytes.set(encoded, at)
  bytes[at + encoded.length] = 0
  return encoded.length + 1
}

function writeAddress(bytes: Uint8Array, at: number, a: number, b: number, c: number, d: number): void {
  bytes[at] = a
  bytes[at + 1] = b
  bytes[at + 2] = c
  bytes[at + 3] = d
}

function requireText(field: string, text: Uint8Array, least: number): void {
  if (text.length < least || text.length > 255)
    throw new RangeError(`SOCKS4: the ${field} must be ${least} to 255 bytes long, not ${text.length}`)
  if (text.includes(0)) throw new RangeError(`SOCKS4: a NUL would end the ${field}`)
}

function requireRoom(bytes: Uint8Array, at: number, length: number): void {
  if (at + length > bytes.length) throw new RangeError(`SOCKS4: no room for ${length} bytes`)
}
