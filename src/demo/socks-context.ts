/** What the parts of the embedded SOCKS5 server share: its options, its counters, and the way it says no. */
import type { Socket } from 'node:net'
import { type Destination, formatAddress } from '../endpoint.ts'
import { encodeReply, MAX_HANDSHAKE_MESSAGE_BYTES, type Reply } from '../upstream/socks5/socks5-codec.ts'

export interface SocksServerOptions {
  /** IP address to listen on. Default: 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free port. */
  readonly port?: number
  /** 1 to 255 bytes each. Given both, nobody gets in without them; given none, everybody does. */
  readonly username?: string
  readonly password?: string
  /** Where a destination really is; undefined leaves it. Answers to datagrams carry the address that was asked for. */
  readonly rewrite?: (destination: Destination) => Destination | undefined
  /** The reply to a request for this destination without trying it; undefined tries. */
  readonly reply?: (destination: Destination) => Reply | undefined
  /** false: UDP ASSOCIATE gets "command not supported". Default: true. */
  readonly udp?: boolean
  /** Told to clients in place of the relay's own address; with port 0 the relay's own port goes with it. */
  readonly relayAddress?: Destination
  /** Connections beyond are closed at once. Default: 16384. */
  readonly maxConnections?: number
  /** Associations beyond are refused with "general failure". Default: 1024. */
  readonly maxAssociations?: number
  /** Milliseconds for the handshake, from the accept to the request. Default: 10,000. */
  readonly handshakeTimeoutMs?: number
  /** Milliseconds until a destination that does not answer is called unreachable. Default: 10,000. */
  readonly connectTimeoutMs?: number
}

export interface SocksCounters {
  /** Control connections taken, ever; of these: */
  connections: number
  connects: number
  associates: number
  /** Wrong user or password, or no method in common. */
  unauthenticated: number
  /** Requests that got a reply other than "succeeded". */
  refused: number
  /** Now. */
  liveConnections: number
  liveAssociations: number
  /** Payload, client to destination and back. */
  bytesUp: number
  bytesDown: number
  datagramsUp: number
  datagramsDown: number
  datagramsDropped: number
}

/** What a request needs of the server that it came to. */
export interface SocksContext {
  readonly options: SocksServerOptions
  readonly counters: SocksCounters
}

export function newCounters(): SocksCounters {
  return {
    connections: 0,
    connects: 0,
    associates: 0,
    unauthenticated: 0,
    refused: 0,
    liveConnections: 0,
    liveAssociations: 0,
    bytesUp: 0,
    bytesDown: 0,
    datagramsUp: 0,
    datagramsDown: 0,
    datagramsDropped: 0,
  }
}

/** Answers with a failure and closes, as RFC 1928 §6 asks for. */
export function refuse(client: Socket, context: SocksContext, reply: Reply): void {
  context.counters.refused++
  endInOrder(client, replyMessage(reply, { address: new Uint8Array(4), port: 0 }))
}

/** Seconds are plenty for a client to see the last words; then the connection goes, read or not. */
const LAST_WORDS_MS = 5000

/** Unread bytes at close() would turn the FIN into RST, which may overtake the answer: so they are read and forgotten. */
export function endInOrder(client: Socket, answer: Uint8Array): void {
  client.end(answer)
  client.resume()
  client.setTimeout(LAST_WORDS_MS, () => client.destroy())
}

export function replyMessage(reply: Reply, bound: Destination): Uint8Array {
  const bytes = Buffer.allocUnsafe(MAX_HANDSHAKE_MESSAGE_BYTES)
  return bytes.subarray(0, encodeReply(bytes, 0, reply, bound))
}

/** An address as Node gives it: without a zone, and IPv4 where a dual-stack socket says `::ffff:1.2.3.4`. */
export function plainAddress(text: string | undefined): string {
  const bare = (text ?? '0.0.0.0').replace(/%.*$/, '')
  return bare.startsWith('::ffff:') && bare.includes('.') ? bare.slice('::ffff:'.length) : bare
}

/** The host of a destination, in the form that Node's sockets take. */
export function hostText(destination: Destination): string {
  return 'name' in destination ? destination.name : formatAddress(destination.address)
}

/** Bytes that may wait in one direction of a connection before its source is not read any more. */
export const STREAM_BUFFER_BYTES = 512 << 10
