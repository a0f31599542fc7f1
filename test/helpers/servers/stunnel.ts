/** stunnel: TLS in front of a server that has none. */
import type { Place, RealServer } from '../servers.ts'
import { makeFolder, startWithFolder } from './folder.ts'

export interface StunnelOptions {
  readonly host: string
  readonly port: number
  /** Where what it has decrypted goes, at the same address. */
  readonly to: number
  /** PEM: its certificate with what leads to its authority, and its key. */
  readonly cert: string
  readonly key: string
  /** PEM: clients must show a certificate of this authority. */
  readonly clientCa?: string
}

export async function startStunnel(place: Place, options: StunnelOptions): Promise<RealServer> {
  const { host, port, to, cert, key, clientCa } = options
  const folder = await makeFolder('stunnel')
  const authority =
    clientCa === undefined ? [] : [`CAfile = ${await folder.write('ca.pem', clientCa)}`, 'verifyChain = yes']
  const lines = [
    'foreground = yes',
    'pid =',
    '[proxy]',
    `accept = ${host}:${port}`,
    `connect = ${host}:${to}`,
    `cert = ${await folder.write('cert.pem', cert)}`,
    `key = ${await folder.write('key.pem', key)}`,
    ...authority,
  ]
  const file = await folder.write('stunnel.conf', `${lines.join('\n')}\n`)
  return startWithFolder(folder, place, port, 'stunnel', [file])
}
