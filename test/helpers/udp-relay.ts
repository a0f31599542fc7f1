/** A UDP relay (RFC 1928 §7) for a script of bad-socks.ts, sound or with a fault. IPv4 towards the client. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { parseAddress } from '../../src/endpoint.ts'
import type { Connection } from './bad-socks.ts'

/** Sources that no datagram for a client may have. */
export const FORGED_SOURCES = [
  '0.0.0.0',
  '0.1.2.3',
  '127.0.0.1',
  '127.255.0.9',
  '224.0.0.1',
  '239.1.2.3',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:203.0.113.7',
  'ff02::1',
] as const

export function headed(source: string, port: number, payload: Uint8Array, fragment = 0): Buffer {
  const address = parseAddress(source)!
  const type = address.length === 4 ? 1 : 4
  return Buffer.concat([Uint8Array.of(0, 0, fragment, type), address, Uint8Array.of(port >> 8, port & 255), payload])
}

/** What a relay sends back for a datagram, the header included, in place of asking anybody; the last is the sound answer. */
const ANSWERS = {
  echo: (datagram: Buffer) => [datagram],
  fragments: datagram => [1, 2, 0x81].map(fragment => withByte(datagram, 2, fragment)).concat(datagram),
  truncated: datagram => [...Array(10).keys()].map(length => datagram.subarray(0, length)).concat(datagram),
  names: datagram => [Buffer.from([0, 0, 0, 3, 4, ...Buffer.from('name'), 0, 7, 1]), datagram],
  'address types': datagram => [0, 2, 5, 255].map(type => withByte(datagram, 3, type)).concat(datagram),
  'forged sources': datagram => FORGED_SOURCES.map(source => headed(source, 7, Uint8Array.of(1))).concat(datagram),
} as const satisfies Record<string, (datagram: Buffer) => Buffer[]>

function withByte(datagram: Buffer, at: number, byte: number): Buffer {
  const other = Buffer.from(datagram)
  other[at] = byte
  return other
}

export type RelayAnswer = keyof typeof ANSWERS | 'full cone' | 'strangers' | { readonly forged: string }

/** Where the reply says that the relay is. */
export const RELAY_PLACES = {
  own: (host: string, port: number) => place(host, port),
  zeros: (_: string, port: number) => place('0.0.0.0', port),
  'zeros of IPv6': (_: string, port: number) => place('::', port),
  loopback: (_: string, port: number) => place('127.0.0.1', port),
  multicast: (_: string, port: number) => place('239.1.2.3', port),
  'port 0': (host: string) => place(host, 0),
  name: (host: string, port: number) => [3, host.length, ...Buffer.from(host), port >> 8, port & 255],
} as const

export type RelayPlace = keyof typeof RELAY_PLACES | { readonly at: string }

function place(host: string, port: number): number[] {
  const address = parseAddress(host)!
  return [address.length === 4 ? 1 : 4, ...address, port >> 8, port & 255]
}

/** Replies to an ASSOCIATE, and relays as long as the connection lives. Any other command gets 7. */
export function relay(answer: RelayAnswer, where: RelayPlace = 'own') {
  return async ({ socket: control, host, message, outgoingPorts }: Connection): Promise<void> => {
    if (message[1] !== 3) {
      control.end(Uint8Array.of(5, 7, 0, 1, 0, 0, 0, 0, 0, 0))
      return
    }
    const at = typeof where === 'object' ? where.at : host
    const inner = await bound(control, at)
    const outer = await bound(control, host)
    outgoingPorts.push(outer.address().port)
    const { port } = inner.address()
    serve(inner, outer, answer)
    const bytes = typeof where === 'object' ? place(at, port) : RELAY_PLACES[where](host, port)
    control.write(Uint8Array.from([5, 0, 0, ...bytes]))
  }
}

async function bound(control: Connection['socket'], host: string): Promise<UdpSocket> {
  const socket = createSocket('udp4')
  socket.on('error', () => control.destroy())
  control.on('close', () => socket.close())
  socket.bind(0, host)
  await once(socket, 'listening')
  return socket
}

function serve(inner: UdpSocket, outer: UdpSocket, answer: RelayAnswer): void {
  let client: RemoteInfo | undefined
  inner.on('message', (datagram, from) => {
    client = from
    const reply = (bytes: Uint8Array) => inner.send(bytes, from.port, from.address)
    if (answer === 'full cone') {
      const isPlain = datagram.readUInt16BE(0) === 0 && datagram[2] === 0 && datagram[3] === 1
      if (isPlain) outer.send(datagram.subarray(10), datagram.readUInt16BE(8), datagram.subarray(4, 8).join('.'))
    } else if (answer === 'strangers') {
      outer.send(datagram, from.port, from.address, () => reply(datagram))
    } else if (typeof answer === 'object') {
      reply(headed(answer.forged, 7, Uint8Array.of(1)))
      reply(datagram)
    } else for (const bytes of ANSWERS[answer](datagram)) reply(bytes)
  })
  outer.on('message', (message, from) => {
    if (client !== undefined) inner.send(headed(from.address, from.port, message), client.port, client.address)
  })
}
