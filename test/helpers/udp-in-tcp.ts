/**
 * UDP in TCP as hev-socks5-server speaks it, for a script of bad-socks.ts, sound or with a fault. It shares no line with the
 * product: MSGLEN (2 bytes, of the payload), HDRLEN (1, of all before the payload), ATYP, address, port, payload.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import type { Socket } from 'node:net'
import { parseAddress } from '../../src/endpoint.ts'
import type { Connection } from './bad-socks.ts'

export interface Frame {
  readonly host: string
  readonly port: number
  readonly payload: Buffer
}

export function frame(host: string, port: number, payload: Uint8Array): Buffer {
  const address = parseAddress(host)!
  const head = [payload.length >> 8, payload.length & 255, address.length + 6, address.length === 4 ? 1 : 4]
  return Buffer.concat([Uint8Array.from(head), address, Uint8Array.of(port >> 8, port & 255), payload])
}

/** The whole frames that `bytes` begins with, and how many bytes they are. */
export function framesIn(bytes: Buffer): { frames: Frame[]; used: number } {
  const frames: Frame[] = []
  let used = 0
  for (;;) {
    const rest = bytes.subarray(used)
    const header = rest[2] ?? 0
    const end = header + (rest.length < 2 ? 0 : rest.readUInt16BE(0))
    if (header === 0 || rest.length < end) return { frames, used }
    if (rest[3] !== 1 && rest[3] !== 4) throw new Error(`frame ${frames.length} has the address type ${rest[3]}`)
    const address = rest.subarray(4, header - 2)
    const host = rest[3] === 1 ? address.join('.') : address.toString('hex')
    frames.push({ host, port: rest.readUInt16BE(header - 2), payload: rest.subarray(header, end) })
    used += end
  }
}

export type UdpInTcp =
  /** Asks whom it is told to ask, by IPv4. */
  | 'full cone'
  /** Sends each frame back. */
  | 'echo'
  /** The same, byte by byte. */
  | 'drip'

/** Replies to command 5 and serves frames as long as the connection lives. Any other command gets 7. */
export function udpInTcp(how: UdpInTcp = 'full cone') {
  return ({ socket, message, outgoingPorts }: Connection): void => {
    if (message[1] !== 5) {
      socket.end(Uint8Array.of(5, 7, 0, 1, 0, 0, 0, 0, 0, 0))
      return
    }
    socket.write(Uint8Array.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    const outer = how === 'full cone' ? opened(socket, outgoingPorts) : undefined
    let came = Buffer.alloc(0)
    socket.on('data', chunk => {
      came = Buffer.concat([came, chunk])
      const { frames, used } = framesIn(came)
      if (outer !== undefined) for (const { host, port, payload } of frames) outer.send(payload, port, host)
      else sendBack(socket, came.subarray(0, used), how === 'drip' ? 1 : used)
      came = came.subarray(used)
    })
  }
}

function opened(socket: Socket, outgoingPorts: number[]): UdpSocket {
  const outer = createSocket('udp4')
  outer.on('error', () => socket.destroy())
  socket.on('close', () => outer.close())
  outer.on('message', (message, { address, port }) => socket.write(frame(address, port, message)))
  outer.bind(0, () => outgoingPorts.push(outer.address().port))
  return outer
}

function sendBack(socket: Socket, bytes: Buffer, piece: number): void {
  for (let at = 0; at < bytes.length; at += piece) socket.write(bytes.subarray(at, at + piece))
}
