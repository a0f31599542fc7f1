/** hev-socks5-server, where HEV_SOCKS5_SERVER names its program: no package has it. */
import type { Credentials, Place, RealServer } from '../servers.ts'
import { makeFolder, startWithFolder } from './folder.ts'

export interface HevOptions {
  readonly host: string
  readonly port: number
  readonly credentials?: Credentials
}

/** undefined: not on this machine. */
export const hevProgram = process.env.HEV_SOCKS5_SERVER

export async function startHev(place: Place, { host, port, credentials }: HevOptions): Promise<RealServer> {
  if (hevProgram === undefined) throw new Error('HEV_SOCKS5_SERVER names no program')
  const folder = await makeFolder('hev')
  const main = ['main:', '  workers: 1', `  port: ${port}`, `  listen-address: '${host}'`]
  const user = credentials
    ? ['auth:', `  username: '${credentials.username}'`, `  password: '${credentials.password}'`]
    : []
  const log = ['misc:', '  log-file: stderr', '  log-level: warn']
  const file = await folder.write('hev.yml', `${[...main, ...user, ...log].join('\n')}\n`)
  return startWithFolder(folder, place, port, hevProgram, [file])
}
