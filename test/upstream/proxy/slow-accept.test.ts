/** A proxy whose queue of connections is full: connect() is still under way when the first message could be sent. */
import test from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { fullServer } from '../../helpers/full-server.ts'
import { until } from '../../helpers/sockets.ts'
import { dial, OK, open, silent } from '../rig.ts'

test('socks5: what cannot be sent yet is sent when the connection stands', async t => {
  const full = await fullServer(t, [5, 0, ...OK])
  const before = full.connecting()
  const rig = open(t, full.port, {}, silent, { handshake: 'pipelined' })
  const { outcome } = dial(t, rig)
  t.is(full.connecting(), before + 1)
  t.is(outcome.calls, 0)
  full.open()
  await until(() => outcome.calls > 0, 'an outcome')
  t.truthy(outcome.connected)
})

test.after.always('socks5: no descriptor is left of the slow proxy', t => {
  t.is(addon.openDescriptors(), 0)
})
