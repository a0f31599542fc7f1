import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { addon } from '../../src/io/addon.ts'
import { addonPath, canOpenTun, openNamespace, openRig, owned, until } from './rig.ts'

const EBADF = -9
const EFAULT = -14
const EINVAL = -22
const loopback = Uint8Array.of(127, 0, 0, 1)
const addonSource = `const a = require(${JSON.stringify(addonPath)})`

test.serial('io: a closed Io answers EBADF, and close can be called again', t => {
  const rig = openRig(t)
  const fd = owned(t, addon.connectUdp(loopback, 9, 0, ''))
  t.is(rig.io.watch(fd, 1, true), 0)
  rig.io.close()
  rig.io.close()
  t.is(rig.io.watch(fd, 1, true), EBADF)
  t.is(rig.io.unwatch(fd), EBADF)
  t.is(rig.io.readv(fd, ...rig.iovecs(1)), EBADF)
  t.is(rig.io.writev(fd, ...rig.iovecs(1)), EBADF)
  t.is(rig.io.readPackets(fd, ...rig.slots(1)), EBADF)
  t.is(rig.io.writePackets(fd, ...rig.messages([])), EBADF)
  t.is(rig.io.recvDatagrams(fd, ...rig.landing(1)), EBADF)
  t.is(rig.io.sendDatagrams(fd, ...rig.messages([])), EBADF)
})

test.serial('io: offsets out of the memory, or not aligned, give EFAULT', t => {
  const rig = openRig(t)
  const fd = owned(t, addon.connectUdp(loopback, 9, 0, ''))
  const end = rig.bytes.length
  const words = new Uint32Array(rig.bytes.buffer)
  for (const table of [end, end - 4, 0xfffffff8, 2]) {
    t.is(rig.io.readv(fd, table, 1), EFAULT)
    t.is(rig.io.writev(fd, table, 1), EFAULT)
    t.is(rig.io.readPackets(fd, table, 1, 16), EFAULT)
    t.is(rig.io.writePackets(fd, table, 0, 1), EFAULT)
    t.is(rig.io.recvDatagrams(fd, table, 1, 16, 1024), EFAULT)
    t.is(rig.io.recvDatagrams(fd, 0, 1, 16, table), EFAULT)
    t.is(rig.io.sendDatagrams(fd, table, 0, 1), EFAULT)
  }
  words.set([end - 8, 9, 0xffffffff, 0xffffffff])
  for (const row of [0, 8]) {
    t.is(rig.io.readv(fd, row, 1), EFAULT)
    t.is(rig.io.writev(fd, row, 1), EFAULT)
    t.is(rig.io.readPackets(fd, row, 1, 16), EFAULT)
    t.is(rig.io.recvDatagrams(fd, row, 1, 16, 1024), EFAULT)
  }
  words.set([0, 1, 0], 8)
  t.is(rig.io.writePackets(fd, 32, 0, 1), EFAULT)
  t.is(rig.io.sendDatagrams(fd, 32, 0, 1), EFAULT)
  words.set([0x20000000, 1, 0], 8)
  t.is(rig.io.sendDatagrams(fd, 32, 0, 1), EFAULT)
  words.set([0, 1025, 0], 8)
  t.is(rig.io.writePackets(fd, 32, 0, 1), EINVAL)
  t.is(rig.io.sendDatagrams(fd, 32, 0, 1), EINVAL)
  t.is(rig.io.readv(0xffffffff, ...rig.iovecs(1)), EBADF)
  t.is(rig.io.discard(end, 1), EFAULT)
  t.is(rig.io.discard(0, 1), EFAULT)
})

test.serial('io: wrong arguments of the constructor are a TypeError', t => {
  const make = addon.Io as unknown as new (...args: unknown[]) => unknown
  const memory = new ArrayBuffer(8)
  const ready = new Int32Array(2)
  const wrong: unknown[][] = [
    [],
    [memory],
    [memory, ready],
    [ready, ready, () => {}],
    [memory, new Uint8Array(8), () => {}],
  ]
  wrong.push([memory, new Int32Array(1), () => {}], [memory, ready, 1])
  for (const args of wrong) t.throws(() => new make(...args), { instanceOf: TypeError })
})

test.serial('io: more events than rows come in more calls, none lost', async t => {
  const rig = openRig(t, 2)
  const tokens = Array.from({ length: 13 }, (_, at) => at)
  for (const token of tokens) rig.io.watch(owned(t, addon.connectUdp(loopback, 9, 0, '')), token, true)
  await until('all writable', () => new Set(rig.events.map(([token]) => token)).size === tokens.length)
  t.pass()
})

test.serial('io: an exception of onReady becomes an uncaughtException, microtasks run, and close inside is well', t => {
  const script = `${addonSource}
    process.once('uncaughtException', error => console.log(error.message))
    let calls = 0
    const io = new a.Io(new ArrayBuffer(64), new Int32Array(2), () => {
      const call = ++calls
      console.log('call', call)
      Promise.resolve().then(() => console.log('microtask', call))
      if (call === 3) throw new Error('thrown')
      if (call === 4) io.close()
    })
    for (let at = 0; at < 5; at++) io.watch(a.connectUdp(Uint8Array.of(127, 0, 0, 1), 9, 0, ''), at, true)`
  const lines = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim().split('\n')
  t.deepEqual(lines.slice(0, 6), ['call 1', 'microtask 1', 'call 2', 'microtask 2', 'call 3', 'thrown'])
  t.deepEqual(lines.slice(6).sort(), ['call 4', 'microtask 3', 'microtask 4'])
})

test.serial('io: closed objects are collected, and their epolls are gone', t => {
  const script = `${addonSource}
    const files = () => require('node:fs').readdirSync('/proc/self/fd').length
    const before = files()
    let alive = 0
    const gone = new FinalizationRegistry(() => alive--)
    for (let at = 0; at < 50; at++) {
      const io = new a.Io(new ArrayBuffer(1 << 20), new Int32Array(64), () => {})
      gone.register(io, at); alive++
      io.close()
    }
    const end = Date.now() + 5000
    const timer = setInterval(() => {
      gc()
      if (alive > 1 && Date.now() < end) return
      clearInterval(timer)
      console.log(alive, files() - before)
    }, 5)`
  const [alive, files] = execFileSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8' }).split(' ')
  t.true(Number(alive) <= 1)
  t.is(Number(files), 0)
})

test.serial('environment: a process that ends with all open ends well', t => {
  for (const last of [
    'process.exit(7)',
    'io.watch(fd, 1, true); process.exitCode = 7; setTimeout(() => io.close(), 20)',
  ]) {
    const script = `${addonSource}
      const io = new a.Io(new ArrayBuffer(64), new Int32Array(64), () => {})
      new a.Io(new ArrayBuffer(64), new Int32Array(64), () => {}).close()
      const fd = a.connectUdp(Uint8Array.of(127, 0, 0, 1), 9, 0, '')
      ${last}`
    const { status, signal, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
    t.deepEqual([status, signal, stderr], [7, null, ''])
  }
})

/** What a worker of the two tests below does before it says how many descriptors it holds. */
const openMany = `${addonSource}
  const ios = [1, 2, 3].map(() => new a.Io(new ArrayBuffer(4096), new Int32Array(64), () => {}))
  for (let at = 0; at < 100; at++) {
    const fd = a.connectUdp(Uint8Array.of(127, 0, 0, 1), 9, 0, '')
    for (const io of ios) io.watch(fd, at, true)
  }
  ios[2].close()`

test.serial('environment: a terminated worker leaves no descriptor open', t => {
  const worker = `${openMany}; require('node:worker_threads').parentPort.postMessage(a.openDescriptors())`
  const script = `const { Worker } = require('node:worker_threads')
    const { once } = require('node:events')
    const files = () => require('node:fs').readdirSync('/proc/self/fd').length
    void (async () => {
      const counts = []
      for (let round = 0; round < 4; round++) {
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true })
        const [held] = await once(worker, 'message')
        const during = files()
        await worker.terminate()
        counts.push([held, during - files() >= 102, files()])
      }
      console.log(JSON.stringify(counts))
    })()`
  const counts = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })) as unknown[]
  t.is(counts.length, 4)
  t.deepEqual(counts.slice(1), [counts[0], counts[0], counts[0]])
  t.like(counts[0], [100, true])
})

const tunTest = canOpenTun() ? test.serial : test.serial.skip
tunTest('environment: a terminated worker leaves no device, and its parent works on', async t => {
  const space = await openNamespace(t)
  const rig = openRig(t)
  const mine = owned(t, addon.connectUdp(loopback, 9, 0, ''))
  const before = addon.openDescriptors()
  for (const ending of ['', 'for (;;) ios[0].readv(tun.fd, 0, 1)', 'process.exit(0)']) {
    const script = `${openMany}
      const tun = a.tunOpen({ name: 'tg0', offload: true, multiQueue: false, pid: ${space.pid} })
      ios[0].watch(tun.fd, 1, false)
      require('node:worker_threads').parentPort.postMessage(a.openDescriptors())
      setImmediate(() => { ${ending} })`
    const worker = new Worker(script, { eval: true })
    t.deepEqual(await once(worker, 'message'), [101])
    t.is(addon.openDescriptors(), before)
    await worker.terminate()
    await until('the device gone', () => !space.has('tg0'))
  }
  t.is(rig.io.watch(mine, 1, true), 0)
  await until('the own Io still works', () => rig.events.length > 0)
})

test.serial('environment: a descriptor of another owner is not closed', t => {
  const before = addon.openDescriptors()
  for (const fd of [-1, 0, 1, 2, 100_000]) addon.close(fd, false)
  t.is(addon.openDescriptors(), before)
  t.true(readdirSync('/proc/self/fd').includes('2'))
})

test.serial('errno: names of positive and negative numbers', t => {
  t.deepEqual([111, -111, -11, 1, 99999].map(addon.errnoName), [
    'ECONNREFUSED',
    'ECONNREFUSED',
    'EAGAIN',
    'EPERM',
    'E99999',
  ])
})

test.serial('io: discard gives back whole pages only', t => {
  const rig = openRig(t)
  const words = new Uint32Array(rig.bytes.buffer)
  const [from, to] = [0x10000 - 100, 0x20000 + 100]
  rig.bytes.fill(7, from, to)
  words.set([from, to - from], 0)
  t.is(rig.io.discard(0, 1), 0)
  const zeros = rig.bytes.subarray(from, to).indexOf(0)
  t.true(zeros >= 0 && zeros < 4096 + 100)
  t.deepEqual([rig.bytes[from], rig.bytes[to - 1]], [7, 7])
})
