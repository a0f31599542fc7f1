/** A server whose queue of connections is full: connect() to it stays under way until the gate is opened. */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { Worker } from 'node:worker_threads'
import { until } from './sockets.ts'

/** Listens with the shortest queue, and accepts nobody until the first word of `gate` is 1. */
const SERVER = `
const { createServer } = require('node:net')
const { parentPort, workerData: { gate, answer, host } } = require('node:worker_threads')
const server = createServer(socket => {
  let length = 0
  socket.on('error', () => {}).on('data', chunk => {
    length += chunk.length
    if (length === 13) socket.write(Uint8Array.from(answer))
  })
})
server.listen({ port: 0, host, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  setImmediate(() => Atomics.wait(gate, 0, 0, 10_000))
})
`
const TCP_SYN_SENT = '02'

interface Teardown {
  teardown(fn: () => unknown): void
}

export interface FullServer {
  readonly port: number
  /** Connections whose connect() is under way. */
  connecting(): number
  open(): void
}

/** @param answer to the first 13 bytes of each connection */
export async function fullServer(t: Teardown, answer: readonly number[], host = '127.0.0.1'): Promise<FullServer> {
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(SERVER, { eval: true, workerData: { gate, answer, host } })
  t.teardown(() => worker.terminate())
  const port = await new Promise<number>(resolve => worker.once('message', resolve))
  const fillers = Array.from({ length: 4 }, () => connect({ port, host }).on('error', () => undefined))
  t.teardown(() => {
    for (const filler of fillers) filler.destroy()
  })
  await until(() => connectingTo(port) > 0, 'a full queue')
  const open = () => {
    Atomics.store(gate, 0, 1)
    Atomics.notify(gate, 0)
  }
  return { port, connecting: () => connectingTo(port), open }
}

function connectingTo(port: number): number {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/self/net/tcp', 'utf8').split('\n')
  return rows.map(row => row.trim().split(/\s+/)).filter(row => row[2]?.endsWith(wanted) && row[3] === TCP_SYN_SENT)
    .length
}
