/** Much inside TLS: whole, and no more at a time than the other side takes. */
import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { until } from '../../helpers/sockets.ts'
import { pattern } from '../../stack/rig.ts'
import { pair, sha256, untilStill } from './tls-rig.ts'

test('tls: twenty megabytes each way arrive as they were sent', async t => {
  const { user, peer } = await pair(t)
  const part = pattern(1_000_000)
  const parts = Array.from({ length: 20 }, () => part)
  const up: Buffer[] = []
  peer.on('data', chunk => up.push(chunk))
  for (const each of parts) if (!peer.write(each)) await once(peer, 'drain')
  peer.end()
  for (const each of parts) await user.send(each)
  user.socket!.end()
  await Promise.all([until(() => user.ended === 'FIN', 'the end', 20_000), once(peer, 'end')])
  t.is(sha256(user.received), sha256(parts))
  t.is(sha256(up), sha256(parts))
})

test('tls: a user that does not read holds the proxy up, and gets all when it reads', async t => {
  const { user, peer } = await pair(t)
  user.isReading = false
  const data = pattern(40_000_000)
  peer.end(data)
  await untilStill(() => peer.writableLength)
  t.true(peer.writableLength > 0, 'it was held up')
  user.isReading = true
  user.read()
  await until(() => user.ended !== undefined, 'the end', 20_000)
  t.is(sha256(user.received), sha256([data]))
})

test.serial(
  'tls: what a proxy has sent before its end is whole, however slow the user, and costs nothing while it waits',
  async t => {
    // around what the buffers in between hold, each of which may have the last of it
    const sizes = Array.from({ length: 24 }, (_, at) => 200_000 + at * 16_000)
    const ends = await Promise.all(
      sizes.map(async size => {
        const { user, peer, raw } = await pair(t)
        user.isReading = false
        peer.end(pattern(size))
        return { user, raw, size }
      }),
    )
    await untilStill(() => ends.reduce((sum, { raw }) => sum + raw.bytesWritten, 0))
    const before = performance.eventLoopUtilization()
    await delay(100)
    t.true(performance.eventLoopUtilization(before).utilization < 0.5, 'nobody asks again and again')
    for (const { user, size } of ends) {
      user.isReading = true
      user.read()
      await until(() => user.ended !== undefined, 'the end')
      t.is(user.receivedBytes, size)
      t.is(user.socket!.fault, undefined)
    }
  },
)

test('tls: a proxy that does not read holds the user up, within a few megabytes', async t => {
  const { user, peer, raw } = await pair(t)
  peer.pause()
  let sent = 0
  const part = pattern(100_000)
  const sending = (async () => {
    for (; sent < 40_000_000; sent += part.length) await user.send(part)
  })()
  const taken = await untilStill(() => sent)
  t.true(taken < 20_000_000, `${taken}`)
  let arrived = 0
  peer.on('data', chunk => {
    arrived += chunk.length
  })
  peer.resume()
  await sending
  await until(() => arrived === sent, 'all of it', 20_000)
  t.true(raw.bytesRead > arrived)
})
