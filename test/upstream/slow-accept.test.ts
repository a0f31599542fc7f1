/** A proxy whose queue of connections is full: connect() is still under way when the first message could be sent. */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { addon } from '../../src/io/addon.ts'
import { until } from '../helpers/sockets.ts'
import { dial, OK, open, silent } from './rig.ts'

/** Listens with the shortest queue, and accepts nobody until the first word of `gate` is 1. */
const PROXY = `
const { createServer } = require('node:net')
const { parentPort, workerData: { gate, answer } } = require('node:worker_threads')
const server = createServer(socket => {
  let length = 0
  socket.on('error', () => {}).on('data', chunk => {
    length += chunk.length
    if (length === 13) socket.write(Uint8Array.from(answer))
  })
})
server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  setImmediate(() => Atomics.wait(gate, 0, 0, 10_000))
})
`
const TCP_SYN_SENT = '02'

function connecting(port: number): number {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/self/net/tcp', 'utf8').split('\n')
  return rows.map(row => row.trim().split(/\s+/)).filter(row => row[2]?.endsWith(wanted) && row[3] === TCP_SYN_SENT)
    .length
}

test('socks5: what cannot be sent yet is sent when the connection stands', async t => {
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(PROXY, { eval: true, workerData: { gate, answer: [5, 0, ...OK] } })
  t.teardown(() => worker.terminate())
  const port = await new Promise<number>(resolve => worker.once('message', resolve))
  const fillers = Array.from({ length: 4 }, () => connect({ port, host: '127.0.0.1' }).on('error', () => undefined))
  t.teardown(() => {
    for (const filler of fillers) filler.destroy()
  })
  await until(() => connecting(port) > 0, 'a full queue')
  const before = connecting(port)
  const rig = open(t, port, {}, silent, { handshake: 'pipelined' })
  const { outcome } = dial(t, rig)
  t.is(connecting(port), before + 1)
  t.is(outcome.calls, 0)
  Atomics.store(gate, 0, 1)
  Atomics.notify(gate, 0)
  await until(() => outcome.calls > 0, 'an outcome')
  t.truthy(outcome.connected)
})

test.after.always('socks5: no descriptor is left of the slow proxy', t => {
  t.is(addon.openDescriptors(), 0)
})
