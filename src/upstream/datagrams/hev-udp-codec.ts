/**
 * UDP in TCP as hev-socks5-server speaks it: datagrams on the connection of a SOCKS5 request with command 5, which is no
 * standard's. Read from hev-socks5-core at 162dd99 (src/hev-socks5-udp.c, hev-socks5-proto.h); where its README differs
 * (it counts MSGLEN with the header), the source is what a server does.
 *
 *     MSGLEN (u16)  HDRLEN (u8)  ATYP  ADDR  PORT (u16)  payload
 *
 * MSGLEN counts the payload alone, HDRLEN all bytes before it. In the manner of socks5-codec.ts: nothing is copied, and
 * nothing made per datagram.
 *
 * What that server does not say on the wire: a payload that is empty, or with its ATYP, ADDR and PORT longer than 1,500
 * bytes, makes it read no more from us without closing (so does a name that it cannot look up, and a destination without
 * route); and a datagram to us of which more than 1,500 bytes came is cut there silently.
 */
import {
  type AddressFields,
  AddressType,
  addressFields,
  Command,
  MALFORMED,
  NEED_MORE,
} from '../socks5/socks5-codec.ts'

/** The command that asks for it, in a request whose address is 0.0.0.0:0 or [::]:0. A server without it answers 7. */
export const FORWARD_UDP = Command.forwardUdp

export const HEV_HEADER_BYTES_IPV4 = 10
export const HEV_HEADER_BYTES_IPV6 = 22
/** HDRLEN is one byte, and a name has 7 bytes around it. */
export const HEV_MAX_NAME_BYTES = 248
/** What MSGLEN can say. */
export const HEV_MAX_PAYLOAD_BYTES = 65_535

/** The server's buffer for ATYP, ADDR, PORT and payload: only payloads of 1 byte up to what is left may be sent to it. */
const SERVER_BUFFER_BYTES = 1_500
export const HEV_SERVER_PAYLOAD_IPV4 = SERVER_BUFFER_BYTES - 7
export const HEV_SERVER_PAYLOAD_IPV6 = SERVER_BUFFER_BYTES - 19
/** A payload of so many bytes from the server may have been longer. */
export const HEV_CUT_PAYLOAD_BYTES = SERVER_BUFFER_BYTES

const PREFIX_BYTES = 3
/** With a name of one byte. */
const SHORTEST_HEADER_BYTES = 8

export interface HevFields extends AddressFields {
  payloadAt: number
  payloadLength: number
  /** Bytes of header and payload; 0 as long as HDRLEN has not come. */
  totalLength: number
}

export function hevFields(): HevFields {
  return { ...addressFields(), payloadAt: 0, payloadLength: 0, totalLength: 0 }
}

/** `VER CMD RSV ATYP ADDR PORT` with command 5 and no address; `family` is that of the connection to the proxy. */
export function encodeForwardRequest(bytes: Uint8Array, at: number, family: 4 | 6): number {
  const length = family === 4 ? 10 : 22
  requireRoom(bytes, at, length)
  bytes.fill(0, at, at + length)
  bytes[at] = 5
  bytes[at + 1] = FORWARD_UDP
  bytes[at + 3] = family === 4 ? AddressType.ipv4 : AddressType.ipv6
  return length
}

/** The header before `payloadLength` bytes; the address is 4 or 16 bytes of `address` from `addressAt` on. */
export function encodeHevHeader(
  bytes: Uint8Array,
  at: number,
  payloadLength: number,
  address: Uint8Array,
  port: number,
  addressAt = 0,
  addressBytes = address.length,
): number {
  if (addressBytes !== 4 && addressBytes !== 16)
    throw new RangeError(`UDP in TCP: an address has 4 or 16 bytes, not ${addressBytes}`)
  const length = addressBytes + 6
  encodePrefix(bytes, at, payloadLength, length)
  bytes[at + 3] = addressBytes === 4 ? AddressType.ipv4 : AddressType.ipv6
  for (let index = 0; index < addressBytes; index++) bytes[at + 4 + index] = address[addressAt + index]!
  encodePort(bytes, at + length - 2, port)
  return length
}

/** The same for a name, 1 to 248 bytes of `name` (not text: a name is sent many times). */
export function encodeHevNameHeader(
  bytes: Uint8Array,
  at: number,
  payloadLength: number,
  name: Uint8Array,
  port: number,
): number {
  if (name.length < 1 || name.length > HEV_MAX_NAME_BYTES)
    throw new RangeError(`UDP in TCP: a name has 1 to ${HEV_MAX_NAME_BYTES} bytes, not ${name.length}`)
  const length = name.length + 7
  encodePrefix(bytes, at, payloadLength, length)
  bytes[at + 3] = AddressType.name
  bytes[at + 4] = name.length
  bytes.set(name, at + 5)
  encodePort(bytes, at + length - 2, port)
  return length
}

/**
 * The header alone: its length as soon as it is whole, however little of the payload has come, so that the payload can be
 * read straight to where it belongs.
 */
export function parseHevHeader(bytes: Uint8Array, at: number, length: number, out: HevFields): number {
  out.addressType = -1
  out.totalLength = 0
  if (length < PREFIX_BYTES) return NEED_MORE
  const headerLength = bytes[at + 2]!
  if (headerLength < SHORTEST_HEADER_BYTES) return MALFORMED
  out.payloadLength = (bytes[at]! << 8) | bytes[at + 1]!
  if (length > PREFIX_BYTES) {
    const type = bytes[at + 3]!
    out.addressType = type
    if (type === AddressType.name) {
      if (length > 4 && bytes[at + 4] !== headerLength - 7) return MALFORMED
    } else if (type === AddressType.ipv4 ? headerLength !== 10 : type !== AddressType.ipv6 || headerLength !== 22) {
      return MALFORMED
    }
  }
  out.totalLength = headerLength + out.payloadLength
  if (length < headerLength) return NEED_MORE
  const isName = out.addressType === AddressType.name
  out.addressAt = at + (isName ? 5 : 4)
  out.addressLength = headerLength - (isName ? 7 : 6)
  out.payloadAt = at + headerLength
  out.port = (bytes[out.payloadAt - 2]! << 8) | bytes[out.payloadAt - 1]!
  return headerLength
}

/** A whole datagram, 8 to 65,790 bytes: its length, header included. On `NEED_MORE`, `out.totalLength` tells how much. */
export function parseHevDatagram(bytes: Uint8Array, at: number, length: number, out: HevFields): number {
  const header = parseHevHeader(bytes, at, length, out)
  if (header <= 0) return header
  return length < out.totalLength ? NEED_MORE : out.totalLength
}

function encodePrefix(bytes: Uint8Array, at: number, payloadLength: number, headerLength: number): void {
  if (payloadLength < 0 || payloadLength > HEV_MAX_PAYLOAD_BYTES)
    throw new RangeError(`UDP in TCP: a payload has 0 to ${HEV_MAX_PAYLOAD_BYTES} bytes, not ${payloadLength}`)
  requireRoom(bytes, at, headerLength)
  bytes[at] = payloadLength >> 8
  bytes[at + 1] = payloadLength & 255
  bytes[at + 2] = headerLength
}

function encodePort(bytes: Uint8Array, at: number, port: number): void {
  bytes[at] = port >> 8
  bytes[at + 1] = port & 255
}

function requireRoom(bytes: Uint8Array, at: number, length: number): void {
  if (at + length > bytes.length) throw new RangeError(`UDP in TCP: no room for ${length} bytes`)
}
