/**
 * The messages of SOCKS5 (RFC 1928) and of its user/password method (RFC 1929), as pure functions.
 *
 * Encoders write at `at` and return the bytes written; they throw a RangeError when the message has no room or a field
 * breaks the RFC's bounds. Parsers look at `length` bytes from `at` and return the bytes consumed, `NEED_MORE` when the
 * message is not complete, or `MALFORMED`; what they found goes into an object of the caller, as offsets into `bytes`,
 * so nothing is copied and nothing is made per message. `bytes` may be a view of WebAssembly memory.
 */
import type { Destination } from '../../endpoint.ts'

export const NEED_MORE = 0
export const MALFORMED = -1

/** RFC 1928 §3. */
export const Method = { none: 0x00, password: 0x02, unacceptable: 0xff } as const
export type Method = (typeof Method)[keyof typeof Method]

/** RFC 1928 §4, and what hev-udp-codec.ts is about. */
export const Command = { connect: 1, bind: 2, udpAssociate: 3, forwardUdp: 5 } as const
export type Command = (typeof Command)[keyof typeof Command]

/** RFC 1928 §5. */
export const AddressType = { ipv4: 1, name: 3, ipv6: 4 } as const
export type AddressType = (typeof AddressType)[keyof typeof AddressType]

/** RFC 1928 §6. */
export const Reply = {
  succeeded: 0,
  generalFailure: 1,
  prohibited: 2,
  netUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandUnsupported: 7,
  addressUnsupported: 8,
} as const
export type Reply = (typeof Reply)[keyof typeof Reply]

const VERSION = 5
/** RFC 1929 §2: the version of the sub-negotiation, not of SOCKS. */
const AUTH_VERSION = 1
const UNKNOWN = -1

/** Bytes of the longest message of a handshake: RFC 1929 with user and password of 255 bytes each. */
export const MAX_HANDSHAKE_MESSAGE_BYTES = 3 + 255 + 255
/** Bytes before the payload of a datagram to or from an IPv4 or IPv6 endpoint (RFC 1928 §7). */
export const UDP_HEADER_BYTES_IPV4 = 10
export const UDP_HEADER_BYTES_IPV6 = 22

export interface AddressFields {
  /** An `AddressType`, the unknown value that was found, or -1 before it has come. */
  addressType: number
  /** Where the 4 or 16 address bytes, or the bytes of the name, begin. */
  addressAt: number
  /** 4, 16, or 1 to 255 for a name. */
  addressLength: number
  port: number
}

export interface ReplyFields extends AddressFields {
  /** Known (not -1) as soon as its byte has come, even when the rest is missing or malformed. */
  reply: number
}

export interface RequestFields extends AddressFields {
  /** As `ReplyFields.reply`. */
  command: number
}

export interface UdpFields extends AddressFields {
  /** RFC 1928 §7: 0 stands alone; anything else is a fragment. */
  fragment: number
}

export interface MethodFields {
  method: number
}

export interface AuthReplyFields {
  /** RFC 1929 §2: 0 is success. */
  status: number
}

export interface GreetingFields {
  offersNone: boolean
  offersPassword: boolean
}

export interface AuthFields {
  usernameAt: number
  usernameLength: number
  passwordAt: number
  passwordLength: number
}

export function addressFields(): AddressFields {
  return { addressType: UNKNOWN, addressAt: 0, addressLength: 0, port: 0 }
}

/** `VER NMETHODS METHODS`: one method or both are offered. */
export function encodeGreeting(bytes: Uint8Array, at: number, none: boolean, password: boolean): number {
  const length = none && password ? 4 : 3
  requireRoom(bytes, at, length)
  bytes[at] = VERSION
  bytes[at + 1] = length - 2
  bytes[at + 2] = none ? Method.none : Method.password
  if (length === 4) bytes[at + 3] = Method.password
  return length
}

/** `VER ULEN UNAME PLEN PASSWD` (RFC 1929 §2). Both fields are 1 to 255 bytes. */
export function encodeAuth(bytes: Uint8Array, at: number, username: Uint8Array, password: Uint8Array): number {
  requireFieldLength('user name', username.length)
  requireFieldLength('password', password.length)
  const length = 3 + username.length + password.length
  requireRoom(bytes, at, length)
  bytes[at] = AUTH_VERSION
  bytes[at + 1] = username.length
  bytes.set(username, at + 2)
  bytes[at + 2 + username.length] = password.length
  bytes.set(password, at + 3 + username.length)
  return length
}

/** `VER CMD RSV ATYP DST.ADDR DST.PORT`. A name is written as UTF-8, 1 to 255 bytes. */
export function encodeRequest(bytes: Uint8Array, at: number, command: Command, destination: Destination): number {
  return encodeMessage(bytes, at, command, destination)
}

/** `VER REP RSV ATYP BND.ADDR BND.PORT`. */
export function encodeReply(bytes: Uint8Array, at: number, reply: number, bound: Destination): number {
  return encodeMessage(bytes, at, reply, bound)
}

/**
 * `RSV FRAG ATYP DST.ADDR DST.PORT`, with FRAG 0. The address is the 4 or 16 bytes of `address` from `addressAt` on: the
 * header is 10 or 22.
 */
export function encodeUdpHeader(
  bytes: Uint8Array,
  at: number,
  address: Uint8Array,
  port: number,
  addressAt = 0,
  addressBytes = address.length,
): number {
  requireRoom(bytes, at, 4)
  bytes[at] = 0
  bytes[at + 1] = 0
  bytes[at + 2] = 0
  return 3 + encodeIp(bytes, at + 3, address, addressAt, addressBytes, port)
}

/** The server's choice: `VER METHOD`. */
export function parseMethod(bytes: Uint8Array, at: number, length: number, out: MethodFields): number {
  if (length > 0 && bytes[at] !== VERSION) return MALFORMED
  if (length < 2) return NEED_MORE
  out.method = bytes[at + 1]!
  return 2
}

/** `VER STATUS` (RFC 1929 §2). */
export function parseAuthReply(bytes: Uint8Array, at: number, length: number, out: AuthReplyFields): number {
  if (length > 0 && bytes[at] !== AUTH_VERSION) return MALFORMED
  if (length < 2) return NEED_MORE
  out.status = bytes[at + 1]!
  return 2
}

/** A failing server may close behind REP, or fill the rest with zeros: `out.reply` is valid then too. */
export function parseReply(bytes: Uint8Array, at: number, length: number, out: ReplyFields): number {
  out.reply = UNKNOWN
  out.addressType = UNKNOWN
  if (length > 0 && bytes[at] !== VERSION) return MALFORMED
  if (length > 1) out.reply = bytes[at + 1]!
  return parseTail(bytes, at, length, out)
}

/**
 * The header of a datagram, which is whole by nature: its length, or `MALFORMED` when it is short or its address type
 * unknown. `length` counts header and payload. RSV is not looked at.
 */
export function parseUdpHeader(bytes: Uint8Array, at: number, length: number, out: UdpFields): number {
  out.addressType = UNKNOWN
  const consumed = parseTail(bytes, at, length, out)
  if (consumed <= 0) return MALFORMED
  out.fragment = bytes[at + 2]!
  return consumed
}

/** The client's offer. No method at all (NMETHODS 0) is malformed: RFC 1928 §3 counts from 1. */
export function parseGreeting(bytes: Uint8Array, at: number, length: number, out: GreetingFields): number {
  if (length > 0 && bytes[at] !== VERSION) return MALFORMED
  if (length < 2) return NEED_MORE
  const methods = bytes[at + 1]!
  if (methods === 0) return MALFORMED
  if (length < 2 + methods) return NEED_MORE
  out.offersNone = false
  out.offersPassword = false
  for (let offset = at + 2; offset < at + 2 + methods; offset++) {
    if (bytes[offset] === Method.none) out.offersNone = true
    if (bytes[offset] === Method.password) out.offersPassword = true
  }
  return 2 + methods
}

export function parseAuth(bytes: Uint8Array, at: number, length: number, out: AuthFields): number {
  if (length > 0 && bytes[at] !== AUTH_VERSION) return MALFORMED
  if (length < 2) return NEED_MORE
  const usernameLength = bytes[at + 1]!
  if (usernameLength === 0) return MALFORMED
  if (length < 3 + usernameLength) return NEED_MORE
  const passwordLength = bytes[at + 2 + usernameLength]!
  if (passwordLength === 0) return MALFORMED
  if (length < 3 + usernameLength + passwordLength) return NEED_MORE
  out.usernameAt = at + 2
  out.usernameLength = usernameLength
  out.passwordAt = at + 3 + usernameLength
  out.passwordLength = passwordLength
  return 3 + usernameLength + passwordLength
}

/** On `MALFORMED`, `out.addressType` tells an unknown address type (reply 8) from bytes that are no request (-1). */
export function parseRequest(bytes: Uint8Array, at: number, length: number, out: RequestFields): number {
  out.command = UNKNOWN
  out.addressType = UNKNOWN
  if (length > 0 && bytes[at] !== VERSION) return MALFORMED
  if (length > 1) out.command = bytes[at + 1]!
  return parseTail(bytes, at, length, out)
}

/** `ATYP ADDR PORT` behind the three bytes that requests, replies and datagrams begin with. */
function parseTail(bytes: Uint8Array, at: number, length: number, out: AddressFields): number {
  if (length < 4) return NEED_MORE
  const type = bytes[at + 3]!
  out.addressType = type
  let addressAt = at + 4
  let addressLength: number
  if (type === AddressType.ipv4) addressLength = 4
  else if (type === AddressType.ipv6) addressLength = 16
  else if (type === AddressType.name) {
    if (length < 5) return NEED_MORE
    addressLength = bytes[at + 4]!
    if (addressLength === 0) return MALFORMED
    addressAt++
  } else return MALFORMED
  const portAt = addressAt + addressLength
  if (portAt + 2 - at > length) return NEED_MORE
  out.addressAt = addressAt
  out.addressLength = addressLength
  out.port = (bytes[portAt]! << 8) | bytes[portAt + 1]!
  return portAt + 2 - at
}

function encodeMessage(bytes: Uint8Array, at: number, code: number, endpoint: Destination): number {
  requireRoom(bytes, at, 4)
  bytes[at] = VERSION
  bytes[at + 1] = code
  bytes[at + 2] = 0
  if ('name' in endpoint) return 3 + encodeName(bytes, at + 3, endpoint.name, endpoint.port)
  const { address, port } = endpoint
  return 3 + encodeIp(bytes, at + 3, address, 0, address.length, port)
}

function encodeIp(
  bytes: Uint8Array,
  at: number,
  from: Uint8Array,
  fromAt: number,
  length: number,
  port: number,
): number {
  if (length !== 4 && length !== 16) throw new RangeError(`SOCKS5: an address has 4 or 16 bytes, not ${length}`)
  requireRoom(bytes, at, 3 + length)
  bytes[at] = length === 4 ? AddressType.ipv4 : AddressType.ipv6
  for (let index = 0; index < length; index++) bytes[at + 1 + index] = from[fromAt + index]!
  return 1 + length + encodePort(bytes, at + 1 + length, port)
}

const utf8 = new TextEncoder()

function encodeName(bytes: Uint8Array, at: number, name: string, port: number): number {
  const encoded = utf8.encode(name)
  requireFieldLength('host name', encoded.length)
  requireRoom(bytes, at, 4 + encoded.length)
  bytes[at] = AddressType.name
  bytes[at + 1] = encoded.length
  bytes.set(encoded, at + 2)
  return 2 + encoded.length + encodePort(bytes, at + 2 + encoded.length, port)
}

function encodePort(bytes: Uint8Array, at: number, port: number): number {
  bytes[at] = port >> 8
  bytes[at + 1] = port & 255
  return 2
}

function requireRoom(bytes: Uint8Array, at: number, length: number): void {
  if (at + length > bytes.length) throw new RangeError(`SOCKS5: no room for ${length} bytes`)
}

function requireFieldLength(field: string, length: number): void {
  if (length < 1 || length > 255)
    throw new RangeError(`SOCKS5: the ${field} must be 1 to 255 bytes long, not ${length}`)
}
