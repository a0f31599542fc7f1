/** Rules of a real gateway: where flows go, and what comes of files that change under load. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { ECHO_PORT, startSocksAndEchoes } from './destinations.ts'
import { DEST4, type GatewayProcess, gatewayForEach, PROXY4, until, type World } from './world.ts'

const OFFICE_PORT = 1081
const LIVE = 100
const LOAD_AT_ONCE = 8

let world: World
const start = gatewayForEach(
  async each => {
    await startSocksAndEchoes(each)
    await each.far.call('startSocks', { host: PROXY4, port: OFFICE_PORT })
  },
  each => {
    world = each
  },
)

function write(name: string, text: string): string {
  const file = join(world.folder, name)
  writeFileSync(file, text)
  return file
}

function startWith(file: string, more: readonly string[] = [], workers = 1): Promise<GatewayProcess> {
  const upstreams = `--upstreams={office: 'socks5://${PROXY4}:${OFFICE_PORT}', home: 'direct://?interface=veth0'}`
  return start({ args: [upstreams, '--rules-file', file, ...more], workers })
}

/** Where a flow to the port goes by now: its reason, as the status tells it. */
async function whyOf(gateway: GatewayProcess, port: number): Promise<string> {
  const { id, code } = await world.near.call('dial', DEST4, port)
  if (code !== '') return code
  const { flows } = await gateway.status()
  await world.near.call('destroy', [id])
  const [latest] = flows
    .filter(({ destination }) => destination === `${DEST4}:${port}`)
    .toSorted((one, other) => one.ageMs - other.ageMs)
  return latest?.why ?? ''
}

const ROUTES = `
- { to: office, name: the office, port: ${ECHO_PORT} }
- { to: home, port: 7002 }
- { to: reject, port: 7003 }
- { to: drop, port: 7004 }
- { to: reject, protocol: udp, port: 7 }
`

test.serial('rules: flows go where their rule says, which the status and the log of each tell', async t => {
  await world.far.call('listen', 'other', '0.0.0.0', 7002, 'echo')
  const gateway = await startWith(write('rules.yaml', ROUTES))
  t.is(await whyOf(gateway, ECHO_PORT), 'rule 1 (the office): office')
  t.is(await whyOf(gateway, 7002), 'rule 2: home')
  const rejected = await world.near.call('dial', DEST4, 7003)
  t.is(rejected.code, 'ECONNREFUSED')
  t.true(rejected.ms < 200, `${rejected.ms} ms`)
  t.is((await world.near.call('dial', DEST4, 7004, 700)).code, 'STILL_CONNECTING')
  const ended = () => gateway.logged('tcp flow ended')
  await until(() => ended().length >= 4, 'the ends of the flows')
  t.truthy(ended().find(({ why, destination }) => why === 'rule 3: reject' && destination === `${DEST4}:7003`))
  t.truthy(ended().find(({ why }) => why === 'rule 4: drop'))
})

test.serial('rules: SIGHUP with a right and a wrong file under load, and no flow is lost', async t => {
  const file = write('changing.yaml', '- { to: office, port: 9 }\n')
  const gateway = await startWith(file)
  const live = await world.near.call('dialMany', DEST4, ECHO_PORT, LIVE)
  let went = 0
  let asked = 0
  let isOver = false
  const load = (async () => {
    while (!isOver) {
      asked += 50
      went += await world.near.call('shortConnections', DEST4, ECHO_PORT, 50, LOAD_AT_ONCE)
    }
  })()
  await until(() => asked > 50, 'the load')
  write('changing.yaml', `- { to: office, name: by now, port: ${ECHO_PORT} }\n`)
  gateway.child.kill('SIGHUP')
  await until(() => gateway.logged('rules replaced').length > 0, 'the right file')
  const since = asked
  write('changing.yaml', `- { to: office, port: ${ECHO_PORT} }\n- { to: offfice }\n`)
  gateway.child.kill('SIGHUP')
  await until(() => gateway.logged('the rules stay as they were').length > 0, 'the wrong file')
  await until(() => asked > since + 100, 'more of the load')
  t.is(await whyOf(gateway, ECHO_PORT), 'rule 1 (by now): office')
  isOver = true
  await load
  t.is(went, asked, 'short connections all the while')
  const { flows } = await gateway.status()
  const kept = flows.filter(({ why, state }) => state === 'open' && why === 'no rule: proxy')
  t.is(kept.length, LIVE, 'who was there stays where it was')
  const echoes = live.slice(0, 20)
  for (const id of echoes) await world.near.call('write', id, 'still there')
  for (const id of echoes)
    await until(async () => (await world.near.call('view', id)).text.endsWith('still there'), 'the echo')
  const [wrong] = gateway.logged('the rules stay as they were')
  t.is(wrong!.level, 'error')
  t.regex(wrong!.message, /changing\.yaml:2: rule 2: to: found "offfice" \(did you mean office\?\)/)
  await world.near.call('destroy', live)
})

test.serial('rules: a file that changes is read without a signal, by all workers', async t => {
  const file = write('watched.yaml', '[]\n')
  const gateway = await startWith(file, [], 2)
  const none = await whyOf(gateway, ECHO_PORT)
  t.is(none, '', 'nothing to decide')
  write('watched.yaml', `- { to: office, name: seen, port: ${ECHO_PORT} }\n`)
  await until(() => gateway.logged('rules replaced').length > 0, 'the change')
  const reasons: string[] = []
  for (let at = 0; at < 12; at++) reasons.push(await whyOf(gateway, ECHO_PORT))
  t.deepEqual([...new Set(reasons)], ['rule 1 (seen): office'])
  t.is(await gateway.counter('rules_replaced'), 1)
})

test.serial('rules: a script holds SYNs until its verdict', async t => {
  const script = `export default defineRules(async flow => {
    await new Promise(resolve => setTimeout(resolve, 10))
    return flow.port === ${ECHO_PORT} ? 'office' : 'reject'
  })
  `
  const gateway = await startWith(write('rules.mjs', script))
  t.is(await whyOf(gateway, ECHO_PORT), 'rules.mjs: office')
  t.is(await whyOf(gateway, 7003), 'ECONNREFUSED')
  t.is(await world.near.call('shortConnections', DEST4, ECHO_PORT, 100, 16), 100)
})

test.serial('rules: a wrong file at the start is one line and exit code 2, and nothing is opened', async t => {
  const file = write('wrong.yaml', '- to: nobody\n')
  const error = await t.throwsAsync(startWith(file))
  t.regex(error!.message, /^the gateway ended with 2: .*wrong\.yaml:1: rule 1: to: found \\"nobody\\"/s)
  t.false(await world.hasDevice('tg0'))
})
