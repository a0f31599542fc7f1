/** Servers of other projects on loopback: in every manner each dial ends as the server says. */
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../src/io/addon.ts'
import type { ProxyOptions } from '../../src/options.ts'
import { isInstalled, type RealServer, startDante, startMicrosocks } from '../helpers/servers.ts'
import { closedPort, tcpServer, until } from '../helpers/sockets.ts'
import { open, outcomeOf, type Rig, read, SCRATCH, silent } from './rig.ts'

const LOOPBACK = Uint8Array.of(127, 0, 0, 1)
const USER = { username: 'me', password: 's3cret-w0rd' }

const SERVERS: readonly [string, string, Partial<ProxyOptions>, (port: number) => Promise<RealServer>][] = [
  ['dante', 'danted', {}, port => startDante(undefined, { port, internal: ['127.0.0.1'], external: ['127.0.0.1'] })],
  ['microsocks', 'microsocks', {}, port => startMicrosocks(undefined, { host: '127.0.0.1', port })],
  [
    'microsocks with a password',
    'microsocks',
    USER,
    port => startMicrosocks(undefined, { host: '127.0.0.1', port, credentials: USER }),
  ],
]

async function talk(t: ExecutionContext, rig: Rig, port: number): Promise<void> {
  const { connected, error } = await outcomeOf(t, rig, { address: LOOPBACK, port })
  t.is(error, undefined)
  rig.bytes.set(Buffer.from('ping'), SCRATCH + 16)
  rig.words.set([SCRATCH + 16, 4], SCRATCH / 4)
  t.is(rig.poller.io.writev(connected!.socket.fd, SCRATCH, 1), 4)
  t.is(await read(rig, connected!, 4), 'ping')
}

for (const [name, program, more, start] of SERVERS)
  for (const handshake of ['auto', 'strict'] as const)
    for (const pool of [0, 4])
      test(`socks5 ${handshake}, pool ${pool}: ${name}: connections, refusals, and its restart`, async t => {
        if (!isInstalled(program)) {
          t.log(`skipped: ${program} is not installed`)
          t.pass()
          return
        }
        const port = await closedPort()
        const first = await start(port)
        t.teardown(() => first.close())
        const echo = await tcpServer(t, socket => socket.pipe(socket))
        const rig = open(t, port, more, silent, { handshake, pool })
        for (let count = 0; count < 6; count++) await talk(t, rig, echo)
        const refused = { address: LOOPBACK, port: await closedPort() }
        for (let count = 0; count < 2; count++) t.is((await outcomeOf(t, rig, refused)).error!.failure, 'refused')

        await first.close()
        await until(() => rig.dialer.counters().pool_ready === 0, 'the end of what waits')
        const { error } = await outcomeOf(t, rig, refused)
        t.is(error!.failure, 'upstream-down')
        t.regex(error!.message, /ECONNREFUSED/)
        const second = await start(port)
        t.teardown(() => second.close())
        for (let count = 0; count < 6; count++) await talk(t, rig, echo)
        const { handshake_failures, pool_hits } = rig.dialer.counters()
        t.is(handshake_failures, 3)
        t.is(pool_hits! > 0, pool > 0)
      })

test.after.always('socks5: no descriptor is left of any real server', t => {
  t.is(addon.openDescriptors(), 0)
})
