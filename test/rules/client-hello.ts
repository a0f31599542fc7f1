/** ClientHello messages: real ones, as node:tls sends them, and made ones, byte by byte. */
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect } from 'node:tls'

/** The first flight of a TLS client: its ClientHello in records. */
export function realHello(options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk)
        done()
        // the first write happens within connect()
        setImmediate(() => client.destroy())
      },
    })
    const client = connect({ ...options, socket: wire })
    client.on('error', reject)
  })
}

export const uint16 = (value: number) => [value >> 8, value & 255]
const sized8 = (bytes: readonly number[]) => [bytes.length, ...bytes]
export const sized16 = (bytes: readonly number[]) => [...uint16(bytes.length), ...bytes]
const ascii = (text: string) => [...Buffer.from(text, 'latin1')]

/** Extension `server_name` with one host_name. */
export const sni = (name: string) => extension(0, sized16([0, ...sized16(ascii(name))]))
export const extension = (type: number, body: readonly number[]) => [...uint16(type), ...sized16(body)]

/** A message with these extensions; undefined: none, not even their length. */
export function hello(extensions: readonly number[] | undefined, session: readonly number[] = []): number[] {
  const body = [
    ...[3, 3],
    ...Array<number>(32).fill(7),
    ...sized8(session),
    ...sized16([0x0a, 0x0a, 0x13, 0x01]),
    ...sized8([0]),
    ...(extensions === undefined ? [] : sized16(extensions)),
  ]
  return [1, 0, ...sized16(body)]
}

/** The message in records of at most `size` bytes. */
export function records(message: readonly number[], size = 16_384): Buffer {
  const bytes: number[] = []
  for (let at = 0; at < message.length; at += size) bytes.push(22, 3, 1, ...sized16(message.slice(at, at + size)))
  return Buffer.from(bytes)
}
