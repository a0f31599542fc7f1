/** A SOCKS5 proxy (RFC 1928) that is its own destination: what the gateway relays ends here, in the hands of the script. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'

/** The port of destinations that the proxy refuses. */
export const REFUSED_PORT = 1

const GREETING_BYTES = 2
const REQUEST_IPV4_BYTES = 10
const CONNECT = 1
const REPLY_REFUSED = 5
/** RFC 1928 §7: reserved, fragment, address type, IPv4 address, port. */
const UDP_HEADER_BYTES = 10

export class Stream {
  receivedBytes = 0
  ended = false
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('end', () => {
      this.ended = true
    })
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  end(): void {
    this.#socket.end()
  }
}

export class Upstream {
  /** Oldest first; the script takes them out. */
  readonly streams: Stream[] = []
  /** The relay of the newest association. */
  relay: UdpSocket | undefined
  relayedDatagrams = 0
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#serve(socket))
  }

  static async listen(): Promise<Upstream> {
    const upstream = new Upstream()
    upstream.#server.listen(0, '127.0.0.1', 1024)
    await once(upstream.#server, 'listening')
    return upstream
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket)
    let handshake = Buffer.alloc(0)
    let isGreeted = false
    let stream: Stream | undefined
    socket.on('error', () => undefined)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('data', chunk => {
      if (stream !== undefined) {
        stream.receivedBytes += chunk.length
        return
      }
      handshake = Buffer.concat([handshake, chunk])
      const greeting = GREETING_BYTES + (handshake[1] ?? 0)
      if (!isGreeted && handshake.length >= greeting) {
        isGreeted = true
        handshake = handshake.subarray(greeting)
        socket.write(Uint8Array.of(5, 0))
      }
      if (!isGreeted || handshake.length < REQUEST_IPV4_BYTES) return
      stream = new Stream(socket)
      this.#answer(socket, stream, handshake)
    })
  }

  #answer(socket: Socket, stream: Stream, request: Buffer): void {
    if (request[1] !== CONNECT) return this.#associate(socket)
    const isRefused = request.readUInt16BE(8) === REFUSED_PORT
    socket.write(Uint8Array.of(5, isRefused ? REPLY_REFUSED : 0, 0, 1, 0, 0, 0, 0, 0, 0))
    if (isRefused) socket.end()
    else this.streams.push(stream)
  }

  #associate(control: Socket): void {
    const relay = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
    control.on('close', () => relay.close())
    control.on('end', () => control.end())
    relay.on('message', (_message, from) => {
      // only with connect() does a send() leave at once
      if (this.relayedDatagrams++ === 0 || relay !== this.relay) relay.connect(from.port, from.address)
      this.relay = relay
    })
    relay.bind(0, '127.0.0.1', () => {
      const reply = Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 0])
      reply.writeUInt16BE(relay.address().port, 8)
      control.write(reply)
    })
  }

  /** A datagram that comes from `port` of 203.0.113.7. */
  sendDatagram(port: number, payload: Uint8Array): void {
    const header = Buffer.from([0, 0, 0, 1, 203, 0, 113, 7, 0, 0])
    header.writeUInt16BE(port, UDP_HEADER_BYTES - 2)
    this.relay!.send(Buffer.concat([header, payload]))
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}
