/** For a file whose tests go through real upstreams: one world, each server started when it is first needed, one gateway at a time. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import type { Credentials, RealServer } from '../helpers/servers.ts'
import { type Authority, makeAuthority, prepareDestinations, SERVERS } from './upstream-servers.ts'
import type { UpstreamName } from './upstream-table.ts'
import { createWorld, endsWithFile, type GatewayProcess, type World } from './world.ts'

export interface Upstreams {
  readonly world: World
  readonly gateway: GatewayProcess
  /** From now on `gateway` dials through that server, and names have virtual addresses. */
  through(name: UpstreamName, user: Credentials): Promise<void>
}

/** Its fields are there when a test begins, `gateway` when `through` was called. */
export function upstreamsForFile(): Upstreams {
  let world: World | undefined
  let gateway: GatewayProcess | undefined
  let authority: Authority
  let present = ''
  let last: UpstreamName = 'embedded'
  const started = new Map<UpstreamName, readonly RealServer[]>()

  test.before(async () => {
    world = await createWorld()
    const file = join(world.folder, 'ca.pem')
    const { pem, ...made } = makeAuthority()
    await writeFile(file, pem)
    authority = { ...made, file }
    await prepareDestinations(world)
    // any address: what it is asked is answered by the gateway
    await world.client.useResolver(['192.0.2.53'])
  })
  endsWithFile(() => ({ world, gateway }))
  test.afterEach.always(t => {
    if (!t.passed) for (const server of started.get(last) ?? []) t.log(server.log().slice(-2000))
  })

  return {
    get world() {
      return world!
    },
    get gateway() {
      return gateway!
    },
    async through(name, user) {
      last = name
      const server = SERVERS[name]
      if (!started.has(name)) started.set(name, await server.start(world!, authority))
      const proxy = server.url(user, authority)
      if (proxy === present) return
      await gateway?.stop()
      present = proxy
      gateway = await world!.gateway({ proxy, args: ['--dns-mode', 'map'] })
    },
  }
}
