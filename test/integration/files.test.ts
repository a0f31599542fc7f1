/** A process that may have 64 files open. */
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { startSocksAndEchoes } from './destinations.ts'
import { DEST4, gatewayForEach, until, type World } from './world.ts'

const FILES = 64

let world: World
const startGateway = gatewayForEach(startSocksAndEchoes, made => {
  world = made
})

async function echoes(id: number, text: string): Promise<void> {
  await world.near.call('write', id, text)
  await until(async () => (await world.near.call('view', id)).text.endsWith(text), `"${text}" of ${id}`)
}

/** Connects until it is refused: who is connected. */
async function fill(t: { is(a: unknown, b: unknown): void }): Promise<number[]> {
  const ids: number[] = []
  for (let refused = 0; refused < 3; ) {
    const { id, code, ms } = await world.near.call('dial', DEST4, 7001, 3000)
    if (code === '') ids.push(id)
    else {
      refused++
      t.is(code, 'ECONNREFUSED')
      t.is(ms < 1000, true)
    }
  }
  return ids
}

for (const workers of [1, 2])
  test.serial(
    `files: at the limit old flows live, new ones are refused at once, it can be asked, and nothing spins (workers: ${workers})`,
    async t => {
      const gateway = await startGateway({ files: workers === 1 ? FILES : 2 * FILES, workers })
      const ids = await fill(t)
      t.true(ids.length >= 10, `${ids.length} flows`)
      const udp = await world.near.call('openUdp', '0.0.0.0')
      await world.near.call('connectUdp', udp.id, DEST4, 7)
      await world.near.call('sendUdp', udp.id, 100)
      if (workers === 1)
        await until(async () => (await world.near.call('viewUdp', udp.id)).error === 'ECONNREFUSED', 'port unreachable')

      const before = { cpu: gateway.cpuMs(), at: performance.now(), tries: 0 }
      for (let round = 0; round < 40; round++) {
        const { code, id } = await world.near.call('dial', DEST4, 7001, 1000)
        if (code === '') ids.push(id)
        else t.is(code, 'ECONNREFUSED')
        t.true((await gateway.status()).flows.length >= ids.length, 'the status socket answers')
        await delay(20)
      }
      const share = (gateway.cpuMs() - before.cpu) / (performance.now() - before.at)
      t.true(share < 0.5, `${share} of a core`)
      for (const id of ids) await echoes(id, 'still there')

      // what was closed is used again within a second, by a connection and by an association, which needs two of its own worker's
      await world.near.call('destroy', ids.splice(0, 8 * workers))
      const since = performance.now()
      await until(async () => (await world.near.call('dial', DEST4, 7001, 1000)).code === '', 'a connection')
      const got = async () => {
        await world.near.call('sendUdp', udp.id, 100).catch(() => undefined)
        return (await world.near.call('viewUdp', udp.id)).got.length > 0
      }
      await until(got, 'an answer to a datagram')
      t.true(performance.now() - since < 1000)
      const said = gateway.lines().filter(({ level, message }) => level !== 'debug' && message !== 'upstream up')
      const each = new Map<string, number>()
      for (const { message } of said) each.set(message, (each.get(message) ?? 0) + 1)
      t.deepEqual(
        [...each].filter(([, count]) => count > 1),
        [],
        'each complaint once',
      )
      t.is(gateway.logged('no socket to the proxy can be made')[0]?.reason, 'EMFILE')
      await world.near.call('destroy', ids)
      await world.near.call('closeUdp', udp.id)
    },
  )

test.serial(
  'files: connections to the status socket that take the last descriptors: nothing spins, flows live',
  async t => {
    const gateway = await startGateway({ files: FILES, args: ['--upstream-pool', '0'] })
    const { pid } = gateway.child
    const [id] = await world.near.call('dialMany', DEST4, 7001, 1)
    const ours = readdirSync(`/proc/${pid}/fd`).map(Number)
    const highest = Math.max(...ours.filter(fd => fd < FILES)) // one that was inherited may be above
    const limit = (soft: number) => world.client.mustRun('prlimit', ['--pid', String(pid), `--nofile=${soft}:${FILES}`])
    await limit(highest + 1)
    const before = { cpu: gateway.cpuMs(), at: performance.now() }
    const sockets = Array.from({ length: 20 }, () => connect(gateway.statusSocket).on('error', () => undefined))
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
    })
    await delay(1000)
    const share = (gateway.cpuMs() - before.cpu) / (performance.now() - before.at)
    t.true(share < 0.5, `${share} of a core`)
    await echoes(id!, 'still there')
    t.is((await world.near.call('dial', DEST4, 7001, 3000)).code, 'ECONNREFUSED')

    for (const socket of sockets) socket.destroy()
    await limit(FILES)
    await until(async () => (await gateway.status().catch(() => undefined)) !== undefined, 'the status')
    t.is((await world.near.call('dial', DEST4, 7001, 3000)).code, '')
  },
)
