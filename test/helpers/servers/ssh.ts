/** `ssh -D`: the SOCKS server in OpenSSH's client, which forwards to a server of its own, dropbear, with keys made on the spot. */
import { chmod, mkdir } from 'node:fs/promises'
import type { Namespace } from '../namespaces.ts'
import { type RealServer, startProgram } from '../servers.ts'
import { type Folder, makeFolder, startWithFolder } from './folder.ts'

export interface SshOptions {
  readonly host: string
  readonly port: number
  /** Of loopback, where the SSH server listens. */
  readonly serverPort: number
}

const SERVER = '127.0.0.1'

/** What it asks of a machine is in its namespace: a home for root, with the client's key in it. */
export async function startSsh(place: Namespace, { host, port, serverPort }: SshOptions): Promise<RealServer> {
  const folder = await makeFolder('ssh')
  try {
    await makeKeys(place, folder)
  } catch (error) {
    await folder.remove()
    throw error
  }
  const listen = ['-p', `${SERVER}:${serverPort}`, '-P', folder.path('pid'), '-r', folder.path('host')]
  const server = await startWithFolder(folder, place, serverPort, 'dropbear', ['-F', '-E', ...listen])
  const set = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes', 'ExitOnForwardFailure=yes']
  const options = [...set, 'IdentitiesOnly=yes'].flatMap(option => ['-o', option])
  const to = ['-p', String(serverPort), `root@${SERVER}`]
  const args = ['-N', '-D', `${host}:${port}`, '-F', '/dev/null', ...options, '-i', folder.path('client'), ...to]
  try {
    const client = await startProgram(place, port, 'ssh', args, () => server.close())
    return { ...client, log: () => client.log() + server.log() }
  } catch (error) {
    await server.close()
    throw new Error(`${(error as Error).message}\n${server.log()}`)
  }
}

async function makeKeys(place: Namespace, folder: Folder): Promise<void> {
  await place.mustRun('dropbearkey', ['-t', 'ed25519', '-f', folder.path('host')])
  await place.mustRun('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', folder.path('client')])
  const publicKey = await place.mustRun('ssh-keygen', ['-y', '-f', folder.path('client')])
  await mkdir(folder.path('.ssh'), { mode: 0o700 })
  await folder.write('.ssh/authorized_keys', publicKey)
  await chmod(folder.path('.'), 0o700)
  const users = await place.mustRun('cat', ['/etc/passwd'])
  const home = `root:x:0:0::${folder.path('')}:/bin/sh`
  await place.bindFile('/etc/passwd', users.replace(/^root:.*$/m, home))
}
