/**
 * Sends batches of datagrams of the sizes in argv, 8 of each, to the discard port of loopback: `node segments.js 2000 500`.
 * Prints how many were taken of each batch.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { addon } from '../../src/io/addon.ts'

const EACH = 8
const sink = createSocket('udp4').bind(9, '127.0.0.1')
await once(sink, 'listening')
const memory = new ArrayBuffer(1 << 20)
const words = new Uint32Array(memory)
const io = new addon.Io(memory, new Int32Array(2), () => {})
const fd = addon.connectUdp(Uint8Array.of(127, 0, 0, 1), 9, 0, '')
const taken = process.argv.slice(2).map(size => {
  for (let at = 0; at < EACH; at++) {
    words.set([at, 1, 0], 3 * at)
    words.set([65_536, Number(size)], 1024 + 2 * at)
  }
  return io.sendDatagrams(fd, 0, 4096, EACH)
})
console.log(JSON.stringify(taken))
addon.close(fd, false)
io.close()
sink.close()
