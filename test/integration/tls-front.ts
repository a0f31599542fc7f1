/** TLS, or a Unix socket, in front of a proxy that has neither: functions of a process in a namespace (agent.ts). */
import { once } from 'node:events'
import { createServer as createHttpsServer } from 'node:https'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import { listenOn } from '../../src/demo/listening.ts'
import { keepListening } from './server-ends.ts'

export interface TlsFrontOptions {
  readonly host: string
  readonly port: number
  /** Where the proxy listens. */
  readonly to: { readonly host: string; readonly port: number }
  readonly cert: string
  readonly key: string
  /** Clients must have a certificate of this authority. */
  readonly clientAuthority?: string
}

/** Connections of all fronts, below TLS. */
const open = new Set<Socket>()

function relay(client: Duplex, { host, port }: TlsFrontOptions['to']): void {
  const proxy = connect({ host, port, allowHalfOpen: true, noDelay: true })
  client.on('error', () => proxy.resetAndDestroy())
  proxy.on('error', () => client.destroy())
  client.on('close', () => client.readableEnded || proxy.destroy())
  proxy.on('close', () => proxy.readableEnded || client.destroy())
  client.pipe(proxy).pipe(client)
}

function keep(name: string, server: Server): void {
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => open.delete(socket))
  })
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => resolve())
      for (const socket of open) socket.destroy()
    })
  keepListening(name, { close })
}

/** Until `stop('tls-front')`. */
export async function startTlsFront({ host, port, to, cert, key, clientAuthority }: TlsFrontOptions): Promise<void> {
  const asks = clientAuthority === undefined ? {} : { requestCert: true, ca: [clientAuthority] }
  const server = createTlsServer({ cert, key, ...asks, allowHalfOpen: true, noDelay: true }, client =>
    relay(client, to),
  )
  keep('tls-front', server)
  await listenOn(server, host, port)
}

/** Until `stop('unix-front')`. */
export async function startUnixFront(path: string, to: TlsFrontOptions['to']): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, client => relay(client, to))
  keep('unix-front', server)
  server.listen(path)
  await once(server, 'listening')
}

/** FIN on each connection, without the word of TLS for an end. How many there were. */
export async function cutFronts(): Promise<number> {
  const sockets = [...open]
  for (const socket of sockets) socket.end()
  return sockets.length
}

/** A resolver that is spoken to by HTTPS (RFC 8484), in front of one that takes TCP. Until `stop('https-resolver')`. */
export async function startHttpsResolver({ host, port, to, cert, key }: TlsFrontOptions): Promise<void> {
  const server = createHttpsServer({ cert, key }, (request, response) => {
    const resolver = connect({ ...to, noDelay: true })
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const query = Buffer.concat(parts)
      resolver.write(Buffer.concat([Uint8Array.of(query.length >> 8, query.length & 255), query]))
    })
    let answer = Buffer.alloc(0)
    resolver.on('error', () => response.destroy())
    resolver.on('data', part => {
      answer = Buffer.concat([answer, part])
      if (answer.length < 2 || answer.length < 2 + answer.readUInt16BE(0)) return
      resolver.destroy()
      response.setHeader('Content-Type', 'application/dns-message')
      response.end(answer.subarray(2))
    })
  })
  keep('https-resolver', server)
  await listenOn(server, host, port)
}
