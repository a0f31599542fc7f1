/** CONNECT of the embedded SOCKS5 server: dial, say truthfully how it went, then carry bytes, ends and resets both ways. */
import { Socket, type SocketConstructorOpts } from 'node:net'
import { type Destination, parseAddress } from '../endpoint.ts'
import { Reply } from '../upstream/socks5/socks5-codec.ts'
import {
  hostText,
  plainAddress,
  refuse,
  replyMessage,
  type SocksContext,
  STREAM_BUFFER_BYTES,
} from './socks-context.ts'

/** Bytes asked of the kernel at once; Node's own reads are 64 KiB, each into new memory. */
const READ_BYTES = 128 << 10

/** `early`: what the client sent behind its request. */
export function connectThrough(client: Socket, context: SocksContext, destination: Destination, early: Buffer): void {
  const { options, counters } = context
  let buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  const upstream = new Socket({
    allowHalfOpen: true,
    highWaterMark: STREAM_BUFFER_BYTES,
    onread: {
      buffer: () => buffer,
      callback: (length: number) => {
        counters.bytesDown += length
        const more = client.write(buffer.subarray(0, length))
        // What the kernel did not take at once still stands in the buffer.
        if (client.writableLength > 0) buffer = Buffer.allocUnsafeSlow(READ_BYTES)
        return more
      },
    },
  } as SocketConstructorOpts)
  upstream.setNoDelay(true).connect(destination.port, hostText(destination))
  const timer = setTimeout(() => fail(Reply.hostUnreachable), options.connectTimeoutMs ?? 10_000)
  client.pause()
  if (early.length > 0) client.unshift(early)

  function fail(reply: Reply): void {
    clearTimeout(timer)
    client.off('close', abandon)
    upstream.destroy()
    refuse(client, context, reply)
  }
  function abandon(): void {
    clearTimeout(timer)
    upstream.destroy()
  }
  function onDialError(error: NodeJS.ErrnoException): void {
    fail(replyFor(error))
  }
  client.once('close', abandon)
  upstream.once('error', onDialError)
  upstream.once('connect', () => {
    clearTimeout(timer)
    client.off('close', abandon)
    upstream.off('error', onDialError)
    const address = parseAddress(plainAddress(upstream.localAddress)) ?? new Uint8Array(4)
    client.write(replyMessage(Reply.succeeded, { address, port: upstream.localPort ?? 0 }))
    client.on('data', chunk => {
      counters.bytesUp += chunk.length
      if (!upstream.write(chunk)) client.pause()
    })
    forward(client, upstream)
    forward(upstream, client)
  })
}

/** RFC 1928 §6 knows no "timed out": whom nobody could reach is unreachable. */
function replyFor(error: NodeJS.ErrnoException): Reply {
  switch (error.code) {
    case 'ECONNREFUSED':
      return Reply.refused
    case 'EHOSTUNREACH':
    case 'EHOSTDOWN':
    case 'ETIMEDOUT':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return Reply.hostUnreachable
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return Reply.netUnreachable
    case 'EACCES':
    case 'EPERM':
      return Reply.prohibited
    case 'EAFNOSUPPORT':
      return Reply.addressUnsupported
    default:
      return Reply.generalFailure
  }
}

/**
 * One direction, apart from the bytes. The end of `from` becomes the end of `to`; a reset, and every other error, becomes a reset. Node sees
 * no reset of a socket that is paused or has ended before something is written to it: it is forwarded then.
 */
function forward(from: Socket, to: Socket): void {
  to.on('drain', () => from.resume())
  if (from.readableEnded)
    to.end() // a client may end while its destination is being dialed
  else from.on('end', () => to.end())
  from.on('error', () => to.resetAndDestroy())
  from.on('close', () => {
    const inOrder = from.readableEnded && from.writableFinished
    if (!inOrder) to.resetAndDestroy()
  })
  from.resume()
}
