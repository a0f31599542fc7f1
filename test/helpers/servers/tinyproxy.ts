/** tinyproxy: a proxy for HTTP, with Basic authentication or none. */
import type { Credentials, Place, RealServer } from '../servers.ts'
import { makeFolder, startWithFolder } from './folder.ts'

export interface TinyproxyOptions {
  readonly host: string
  readonly port: number
  /** Without spaces and quotes. */
  readonly credentials?: Credentials
}

export async function startTinyproxy(place: Place, { host, port, credentials }: TinyproxyOptions): Promise<RealServer> {
  const folder = await makeFolder('tinyproxy')
  const user = credentials ? [`BasicAuth ${credentials.username} ${credentials.password}`] : []
  const lines = [`Port ${port}`, `Listen ${host}`, 'Timeout 60', 'MaxClients 500', 'LogLevel Connect', ...user]
  const file = await folder.write('tinyproxy.conf', `${lines.join('\n')}\n`)
  return startWithFolder(folder, place, port, 'tinyproxy', ['-d', '-c', file])
}
