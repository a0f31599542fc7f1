/** What most tests talk with: the embedded proxy, and the destinations behind it. */
import type { SocksOptions } from './server-ends.ts'
import { DEST4, PROXY4, type World } from './world.ts'

/** Of the TCP echoes. */
export const ECHO_PORT = 7001
/** The proxy's SYNs to it are heard by nobody, so its dials last; see `addSilent`. */
export const SILENT4 = '192.0.2.99'

/** TCP echoes at `ECHO_PORT`, UDP echoes at port 7 of DEST4. */
export async function startEchoes(world: World): Promise<void> {
  await world.far.call('listen', 'echo', '0.0.0.0', ECHO_PORT, 'echo')
  await world.far.call('startUdpEchoes', [DEST4], 7)
}

export async function startSocksAndEchoes(world: World, options: Partial<SocksOptions> = {}): Promise<void> {
  await world.far.call('startSocks', { host: PROXY4, ...options })
  await startEchoes(world)
}

export async function addSilent(world: World): Promise<void> {
  await world.server.ip([
    `route add ${SILENT4}/32 dev veth0`,
    `neigh add ${SILENT4} lladdr 02:00:00:00:00:99 dev veth0 nud permanent`,
  ])
}
