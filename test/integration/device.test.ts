/** The device changes under a gateway that runs: what goes on, and what ends it. */
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { startSocksAndEchoes } from './destinations.ts'
import { DEST4, gatewayForEach, until, type World } from './world.ts'

const PATTERN = 'abcdefgh'
const TIMES = 65_536

let world: World
const startGateway = gatewayForEach(startSocksAndEchoes, made => {
  world = made
})

/** A new connection, half a megabyte both ways over it and over `old`, and a datagram that fills most of an MTU. */
async function worksOver(t: { is(a: unknown, b: unknown, text?: string): void }, old: number, what: string) {
  const { id, code } = await world.near.call('dial', DEST4, 7001)
  t.is(code, '', what)
  for (const one of [id, old]) {
    const before = (await world.near.call('view', one)).bytes
    await world.near.call('write', one, PATTERN, TIMES)
    const all = before + PATTERN.length * TIMES
    await until(async () => (await world.near.call('view', one)).bytes === all, `${what}: all bytes of ${one}`)
  }
  await world.near.call('destroy', [id])
  const udp = await world.near.call('openUdp', '0.0.0.0')
  for (const bytes of [500, 1_400, 9_000]) {
    const { length } = (await world.near.call('viewUdp', udp.id)).got
    const sha256 = await world.near.call('sendUdp', udp.id, bytes, 7, DEST4)
    await until(async () => (await world.near.call('viewUdp', udp.id)).got.length > length, `${what}: ${bytes} bytes`)
    t.is((await world.near.call('viewUdp', udp.id)).got.at(-1)!.sha256, sha256)
  }
  await world.near.call('closeUdp', udp.id)
}

for (const offload of ['auto', 'off'])
  test.serial(
    `device: its MTU is made smaller and larger: old flows and new ones go on (offload: ${offload})`,
    async t => {
      const gateway = await startGateway({ args: ['--offload', offload] })
      const [old] = await world.near.call('dialMany', DEST4, 7001, 1)
      for (const mtu of [1_500, 1_280, 576, 9_000, 1_500]) {
        await world.client.ip([`link set tg0 mtu ${mtu}`])
        await worksOver(t, old!, `MTU ${mtu}`)
      }
      const { code } = await gateway.stop()
      t.is(code, 0)
      await world.near.call('destroy', [old!])
    },
  )

test.serial('device: addresses and routes that go and come again: flows go on', async t => {
  const gateway = await startGateway()
  const [old] = await world.near.call('dialMany', DEST4, 7001, 1)
  await worksOver(t, old!, 'before')
  await world.client.ip(['address del 198.18.0.1/15 dev tg0', 'address del fd74:756e::1/64 dev tg0'])
  await delay(300)
  await world.client.ip(['address add 198.18.0.1/15 dev tg0', 'address add fd74:756e::1/64 dev tg0 nodad'])
  await world.client.routeAllInto('tg0')
  await worksOver(t, old!, 'after')
  t.is(gateway.lines().filter(({ level }) => level === 'warn' || level === 'error').length, 0)
  await world.near.call('destroy', [old!])
})

for (const workers of [1, 2])
  test.serial(`device: down for a second amid a transfer: no CPU, no end (workers: ${workers})`, async t => {
    const gateway = await startGateway({ workers })
    const [old] = await world.near.call('dialMany', DEST4, 7001, 1)
    await delay(1_200) // what is put off at the start is done
    const bytes = PATTERN.length * 16 * TIMES
    await world.near.call('write', old!, PATTERN, 16 * TIMES)
    await until(async () => (await world.near.call('view', old!)).bytes > 0, 'the first of them')
    await world.client.ip(['link set tg0 down'])
    t.true((await world.near.call('view', old!)).bytes < bytes, 'amid a transfer')
    const before = gateway.cpuMs()
    await delay(1_000)
    const used = gateway.cpuMs() - before
    t.true(used < 500, `${used} ms of CPU in a second`)
    await world.client.ip(['link set tg0 up'])
    await world.client.routeAllInto('tg0')
    await until(async () => (await world.near.call('view', old!)).bytes === bytes, 'the rest', 20_000)
    await worksOver(t, old!, 'after')
    await world.near.call('destroy', [old!])
  })

for (const workers of [1, 2])
  test.serial(
    `device: deleted amid a transfer: exit code 1 within 2 s, with one clear error (workers: ${workers})`,
    async t => {
      const gateway = await startGateway({ workers })
      const ids = await world.near.call('dialMany', DEST4, 7001, 8)
      for (const id of ids) await world.near.call('write', id, PATTERN, 4 * TIMES)
      const { child } = gateway
      await world.client.ip(['link del tg0'])
      const ms = await until(() => child.exitCode !== null, 'the end')
      t.true(ms < 2_000, `${ms} ms`)
      t.is(child.exitCode, 1)
      const errors = gateway.lines().filter(({ level }) => level === 'error')
      t.is(errors.length, 1)
      t.is(errors[0]!.code, 'TUN_GONE')
      t.regex(errors[0]!.message, /on tg0: EBADFD: the device was removed/)
      await world.near.call('destroy', ids)
    },
  )
