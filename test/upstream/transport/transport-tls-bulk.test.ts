/** Much inside TLS: whole, and no more at a time than the other side takes. */
import { once } from 'node:events'
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
