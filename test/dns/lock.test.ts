import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Lock } from '../../src/dns/lock.ts'

/** Takes the lock, and gives it back when it is told, or never. */
const HOLDER = `
  const { workerData: cell, parentPort } = require('node:worker_threads')
  Atomics.store(cell, 0, 1)
  parentPort.postMessage('taken')
  Atomics.wait(cell, 1, 0, 300)
  Atomics.store(cell, 0, 0)
  Atomics.notify(cell, 0)`

test.serial('lock: who waits while the process is stopped does not take it from its holder', async t => {
  const cell = new Int32Array(new SharedArrayBuffer(8))
  const worker = new Worker(HOLDER, { eval: true, workerData: cell })
  t.teardown(() => worker.terminate())
  await new Promise(resolve => worker.once('message', resolve))
  const { now } = performance
  const lock = new Lock(cell.subarray(0, 1))
  const start = now.call(performance)
  let calls = 0
  performance.now = () => now.call(performance) + (calls++ === 0 ? 0 : 60_000)
  try {
    lock.take()
  } finally {
    performance.now = now
  }
  t.true(performance.now() - start > 150, 'until it is given back')
  lock.release()
})

test.serial('lock: of a holder that is no more it is taken within some seconds', t => {
  const cell = new Int32Array(new SharedArrayBuffer(4))
  cell[0] = 1
  const lock = new Lock(cell)
  const start = performance.now()
  lock.take()
  const waited = performance.now() - start
  t.true(waited > 900 && waited < 10_000, `${waited} ms`)
  lock.release()
  t.is(cell[0], 0)
})
