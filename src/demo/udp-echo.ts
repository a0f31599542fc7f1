/** A UDP echo: each datagram goes back to its sender as it came, 0 to 65,507 bytes. */
import { createSocket, type Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import { type Listening, listenOnOnePort } from './listening.ts'

export interface UdpEchoOptions {
  /** IP addresses to listen on. Default: 127.0.0.1. */
  readonly hosts?: readonly string[]
  /** Default 0: a free port, the same on all hosts. */
  readonly port?: number
}

/** Bytes waiting to be sent beyond which an answer is dropped, as a router would. */
const MAX_QUEUED_BYTES = 4 << 20
const SOCKET_BUFFER_BYTES = 4 << 20

export function startUdpEcho(options: UdpEchoOptions = {}): Promise<Listening> {
  const hosts = options.hosts ?? ['127.0.0.1']
  const openers = hosts.map(host => (port: number) => bindUdp(host, port, echo))
  return listenOnOnePort(openers, options.port ?? 0)
}

function echo(socket: Socket, message: Buffer, port: number, address: string): void {
  if (socket.getSendQueueSize() > MAX_QUEUED_BYTES) return
  // The callback takes the error of this one datagram, which is lost like any other; without it the socket would fail.
  socket.send(message, port, address, () => undefined)
}

/** A UDP socket that gives each datagram to `receive`. Its buffers are as large as the kernel allows, 4 MiB at most. */
export async function bindUdp(
  host: string,
  port: number,
  receive: (socket: Socket, message: Buffer, port: number, address: string) => void,
): Promise<Listening> {
  const type = isIPv6(host) ? 'udp6' : 'udp4'
  const socket = createSocket({ type, ipv6Only: type === 'udp6', lookup: literalLookup })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, host, () => {
      socket.off('error', reject)
      resolve()
    })
  })
  socket.setRecvBufferSize(SOCKET_BUFFER_BYTES)
  socket.setSendBufferSize(SOCKET_BUFFER_BYTES)
  // An ICMP error of one receiver is no reason to stop serving the others.
  socket.on('error', () => undefined)
  socket.on('message', (message, peer) => receive(socket, message, peer.port, peer.address))
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= new Promise(resolve => socket.close(resolve))
    return closing
  }
  return { port: socket.address().port, close }
}

type LookupCallback = (error: NodeJS.ErrnoException | null, address: string, family: number) => void

/** For sockets that are only ever given IP addresses: spares each datagram the turn of the loop that dns.lookup costs. */
export function literalLookup(host: string, options: unknown, callback?: LookupCallback): void {
  const done = (callback ?? options) as LookupCallback
  done(null, host, isIPv6(host) ? 6 : 4)
}
