/**
 * A SOCKS5 server of its own for proving full cone: UDP ASSOCIATE over IPv4 and nothing else. It shares no line with the
 * product, neither codec nor relay: what both got wrong in the same way would not be seen otherwise.
 */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'

export interface FullConeRelay {
  readonly port: number
  /** Ports of the outgoing sockets, in the order of the associations: what peers see, and may send to unasked. */
  readonly outgoingPorts: readonly number[]
  close(): Promise<void>
}

export async function startFullConeRelay(host = '127.0.0.1'): Promise<FullConeRelay> {
  const outgoingPorts: number[] = []
  const closers = new Set<() => void>()
  const server = createServer(control => {
    const inner = createSocket('udp4')
    const outer = createSocket('udp4')
    let client: { address: string; port: number } | undefined
    let bytes = Buffer.alloc(0)
    let greeted = false

    const end = () => {
      if (!closers.delete(end)) return
      control.destroy()
      inner.close()
      outer.close()
    }
    closers.add(end)
    control.on('error', end)
    control.on('close', end)
    inner.on('error', end)
    outer.on('error', end)

    inner.on('message', (message, from) => {
      client = from
      const plain = message.readUInt16BE(0) === 0 && message[2] === 0 && message[3] === 1
      if (plain) outer.send(message.subarray(10), message.readUInt16BE(8), message.subarray(4, 8).join('.'))
    })
    outer.on('message', (message, from) => {
      if (!client) return
      const header = Buffer.from([0, 0, 0, 1, ...from.address.split('.').map(Number), 0, 0])
      header.writeUInt16BE(from.port, 8)
      inner.send(Buffer.concat([header, message]), client.port, client.address)
    })

    control.on('data', chunk => {
      bytes = Buffer.concat([bytes, chunk])
      if (!greeted && bytes.length >= 2 && bytes.length >= 2 + bytes[1]!) {
        greeted = true
        bytes = bytes.subarray(2 + bytes[1]!)
        control.write(Buffer.from([5, 0]))
      }
      // 4 bytes of head, then an IPv4 (6) or IPv6 (18) endpoint.
      const whole = greeted && bytes.length >= 4 && bytes.length >= (bytes[3] === 4 ? 22 : 10)
      if (!whole) return
      const isAssociate = bytes[1] === 3
      bytes = Buffer.alloc(0)
      if (!isAssociate) {
        control.end(Buffer.from([5, 7, 0, 1, 0, 0, 0, 0, 0, 0]))
        return
      }
      outer.bind(0, host, () => {
        outgoingPorts.push(outer.address().port)
        inner.bind(0, host, () => {
          const reply = Buffer.from([5, 0, 0, 1, ...host.split('.').map(Number), 0, 0])
          reply.writeUInt16BE(inner.address().port, 8)
          control.write(reply)
        })
      })
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, host, resolve)
  })
  const address = server.address()
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => resolve())
      for (const end of closers) end()
    })
  return { port: typeof address === 'object' && address ? address.port : 0, outgoingPorts, close }
}
