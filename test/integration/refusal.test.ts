import { once } from 'node:events'
import test from 'ava'
import {
  createWorld,
  DEST4,
  DEST6,
  endsWithFile,
  type GatewayProcess,
  NOWHERE4,
  until,
  untilAtRest,
  type World,
} from './world.ts'

let world: World
let gateway: GatewayProcess

/** RFC 1928 §6: what a Linux client's connect() says for each reply. */
const REPLIES = [
  { reply: 1, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
  { reply: 2, v4: 'EHOSTUNREACH', v6: 'EACCES' },
  { reply: 3, v4: 'ENETUNREACH', v6: 'ENETUNREACH' },
  { reply: 4, v4: 'EHOSTUNREACH', v6: 'EHOSTUNREACH' },
  { reply: 5, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
  { reply: 6, v4: 'EHOSTUNREACH', v6: 'EHOSTUNREACH' },
  { reply: 7, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
  { reply: 8, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
  { reply: 9, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
  { reply: 255, v4: 'ECONNREFUSED', v6: 'ECONNREFUSED' },
] as const

function socksOptions() {
  const replies: Record<string, number> = {}
  for (const { reply } of REPLIES) {
    replies[`${DEST4}:${9000 + reply}`] = reply
    replies[`[${DEST6}]:${9000 + reply}`] = reply
  }
  return { host: '10.8.0.2', replies }
}

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', socksOptions())
  await world.far.call('listen', 'echo', '0.0.0.0', 7001, 'echo')
  gateway = await world.gateway()
})
endsWithFile(() => ({ world, gateway }))

for (const { reply, v4, v6 } of REPLIES)
  for (const [dest, errno] of [
    [DEST4, v4],
    [DEST6, v6],
  ] as const)
    test.serial(`refusal: SOCKS reply ${reply} is ${errno} (${dest})`, async t => {
      const { code, ms } = await world.near.call('dial', dest, 9000 + reply)
      t.is(code, errno)
      t.true(ms < 500, `${ms} ms`)
      await untilAtRest(gateway)
    })

for (const dest of [DEST4, DEST6])
  test.serial(`refusal: curl to a closed port: exit 7 and "refused", in the time of one answer (${dest})`, async t => {
    const url = dest.includes(':') ? `http://[${dest}]:7999/` : `http://${dest}:7999/`
    const { code, stderr, stdout } = await world.client.run('curl', ['-sS', '-m', '5', '-w', '%{time_total}', url])
    t.is(code, 7, stderr)
    t.true(Number(stdout) < 0.5, stdout)
    t.is((await world.near.call('dial', dest, 7999)).code, 'ECONNREFUSED')
    await untilAtRest(gateway)
  })

test.serial('refusal: a host that the proxy cannot reach is unreachable', async t => {
  t.is((await world.near.call('dial', NOWHERE4, 80)).code, 'ENETUNREACH')
  await untilAtRest(gateway)
})

test.serial('refusal: each refused flow has its line with the reason, at debug', async t => {
  await world.near.call('dial', DEST4, 9002)
  await until(() => gateway.logged('tcp flow ended').some(line => line.destination === `${DEST4}:9002`), 'the line')
  const line = gateway.logged('tcp flow ended').findLast(one => one.destination === `${DEST4}:9002`)!
  t.is(line.level, 'debug')
  t.is(typeof line.reason, 'string')
  t.true((line.reason as string).length > 5)
  t.is(line.bytesUp, 0)
})

test.serial(
  'refusal: with the proxy stopped clients are refused at once, with it back the next one is served',
  async t => {
    await world.far.call('stop', 'socks')
    for (const dest of [DEST4, DEST6]) {
      const { code, ms } = await world.near.call('dial', dest, 7001)
      t.is(code, 'ECONNREFUSED')
      t.true(ms < 500, `${ms} ms`)
    }
    await world.far.call('startSocks', socksOptions())
    const { id, code } = await world.near.call('dial', DEST4, 7001)
    t.is(code, '')
    await world.near.call('write', id, 'back')
    await world.near.call('end', id)
    await until(async () => (await world.near.call('view', id)).closed, 'the echo')
    t.is((await world.near.call('view', id)).text, 'back')
    await untilAtRest(gateway)
  },
)

test.serial('refusal: the proxy itself as destination: refused, and one warning that names it', async t => {
  await gateway.stop()
  // a route that leads the proxy's address into the tun, and the gateway's own sockets around it
  gateway = await world.gateway({ args: ['--bind-interface', 'veth0'] })
  await world.client.ip(['route add 10.8.0.2/32 dev tg0'])
  t.teardown(() => world.client.run('ip', ['route', 'del', '10.8.0.2/32', 'dev', 'tg0']))
  for (let count = 0; count < 20; count++) {
    const { code, ms } = await world.near.call('dial', '10.8.0.2', 1080)
    t.is(code, 'ECONNREFUSED')
    t.true(ms < 500)
  }
  const warnings = gateway.logged('route to the proxy')
  t.is(warnings.length, 1)
  t.is(warnings[0]!.level, 'warn')
  t.is(warnings[0]!.destination, '10.8.0.2:1080')
  t.is(warnings[0]!.tun, 'tg0')
  t.is(await gateway.counter('to_upstream_itself'), 20)
  t.is(await gateway.counter('handshakes'), 0, 'no dial was made')
  await untilAtRest(gateway)
})

test.serial(
  'refusal: without a way around the tun the gateway dials itself once for each client, and says why',
  async t => {
    await gateway.stop()
    gateway = await world.gateway()
    await world.client.ip(['route add 10.8.0.2/32 dev tg0'])
    t.teardown(() => world.client.run('ip', ['route', 'del', '10.8.0.2/32', 'dev', 'tg0']))
    t.is((await world.near.call('dial', DEST4, 7001)).code, 'ECONNREFUSED')
    t.is(await gateway.counter('handshakes'), 1)
    t.is(await gateway.counter('to_upstream_itself'), 1)
    t.is(gateway.logged('route to the proxy').length, 1)
  },
)

test.serial('refusal: what goes direct and comes back by the tun is refused at once, and not dialed again', async t => {
  await gateway.stop()
  gateway = await world.gateway({ args: ['--rules', `[{to: direct, destination: '${DEST4}'}]`] })
  const { code, ms } = await world.near.call('dial', DEST4, 7001)
  t.is(code, 'ECONNREFUSED')
  t.true(ms < 500, `${ms} ms`)
  t.is(await gateway.counter('direct_dials'), 1)
  t.is(await gateway.counter('to_upstream_itself'), 1)
  t.is(gateway.logged('what goes direct comes back by the tun')[0]!.destination, `${DEST4}:7001`)
  await untilAtRest(gateway)
})

test.serial('refusal: a proxy that never answers: silence until the time-out, which is told to nobody', async t => {
  await gateway.stop()
  await world.far.call('listen', 'mute', '10.8.0.2', 1091, 'hold')
  gateway = await world.gateway({ proxy: 'socks5://10.8.0.2:1091', args: ['--tcp-connect-timeout', '400ms'] })
  const { code } = await world.near.call('dial', DEST4, 80, 900)
  t.is(code, 'STILL_CONNECTING')
  await until(() => gateway.logged('tcp flow ended').length > 0, 'the end of the dial')
  t.regex(String(gateway.logged('tcp flow ended')[0]!.reason), /too long/)
  await untilAtRest(gateway)
})

test.serial(
  'refusal: a client that gives up while it is being dialed for: the dial ends with its time-out',
  async t => {
    const answer = world.near.call('dial', DEST4, 81, 100)
    await until(async () => (await gateway.counter('dials_in_flight')) === 1, 'the dial')
    t.is((await answer).code, 'STILL_CONNECTING')
    await untilAtRest(gateway)
  },
)

test.serial('refusal: above the cap of dials clients wait, and those in flight are not disturbed', async t => {
  await gateway.stop()
  const args = ['--limits-dials', '8', '--tcp-connect-timeout', '3s'] // of which clients that are not known have five
  gateway = await world.gateway({ proxy: 'socks5://10.8.0.2:1091', args })
  const dials = Promise.all(Array.from({ length: 12 }, (_, at) => world.near.call('dial', DEST4, 100 + at, 800)))
  await until(async () => (await gateway.counter('dial_limit')) >= 7, 'the cap')
  t.is(await gateway.counter('dials_in_flight'), 5)
  t.deepEqual(new Set((await dials).map(one => one.code)), new Set(['STILL_CONNECTING']))
  t.is(gateway.logged('too many dials').length, 1)
  await untilAtRest(gateway)
})

test.serial('refusal: the cap of dials per source leaves room for another source', async t => {
  await gateway.stop()
  const args = ['--limits-dials-per-source', '2', '--tcp-connect-timeout', '3s']
  gateway = await world.gateway({ proxy: 'socks5://10.8.0.2:1091', args })
  const dials = [DEST4, DEST4, DEST4, DEST4, DEST6].map((dest, at) => world.near.call('dial', dest, 100 + at, 700))
  await until(async () => (await gateway.counter('dial_limit')) >= 2, 'the cap')
  t.is(await gateway.counter('dials_in_flight'), 3)
  await Promise.all(dials)
  await untilAtRest(gateway)
})

test.serial('refusal: above the cap of flows a new one waits, and old ones live', async t => {
  await gateway.stop()
  gateway = await world.gateway({ args: ['--limits-flows', '3'] })
  const open = await Promise.all([1, 2, 3].map(() => world.near.call('dial', DEST4, 7001)))
  t.deepEqual(
    open.map(one => one.code),
    ['', '', ''],
  )
  t.is((await world.near.call('dial', DEST4, 7001, 300)).code, 'STILL_CONNECTING')
  t.true((await gateway.counter('drop_flow_limit')) >= 1)
  await world.near.call('write', open[0]!.id, 'alive')
  await until(async () => (await world.near.call('view', open[0]!.id)).text === 'alive', 'the echo')
  for (const { id } of open) await world.near.call('end', id)
  await untilAtRest(gateway)
  t.is((await world.near.call('dial', DEST4, 7001)).code, '')
})

test.serial('refusal: idle and half-closed flows end after their time, and say so', async t => {
  await gateway.stop()
  await world.far.call('listen', 'hold', '0.0.0.0', 7003, 'hold')
  gateway = await world.gateway({ args: ['--tcp-idle-timeout', '3s', '--tcp-half-close-timeout', '1s'] })
  const idle = await world.near.call('dial', DEST4, 7001)
  const half = await world.near.call('dial', DEST4, 7003)
  await world.near.call('end', half.id)
  const halfMs = await until(async () => (await world.near.call('view', half.id)).closed, 'half-close time-out')
  t.true(halfMs > 700 && halfMs < 2500, `${halfMs} ms`)
  t.false((await world.near.call('view', idle.id)).closed)
  await until(async () => (await world.near.call('view', idle.id)).closed, 'idle time-out', 6000)
  t.is((await world.near.call('view', idle.id)).error, 'ECONNRESET')
  const reasons = gateway.logged('tcp flow ended').map(line => line.reason)
  t.deepEqual(reasons, ['half-closed and idle for too long', 'idle for too long'])
  await untilAtRest(gateway)
})

test.serial('refusal: a proxy that wants a password, and one that knows another', async t => {
  await gateway.stop()
  await world.far.call('stop', 'socks')
  await world.far.call('startSocks', { host: '10.8.0.2', username: 'me', password: 'right' })
  for (const proxy of ['socks5://10.8.0.2:1080', 'socks5://me:wr0ng-s3cret@10.8.0.2:1080']) {
    gateway = await world.gateway({ proxy })
    t.is((await world.near.call('dial', DEST4, 7001)).code, 'ECONNREFUSED')
    t.false(gateway.text.includes('wr0ng'))
    await gateway.stop()
  }
  gateway = await world.gateway({ proxy: 'socks5://me:right@10.8.0.2:1080' })
  t.is((await world.near.call('dial', DEST4, 7001)).code, '')
})

test.serial('refusal: SIGTERM resets the clients', async t => {
  const { id } = await world.near.call('dial', DEST4, 7001)
  const ended = once(gateway.child, 'exit')
  gateway.child.kill('SIGTERM')
  await ended
  t.is(gateway.child.exitCode, 0)
  await until(async () => (await world.near.call('view', id)).closed, 'the reset')
  t.regex((await world.near.call('view', id)).error, /ECONNRESET|ENETDOWN|ENETUNREACH/)
})
