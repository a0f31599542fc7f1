/**
 * The embedded SOCKS5 server (RFC 1928, RFC 1929): CONNECT and UDP ASSOCIATE, with truthful replies. The demo and the
 * tests have an upstream with it, without another program.
 *
 * Way of a connection: greeting, authentication when users are asked for, request; then socks-connect.ts or
 * socks-associate.ts takes over. Messages may come in any pieces, or all at once.
 */
import { createServer, type Socket } from 'node:net'
import type { Destination } from '../endpoint.ts'
import {
  AddressType,
  addressFields,
  Command,
  MALFORMED,
  MAX_HANDSHAKE_MESSAGE_BYTES,
  Method,
  parseAuth,
  parseGreeting,
  parseRequest,
  Reply,
} from '../upstream/socks5/socks5-codec.ts'
import { listenOn } from './listening.ts'
import { associate } from './socks-associate.ts'
import { connectThrough } from './socks-connect.ts'
import {
  endInOrder,
  newCounters,
  refuse,
  type SocksContext,
  type SocksCounters,
  type SocksServerOptions,
  STREAM_BUFFER_BYTES,
} from './socks-context.ts'

export type { SocksCounters, SocksServerOptions } from './socks-context.ts'

export interface SocksServer {
  readonly host: string
  readonly port: number
  readonly counters: Readonly<SocksCounters>
  /** Ends the listener, every connection and every association. Idempotent. */
  close(): Promise<void>
}

export async function startSocksServer(options: SocksServerOptions = {}): Promise<SocksServer> {
  const host = options.host ?? '127.0.0.1'
  const context: SocksContext = { options, counters: newCounters() }
  const credentials = encodeCredentials(options)
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: STREAM_BUFFER_BYTES }, client => {
    open.add(client)
    context.counters.connections++
    context.counters.liveConnections++
    client.on('close', () => {
      open.delete(client)
      context.counters.liveConnections--
    })
    negotiate(client, context, credentials)
  })
  server.maxConnections = options.maxConnections ?? 16384
  const port = await listenOn(server, host, options.port ?? 0)
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= new Promise(resolve => {
      server.close(() => resolve())
      for (const client of open) client.destroy()
    })
    return closing
  }
  return { host, port, counters: context.counters, close }
}

interface Credentials {
  readonly username: Buffer
  readonly password: Buffer
}

function encodeCredentials({ username, password }: SocksServerOptions): Credentials | undefined {
  if (username === undefined && password === undefined) return undefined
  const encoded = { username: Buffer.from(username ?? ''), password: Buffer.from(password ?? '') }
  for (const field of [encoded.username, encoded.password])
    if (field.length < 1 || field.length > 255) throw new RangeError('user name and password are 1 to 255 bytes each')
  return encoded
}

type Stage = 'greeting' | 'authentication' | 'request' | 'done'

/** Reads the handshake from `client`, one stage after the other, and hands the request over. */
function negotiate(client: Socket, context: SocksContext, credentials: Credentials | undefined): void {
  const { counters } = context
  let stage: Stage = 'greeting'
  let pending: Buffer = Buffer.alloc(0)
  const timer = setTimeout(() => client.destroy(), context.options.handshakeTimeoutMs ?? 10_000)

  const stages: Record<Exclude<Stage, 'done'>, () => number> = {
    greeting() {
      const offer = { offersNone: false, offersPassword: false }
      const used = parseGreeting(pending, 0, pending.length, offer)
      if (used <= 0) return used
      const acceptable = credentials ? offer.offersPassword : offer.offersNone
      if (!acceptable) return rejectClient(Uint8Array.of(5, Method.unacceptable))
      stage = credentials ? 'authentication' : 'request'
      client.write(Uint8Array.of(5, credentials ? Method.password : Method.none))
      return used
    },
    authentication() {
      const fields = { usernameAt: 0, usernameLength: 0, passwordAt: 0, passwordLength: 0 }
      const used = parseAuth(pending, 0, pending.length, fields)
      if (used <= 0) return used
      const username = pending.subarray(fields.usernameAt, fields.usernameAt + fields.usernameLength)
      const password = pending.subarray(fields.passwordAt, fields.passwordAt + fields.passwordLength)
      const known = credentials?.username.equals(username) && credentials.password.equals(password)
      if (!known) return rejectClient(Uint8Array.of(1, 1))
      stage = 'request'
      client.write(Uint8Array.of(1, 0))
      return used
    },
    request() {
      const fields = { command: -1, ...addressFields() }
      const used = parseRequest(pending, 0, pending.length, fields)
      if (used > 0) {
        finish()
        serve(client, context, fields.command, readDestination(pending, fields), pending.subarray(used))
      } else if (used === MALFORMED && fields.addressType >= 0) {
        finish()
        refuse(client, context, Reply.addressUnsupported)
        return 0
      }
      return used
    },
  }

  function onData(chunk: Buffer): void {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    while (stage !== 'done') {
      const used = stages[stage]()
      if (used === MALFORMED) client.destroy()
      if (used <= 0) break
      pending = pending.subarray(used)
    }
    const waiting = stage !== 'done' && pending.length > MAX_HANDSHAKE_MESSAGE_BYTES
    if (waiting) client.destroy()
  }

  function finish(): void {
    stage = 'done'
    clearTimeout(timer)
    client.off('data', onData)
    client.off('end', onEnd)
  }

  function rejectClient(answer: Uint8Array): number {
    counters.unauthenticated++
    finish()
    endInOrder(client, answer)
    return 0
  }

  function onEnd(): void {
    client.destroy()
  }

  client.on('data', onData)
  client.on('end', onEnd)
  client.on('close', () => clearTimeout(timer))
  // What 'close' then does is all there is to do; a relay adds its own listener, which looks at the error.
  client.on('error', () => client.destroy())
}

function readDestination(bytes: Buffer, fields: ReturnType<typeof addressFields>): Destination {
  const address = bytes.subarray(fields.addressAt, fields.addressAt + fields.addressLength)
  if (fields.addressType === AddressType.name) return { name: address.toString('utf8'), port: fields.port }
  return { address: Uint8Array.from(address), port: fields.port }
}

function serve(client: Socket, context: SocksContext, command: number, destination: Destination, early: Buffer): void {
  const { options, counters } = context
  const forced = options.reply?.(destination)
  if (forced !== undefined) refuse(client, context, forced)
  else if (command === Command.connect) {
    counters.connects++
    connectThrough(client, context, options.rewrite?.(destination) ?? destination, early)
  } else if (command === Command.udpAssociate && options.udp !== false) {
    counters.associates++
    associate(client, context)
  } else refuse(client, context, Reply.commandUnsupported)
}
