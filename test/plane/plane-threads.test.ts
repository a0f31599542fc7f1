/** The main thread's side of workers that behave badly: programs of a few lines in the place of plane-worker.ts. */
import test, { type ExecutionContext } from 'ava'
import { completeOptions } from '../../src/config/complete-options.ts'
import { GatewayError, SystemError } from '../../src/errors.ts'
import type { GatewayInput } from '../../src/options.ts'
import { PlaneThreads } from '../../src/plane/plane-threads.ts'

const HEAD = `
import { parentPort, workerData } from 'node:worker_threads'
const { options, queue, answered, answers } = workerData
const answer = (request, value) => {
  answers.postMessage(value)
  Atomics.store(answered, 0, request.number)
  Atomics.notify(answered, 0)
}
const started = () => parentPort.postMessage({ started: true })
const closes = request => request.close && process.exit()
`
const SILENT = { debugEnabled: false, error() {}, warn() {}, info() {}, debug() {} }

function rig(t: ExecutionContext, program: string, input: Partial<GatewayInput> = {}, workers = 2) {
  const fatal: GatewayError[] = []
  const threads = new PlaneThreads({
    options: completeOptions({ proxy: { host: '192.0.2.1', port: 1080 }, ...input }),
    queues: Array.from({ length: workers }, (_, at) => ({
      fd: 1000 + at,
      name: 'none',
      vnetHdr: false,
      uso: false,
      created: false,
      queues: 0,
      mtu: 1500,
    })),
    log: SILENT,
    onFatal: error => fatal.push(error),
    entry: new URL(`data:text/javascript,${encodeURIComponent(HEAD + program)}`),
  })
  t.teardown(async () => void (await threads.close()))
  return { threads, fatal }
}

async function until(state: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !state(); ) {
    if (performance.now() > deadline) throw new Error('it did not come')
    await new Promise(setImmediate)
  }
}

test('plane-threads: each has its part of the limits, rounded up, and a queue of its own', async t => {
  const program = `
    const { flows, dials, dialsPerSource } = options.limits
    const { maxAssociations } = options.udp
    parentPort.on('message', request => closes(request) ||
      answer(request, { counters: { flows, dials, dialsPerSource, maxAssociations, queue: queue.fd } }))
    started()`
  const limits = { flows: 10, dials: 7, dialsPerSource: 1 }
  const { threads } = rig(t, program, { limits, udp: { maxAssociations: 4 } }, 3)
  await threads.start()
  const { open_descriptors: _, ...sums } = threads.counters()
  t.deepEqual(sums, { flows: 3 * 4, dials: 3 * 3, dialsPerSource: 3 * 1, maxAssociations: 3 * 2, queue: 3003 })
})

test('plane-threads: one that does not answer in time counts with its last answer', async t => {
  const program = `
    const sleep = ms => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
    parentPort.on('message', request => {
      if (closes(request)) return
      if (request.ask === 'counters') return answer(request, { counters: { answered: 1 } })
      if (queue.fd === 1000) sleep(3000)
      answer(request, { flows: [{ id: 7 }] })
    })
    started()`
  const { threads } = rig(t, program)
  await threads.start()
  await until(() => threads.counters().answered === 2)
  const start = performance.now()
  const inTime = threads.flows().map(({ id }) => id)
  const ms = performance.now() - start
  t.false(inTime.includes(7), 'the first is late')
  t.true(ms >= 190 && ms < 2500, `${ms} ms`)
  t.is(threads.counters().answered, 2)
  await until(() => threads.flows().length === 2)
})

test('plane-threads: an exception that nobody caught is WORKER_ENDED, once, with the cause', async t => {
  const program = `
    parentPort.on('message', request => {
      if (!closes(request)) throw new TypeError('ours')
    })
    started()`
  const { threads, fatal } = rig(t, program)
  await threads.start()
  t.deepEqual(threads.flows(), [])
  await until(() => fatal.length > 0)
  t.is(fatal[0]!.code, 'WORKER_ENDED')
  t.regex(fatal[0]!.message, /ours/)
  t.true(fatal[0]!.cause instanceof TypeError)
  await threads.close()
  t.is(fatal.length, 1, 'both ended so')
})

test('plane-threads: one that ends before it has started: start() rejects, and the other is closed', async t => {
  const program = `
    parentPort.on('message', request => closes(request))
    if (queue.fd === 1001) process.exit(3)
    started()`
  const { threads, fatal } = rig(t, program)
  await t.throwsAsync(threads.start(), { code: 'WORKER_ENDED', message: /exit code 3/ })
  await threads.close()
  t.deepEqual(fatal, [])
})

test('plane-threads: an error of the plane keeps class, code and errno', async t => {
  const error = { kind: 'system', code: 'EMFILE', message: 'too many', stack: 'there', syscall: 'epoll', errno: 24 }
  const program = `
    parentPort.on('message', request => closes(request))
    parentPort.postMessage({ failed: ${JSON.stringify(error)} })`
  const { threads } = rig(t, program)
  const got = await t.throwsAsync(threads.start(), { instanceOf: SystemError, code: 'EMFILE', message: 'too many' })
  t.is(got!.syscall, 'epoll')
  t.is(got!.errno, 24)
  t.is(got!.stack, 'there')
})

test('plane-threads: one that never returns is ended by force, in time', async t => {
  const { threads } = rig(t, 'started(); setTimeout(() => { for (;;); }, 0)', {}, 1)
  await threads.start()
  const start = performance.now()
  await threads.close()
  t.true(performance.now() - start < 5000, `${performance.now() - start} ms`)
})

test('plane-threads: lines that the main thread has taken are no longer owed', async t => {
  const program = `
    const { pendingLines } = workerData
    for (let count = 0; count < 5; count++) {
      Atomics.add(pendingLines, 0, 1)
      parentPort.postMessage({ log: { from: 'plane', level: 'info', message: 'line' } })
    }
    parentPort.on('message', request => closes(request) ||
      answer(request, { counters: { pending: Atomics.load(pendingLines, 0) } }))
    started()`
  const { threads } = rig(t, program)
  await threads.start()
  t.is(threads.counters().pending, 0)
})

test('plane-threads: close() is idempotent, and also for those that never started', async t => {
  const { threads } = rig(t, "parentPort.on('message', request => closes(request))")
  const started = threads.start()
  await Promise.all([threads.close(), threads.close()])
  await t.throwsAsync(started, { instanceOf: GatewayError, code: 'CLOSED' })
  await threads.close()
})

test('plane-threads: one that cannot be ended keeps its queue, the other does not', async t => {
  const program = `
    import { spawnSync } from 'node:child_process'
    parentPort.on('message', request => closes(request))
    started()
    if (queue.fd === 1001) setTimeout(() => spawnSync('sleep', ['4']), 0)`
  const { threads } = rig(t, program)
  await threads.start()
  const start = performance.now()
  t.deepEqual(await threads.close(), [1001])
  t.true(performance.now() - start < 3500, `${performance.now() - start} ms`)
})
