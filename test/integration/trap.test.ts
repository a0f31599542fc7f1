/** A stack that stops, by a byte of its memory that somebody else has written. */
import test from 'ava'
import { watchWaiting } from '../helpers/machine.ts'
import { spoilHeldSyn } from '../helpers/stack-memory.ts'
import { addSilent, SILENT4, startSocksAndEchoes } from './destinations.ts'
import { createWorld, DEST4, type GatewayProcess, until, type World } from './world.ts'

const MANY = 24
const TRAP = 'the stack stopped'
const SERVES_MS = 100
/** However busy the machine is. */
const MOST_MS = 2_000
/** Other programs of this machine may spoil some; what the gateway waited for a CPU in a round is not its own. */
const MAX_ROUNDS = 3

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await addSilent(world)
  await startSocksAndEchoes(world)
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway.text.slice(-2000))
  await gateway.stop()
})
test.after.always(() => world?.close())

/** A dial that takes the gateway too long, over a SYN that is spoilt meanwhile. The client gives up before. */
async function trap(connectTimeoutMs: number): Promise<void> {
  const before = gateway.logged(TRAP).length
  const dialed = world.near.call('dial', SILENT4, 80, 0.7 * connectTimeoutMs)
  let clientPort = 0
  await until(async () => {
    const dialing = (await gateway.status()).flows.find(flow => flow.destination === `${SILENT4}:80`)
    clientPort = Number(dialing?.client.split(':').at(-1) ?? 0)
    return clientPort > 0
  }, 'the dial')
  if (!spoilHeldSyn(gateway.child.pid!, clientPort)) throw new Error(`no held SYN of port ${clientPort}`)
  await until(() => gateway.logged(TRAP).length > before || gateway.child.exitCode !== null, 'the end of the stack')
  await dialed
}

for (const workers of [1, 2])
  test.serial(
    `trap: its flows are lost, a new stack goes on, other stacks are not touched (workers: ${workers})`,
    async t => {
      let ids: number[] = []
      const took: { ms: number; waited: number }[] = []
      const isInTime = ({ ms, waited }: { ms: number; waited: number }) => ms < SERVES_MS + waited && ms < MOST_MS
      while (took.length < MAX_ROUNDS && !took.some(isInTime)) {
        await gateway?.stop()
        await world.near.call('destroy', ids)
        gateway = await world.gateway({ workers, args: ['--tcp-connect-timeout', '1s'] })
        ids = await world.near.call('dialMany', DEST4, 7001, MANY)
        const waiting = watchWaiting(gateway.child.pid!)
        await trap(1000)
        const [line, ...more] = gateway.logged(TRAP)
        t.is(more.length, 0)
        t.is(line!.level, 'error')
        t.is(line!.reason, 'lwIP stopped: pbuf_free: p->ref > 0')
        const ms = Number((await gateway.untilLog('a new stack serves')).ms)
        took.push({ ms, waited: waiting.tell() })
      }
      t.log(took)
      t.true(isInTime(took.at(-1)!), JSON.stringify(took))
      // a worker that makes a stack answers late, and counts with its last answer until then
      await until(async () => (await gateway.counter('stack_restarts')) === 1, 'the count')
      const { flows } = await gateway.status()
      const left = flows.filter(flow => flow.destination === `${DEST4}:7001`).length
      if (workers === 1) t.is(left, 0)
      else t.true(left > 0 && left < MANY, `${left} flows live`)

      // nobody has said a word since
      const views = async () => await Promise.all(ids.map(id => world.near.call('view', id)))
      const reset = async () => (await views()).filter(view => view.error === 'ECONNRESET').length
      await until(async () => (await reset()) === MANY - left, 'RST to the others')
      for (const id of ids) await world.near.call('write', id, 'still there?')
      const settled = (view: { text: string; error: string }) => view.text !== '' || view.error !== ''
      await until(async () => (await views()).every(settled), 'an answer to all')
      const ended = await views()
      t.is(ended.filter(view => view.text === 'still there?').length, left)

      const fresh = await world.near.call('dialMany', DEST4, 7001, MANY)
      for (const id of fresh) await world.near.call('write', id, 'new')
      for (const id of fresh) await until(async () => (await world.near.call('view', id)).text === 'new', 'the echo')
      t.is(gateway.child.exitCode, null)
      await world.near.call('destroy', [...ids, ...fresh])
      t.is((await gateway.stop()).code, 0)
      t.false(await world.hasDevice('tg0'))
    },
  )

for (const workers of [1, 2])
  test.serial(`trap: the third within a minute ends the gateway, and says so (workers: ${workers})`, async t => {
    gateway = await world.gateway({ workers, args: ['--tcp-connect-timeout', '500ms'] })
    for (let count = 1; count <= 3; count++) await trap(500)
    await until(() => gateway.child.exitCode !== null, 'the end')
    t.is(gateway.child.exitCode, 1)
    const [line, ...more] = gateway.lines().filter(line => line.code === 'STACK_TRAP')
    t.is(more.length, 0)
    t.regex(line!.message, /^lwIP stopped 3 times within 60 s, the last time so: lwIP stopped: pbuf_free/)
    t.false(await world.hasDevice('tg0'))
  })
