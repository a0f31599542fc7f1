/** squid: a proxy for HTTP with Basic (RFC 7617) or Digest (RFC 7616) authentication. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Credentials, Place, RealServer } from '../servers.ts'
import { type Folder, makeFolder, startWithFolder } from './folder.ts'

export interface SquidOptions {
  readonly host: string
  readonly port: number
  readonly authentication?: { readonly scheme: 'basic' | 'digest' } & Credentials
}

const REALM = 'proxy'
const HELPERS = ['/usr/lib/squid', '/usr/lib64/squid'].find(existsSync)
/** Any but root, which squid will not be; its files are those of the user of the tests. */
const USER = ['-U', '--map-user=13', '--map-group=13']

export async function startSquid(place: Place, options: SquidOptions): Promise<RealServer> {
  const { host, port } = options
  const folder = await makeFolder('squid')
  const lines = [
    `http_port ${host.includes(':') ? `[${host}]` : host}:${port}`,
    'visible_hostname proxy.test',
    'pid_filename none',
    'cache_log /dev/stderr',
    'access_log none',
    'cache deny all',
    'cache_mem 1 MB',
    'max_filedescriptors 4096',
    'pinger_enable off',
    'netdb_filename none',
    'shutdown_lifetime 0 seconds',
    `coredump_dir ${folder.path('.')}`,
    ...(await authenticate(folder, options.authentication)),
    'http_access deny all',
  ]
  const file = await folder.write('squid.conf', `${lines.join('\n')}\n`)
  // -n: what it shares by name is its own
  const squid = ['setpriv', '--pdeathsig', 'KILL', '--', 'squid', '-N', '-n', `test${process.pid}p${port}`, '-f', file]
  return startWithFolder(folder, place, port, 'unshare', [...USER, ...squid])
}

async function authenticate(folder: Folder, authentication: SquidOptions['authentication']): Promise<string[]> {
  if (authentication === undefined) return ['http_access allow all']
  const { scheme, username, password } = authentication
  const known = scheme === 'basic' ? password : `${username}:${REALM}:${password}`
  const hash = createHash('md5').update(known).digest('hex')
  const users = await folder.write('users', `${username}:${scheme === 'basic' ? '' : `${REALM}:`}${hash}\n`)
  const program = scheme === 'basic' ? 'basic_ncsa_auth' : 'digest_file_auth -c'
  return [
    `auth_param ${scheme} program ${HELPERS}/${program} ${users}`,
    `auth_param ${scheme} realm ${REALM}`,
    `auth_param ${scheme} children 1 startup=1`,
    'acl known proxy_auth REQUIRED',
    'http_access allow known',
  ]
}
