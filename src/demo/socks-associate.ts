/**
 * UDP ASSOCIATE of the embedded SOCKS5 server: a full-cone relay (RFC 4787: endpoint-independent mapping and filtering).
 *
 * An association has one relay socket towards its client and one outgoing socket per address family, so every peer sees
 * the same port and every peer's datagrams come back. A destination that is rewritten has an outgoing socket of its own:
 * only so its answers can carry the address that the client asked for.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { lookup } from 'node:dns'
import { isIPv6, type Socket } from 'node:net'
import { type Destination, type IpEndpoint, parseAddress } from '../endpoint.ts'
import {
  AddressType,
  addressFields,
  encodeUdpHeader,
  MALFORMED,
  parseUdpHeader,
  Reply,
  UDP_HEADER_BYTES_IPV6,
  type UdpFields,
} from '../upstream/socks5/socks5-codec.ts'
import { hostText, plainAddress, refuse, replyMessage, type SocksContext } from './socks-context.ts'
import { literalLookup } from './udp-echo.ts'

/** Bytes that may wait to be sent; a datagram that comes then is dropped. */
const MAX_QUEUED_BYTES = 4 << 20
const SOCKET_BUFFER_BYTES = 4 << 20
/** Destinations remembered by an association; when it knows more, it forgets all and learns anew. */
const MAX_ROUTES = 1024
/** Own sockets for rewritten destinations; the oldest goes first. */
const MAX_OWN_SOCKETS = 64
/** A UDP payload over IPv4: 65,535 less 20 bytes of IP and 8 of UDP. */
const MAX_DATAGRAM_BYTES = 65_507

export function associate(client: Socket, context: SocksContext): void {
  const { counters, options } = context
  if (counters.liveAssociations >= (options.maxAssociations ?? 1024)) {
    refuse(client, context, Reply.generalFailure)
    return
  }
  counters.liveAssociations++
  const association = new Association(client, context)
  client.once('close', () => {
    counters.liveAssociations--
    association.close()
  })
  // The association lives as long as the control connection (RFC 1928 §7); what is said on it means nothing.
  client.on('end', () => client.destroy())
  client.setKeepAlive(true, 30_000)
  client.resume()
}

interface Route {
  readonly socket: UdpSocket
  readonly host: string
  readonly port: number
}

class Association {
  readonly #context: SocksContext
  readonly #clientAddress: string
  readonly #relay: UdpSocket
  /** Outgoing sockets shared by all destinations, by family. */
  readonly #shared = new Map<'udp4' | 'udp6', UdpSocket>()
  /** Outgoing sockets of rewritten destinations, by the header that asked for them. */
  readonly #own = new Map<string, UdpSocket>()
  /** By the address and port bytes of the header; undefined while a name is looked up. */
  readonly #routes = new Map<string, Route | undefined>()
  readonly #fields: UdpFields = { fragment: 0, ...addressFields() }
  #clientPort = 0
  #closed = false

  constructor(control: Socket, context: SocksContext) {
    this.#context = context
    this.#clientAddress = plainAddress(control.remoteAddress)
    const host = plainAddress(control.localAddress)
    this.#relay = newSocket(isIPv6(host) ? 'udp6' : 'udp4')
    this.#relay.once('error', () => {
      if (!this.#closed) refuse(control, context, Reply.generalFailure)
    })
    this.#relay.bind(0, host, () => {
      if (this.#closed) return
      this.#relay.removeAllListeners('error').on('error', () => this.#drop())
      enlarge(this.#relay)
      const { port } = this.#relay.address()
      const told = context.options.relayAddress ?? { address: parseAddress(host) ?? new Uint8Array(4), port }
      control.write(replyMessage(Reply.succeeded, { ...told, port: told.port || port }))
    })
    this.#relay.on('message', (message, peer) => this.#fromClient(message, peer.address, peer.port))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#relay.close()
    for (const socket of this.#shared.values()) socket.close()
    for (const socket of this.#own.values()) socket.close()
    this.#routes.clear()
  }

  #fromClient(message: Buffer, address: string, port: number): void {
    if (plainAddress(address) !== this.#clientAddress) {
      this.#drop()
      return
    }
    const headerBytes = parseUdpHeader(message, 0, message.length, this.#fields)
    if (headerBytes === MALFORMED || this.#fields.fragment !== 0 || this.#fields.port === 0) {
      this.#drop()
      return
    }
    if (this.#clientPort === 0) this.#clientPort = port
    if (port !== this.#clientPort) {
      this.#drop()
      return
    }
    const key = message.toString('latin1', 3, headerBytes)
    const payload = message.subarray(headerBytes)
    const route = this.#routes.get(key)
    if (route) this.#send(route, payload)
    else if (this.#routes.has(key)) this.#drop()
    else this.#startRoute(key, this.#askedFor(message), payload)
  }

  #send(route: Route, payload: Buffer): void {
    const { counters } = this.#context
    if (route.socket.getSendQueueSize() > MAX_QUEUED_BYTES) {
      this.#drop()
      return
    }
    counters.datagramsUp++
    counters.bytesUp += payload.length
    route.socket.send(payload, route.port, route.host, error => {
      if (error) this.#drop()
    })
  }

  /** Finds the way to a new destination, and sends its first datagram, which alone waits while a name is looked up. */
  #startRoute(key: string, asked: Destination, first: Buffer): void {
    const { options } = this.#context
    if (options.reply?.(asked) !== undefined) {
      this.#drop()
      return
    }
    if (this.#routes.size >= MAX_ROUTES) this.#routes.clear()
    const rewritten = options.rewrite?.(asked)
    const target = rewritten ?? asked
    const open = (host: string) => {
      const route = this.#route(host, target.port, rewritten && 'address' in asked ? asked : undefined, key)
      this.#routes.set(key, route)
      this.#send(route, first)
    }
    if ('address' in target) {
      open(hostText(target))
      return
    }
    this.#routes.set(key, undefined)
    lookup(target.name, (error, address) => {
      if (this.#closed) return
      if (!error) {
        open(address)
        return
      }
      this.#routes.delete(key)
      this.#drop()
    })
  }

  #askedFor(message: Buffer): Destination {
    const { addressType, addressAt, addressLength, port } = this.#fields
    const address = message.subarray(addressAt, addressAt + addressLength)
    if (addressType === AddressType.name) return { name: address.toString('utf8'), port }
    return { address: Uint8Array.from(address), port }
  }

  #route(host: string, port: number, label: IpEndpoint | undefined, key: string): Route {
    const family = isIPv6(host) ? 'udp6' : 'udp4'
    const socket = label ? this.#ownSocket(family, label, key, host) : this.#sharedSocket(family)
    return { socket, host, port }
  }

  #sharedSocket(family: 'udp4' | 'udp6'): UdpSocket {
    const existing = this.#shared.get(family)
    if (existing) return existing
    const socket = this.#outgoing(family)
    let lastPeer = ''
    let lastPort = 0
    let header: Uint8Array = new Uint8Array(0)
    socket.on('message', (message, peer) => {
      if (peer.address !== lastPeer || peer.port !== lastPort) {
        lastPeer = peer.address
        lastPort = peer.port
        header = headerFor({ address: parseAddress(plainAddress(peer.address)) ?? new Uint8Array(4), port: peer.port })
      }
      this.#toClient(header, message)
    })
    this.#shared.set(family, socket)
    return socket
  }

  #ownSocket(family: 'udp4' | 'udp6', label: IpEndpoint, key: string, host: string): UdpSocket {
    const existing = this.#own.get(key)
    if (existing) return existing
    if (this.#own.size >= MAX_OWN_SOCKETS) {
      const [oldest, socket] = this.#own.entries().next().value!
      socket.close()
      this.#own.delete(oldest)
      this.#routes.delete(oldest)
    }
    const socket = this.#outgoing(family)
    socket.on('message', (message, peer) => {
      if (peer.address === host) this.#toClient(headerFor(label), message)
      else this.#drop()
    })
    this.#own.set(key, socket)
    return socket
  }

  #outgoing(family: 'udp4' | 'udp6'): UdpSocket {
    const socket = newSocket(family)
    socket.on('error', () => this.#drop())
    socket.bind(0, () => {
      if (!this.#closed) enlarge(socket)
    })
    return socket
  }

  #toClient(header: Uint8Array, message: Buffer): void {
    const { counters } = this.#context
    if (this.#closed || this.#clientPort === 0) {
      this.#drop()
      return
    }
    if (header.length + message.length > MAX_DATAGRAM_BYTES) {
      this.#drop()
      return
    }
    if (this.#relay.getSendQueueSize() > MAX_QUEUED_BYTES) {
      this.#drop()
      return
    }
    counters.datagramsDown++
    counters.bytesDown += message.length
    this.#relay.send([header, message], this.#clientPort, this.#clientAddress, error => {
      if (error) this.#drop()
    })
  }

  #drop(): void {
    this.#context.counters.datagramsDropped++
  }
}

function headerFor(peer: IpEndpoint): Uint8Array {
  const bytes = new Uint8Array(UDP_HEADER_BYTES_IPV6)
  return bytes.subarray(0, encodeUdpHeader(bytes, 0, peer.address, peer.port))
}

function newSocket(type: 'udp4' | 'udp6'): UdpSocket {
  return createSocket({ type, ipv6Only: type === 'udp6', lookup: literalLookup })
}

/** As large as the kernel allows, 4 MiB at most: a burst of whole datagrams is 64 KiB each. */
function enlarge(socket: UdpSocket): void {
  socket.setRecvBufferSize(SOCKET_BUFFER_BYTES)
  socket.setSendBufferSize(SOCKET_BUFFER_BYTES)
}
