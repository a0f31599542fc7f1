/** How messages are told apart in a stream: by their length in front (RFC 1035 §4.2.2), or as bodies of HTTP/1.1 (RFC 8484). */
import { MAX_MESSAGE_BYTES } from '../dns/wire.ts'

export interface Framed {
  readonly message: Buffer
  /** Where what comes next begins. */
  readonly end: number
}

export interface Framing {
  frame(message: Uint8Array): Buffer
  /** The message at `at` of what has come up to `end`. undefined: it is not whole; 'malformed': nothing behind it can be read. */
  next(received: Buffer, at: number, end: number): Framed | 'malformed' | undefined
}

const LENGTH_BYTES = 2

export const BY_LENGTH: Framing = {
  frame(message) {
    const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.length)
    frame.writeUInt16BE(message.length, 0)
    frame.set(message, LENGTH_BYTES)
    return frame
  },
  next(received, at, end) {
    if (at + LENGTH_BYTES > end) return undefined
    const messageEnd = at + LENGTH_BYTES + received.readUInt16BE(at)
    return messageEnd > end ? undefined : { message: received.subarray(at + LENGTH_BYTES, messageEnd), end: messageEnd }
  },
}

const MEDIA_TYPE = 'application/dns-message'
const MAX_HEAD_BYTES = 16_384
/** Of a message in chunks, with what is said of these. */
const MAX_CHUNKED_BYTES = 4 * MAX_MESSAGE_BYTES
const END_OF_HEAD = '\r\n\r\n'
const END_OF_LINE = '\r\n'

/** POST, so that nobody on the way keeps it. `host`: with its port where that is not 443. */
export function asHttp(host: string, path: string): Framing {
  return {
    frame(message) {
      const head = [
        `POST ${path} HTTP/1.1`,
        `Host: ${host}`,
        `Accept: ${MEDIA_TYPE}`,
        `Content-Type: ${MEDIA_TYPE}`,
        `Content-Length: ${message.length}`,
      ]
      return Buffer.concat([Buffer.from(head.join(END_OF_LINE) + END_OF_HEAD, 'latin1'), message])
    },
    next: nextResponse,
  }
}

/** One that is not 200 ends the connection: its body is for people. */
function nextResponse(received: Buffer, at: number, end: number): Framed | 'malformed' | undefined {
  const headEnd = received.subarray(at, Math.min(end, at + MAX_HEAD_BYTES)).indexOf(END_OF_HEAD)
  if (headEnd < 0) return end - at >= MAX_HEAD_BYTES ? 'malformed' : undefined
  const [status = '', ...fields] = received.toString('latin1', at, at + headEnd).split(END_OF_LINE)
  if (!/^HTTP\/1\.[01] 200( |$)/.test(status)) return 'malformed'
  const bodyAt = at + headEnd + END_OF_HEAD.length
  const fieldOf = (name: string) =>
    fields.find(field => field.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1)
  if (fieldOf('transfer-encoding')?.trim().toLowerCase() === 'chunked') return chunked(received, bodyAt, end)
  const text = fieldOf('content-length')?.trim() ?? ''
  if (!/^\d{1,5}$/.test(text) || Number(text) > MAX_MESSAGE_BYTES) return 'malformed'
  const bodyEnd = bodyAt + Number(text)
  return bodyEnd > end ? undefined : { message: received.subarray(bodyAt, bodyEnd), end: bodyEnd }
}

/** RFC 9112 §7.1; trailers are left out. */
function chunked(received: Buffer, from: number, end: number): Framed | 'malformed' | undefined {
  const parts: Buffer[] = []
  let length = 0
  for (let at = from; ; ) {
    if (at - from > MAX_CHUNKED_BYTES) return 'malformed'
    const lineEnd = received.subarray(at, end).indexOf(END_OF_LINE)
    if (lineEnd < 0) return end - at > MAX_HEAD_BYTES ? 'malformed' : undefined
    const size = /^([0-9a-f]{1,5})\s*(;.*)?$/i.exec(received.toString('latin1', at, at + lineEnd))?.[1]
    if (size === undefined) return 'malformed'
    const bytes = Number.parseInt(size, 16)
    at += lineEnd + END_OF_LINE.length
    if (bytes === 0) return lastChunk(received, at, end, parts)
    length += bytes
    if (length > MAX_MESSAGE_BYTES) return 'malformed'
    if (at + bytes + END_OF_LINE.length > end) return undefined
    parts.push(received.subarray(at, at + bytes))
    at += bytes + END_OF_LINE.length
  }
}

function lastChunk(
  received: Buffer,
  from: number,
  end: number,
  parts: readonly Buffer[],
): Framed | 'malformed' | undefined {
  for (let at = from; ; ) {
    const lineEnd = received.subarray(at, end).indexOf(END_OF_LINE)
    if (lineEnd < 0) return end - from > MAX_HEAD_BYTES ? 'malformed' : undefined
    at += lineEnd + END_OF_LINE.length
    if (lineEnd === 0) return { message: Buffer.concat(parts), end: at }
  }
}
