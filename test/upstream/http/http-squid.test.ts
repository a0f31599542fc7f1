/** squid with Digest on loopback: our requests, its answers, and its reasons. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { type Attempt, HttpAuthentication } from '../../../src/upstream/http/http-authentication.ts'
import { parseChallenges } from '../../../src/upstream/http/http-challenge.ts'
import {
  connectAuthority,
  encodeConnect,
  fieldTexts,
  parseResponse,
  responseFields,
} from '../../../src/upstream/http/http-codec.ts'
import { refusedByHttp } from '../../../src/upstream/http/http-reasons.ts'
import { MALFORMED, NEED_MORE } from '../../../src/upstream/socks5/socks5-codec.ts'
import { isInstalled, type RealServer, startProgram } from '../../helpers/servers.ts'
import { closedPort, tcpServer } from '../../helpers/sockets.ts'

const USER = { username: 'me', password: 's3cret w0rd' }
const REALM = 'test proxy'
const LOOPBACK = Uint8Array.of(127, 0, 0, 1)
const HELPERS = ['/usr/lib/squid/digest_file_auth', '/usr/lib64/squid/digest_file_auth']
/** Uses of one nonce, so that some go stale. */
const NONCE_USES = 5

/** Destinations may be on loopback, but for port 7. */
async function startSquid(port: number, helper: string): Promise<RealServer> {
  const folder = await mkdtemp(join(tmpdir(), 'squid-'))
  await chmod(folder, 0o755)
  const hash = createHash('md5').update(`${USER.username}:${REALM}:${USER.password}`).digest('hex')
  const users = join(folder, 'users')
  await writeFile(users, `${USER.username}:${REALM}:${hash}\n`)
  const config = [
    `http_port 127.0.0.1:${port}`,
    'visible_hostname squid.test',
    'pid_filename none',
    'cache_log /dev/null',
    'access_log none',
    'cache deny all',
    'pinger_enable off',
    'netdb_filename none',
    'shutdown_lifetime 0 seconds',
    'max_filedescriptors 1024',
    'connect_timeout 5 seconds',
    `auth_param digest program ${helper} -c ${users}`,
    'auth_param digest children 1 startup=1 idle=1',
    `auth_param digest realm ${REALM}`,
    `auth_param digest nonce_max_count ${NONCE_USES}`,
    'acl known proxy_auth REQUIRED',
    'acl forbidden port 7',
    'http_access deny !known',
    'http_access deny forbidden',
    'http_access allow all',
  ]
  const file = join(folder, 'squid.conf')
  await writeFile(file, `${config.join('\n')}\n`)
  return startProgram(undefined, port, 'squid', ['-N', '-d', '1', '-f', file], () => rm(folder, { recursive: true }))
}

interface Outcome {
  readonly requests: number
  readonly error?: DialError
}

/** A dial through the proxy, and when it succeeds the word there and back. */
async function dial(t: ExecutionContext, auth: HttpAuthentication, proxy: number, port: number): Promise<Outcome> {
  const authority = connectAuthority({ address: LOOPBACK, port })
  let attempt = auth.first(authority)
  for (let requests = 1; ; requests++) {
    const answer = await request(t, proxy, authority, attempt, auth)
    if (answer === undefined || 'failure' in answer) return { requests, ...(answer && { error: answer }) }
    attempt = answer
  }
}

/** The next attempt, why there is none, or undefined when the word came back. */
async function request(
  t: ExecutionContext,
  proxy: number,
  authority: string,
  attempt: Attempt,
  auth: HttpAuthentication,
): Promise<Attempt | DialError | undefined> {
  const socket = connect(proxy, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.setTimeout(10_000, () => socket.destroy(new Error('silence')))
  await once(socket, 'connect')
  const bytes = new Uint8Array(4_080)
  socket.write(bytes.subarray(0, encodeConnect(bytes, 0, authority, attempt.authorization)))
  let came = Buffer.alloc(0)
  let sent = false
  for await (const chunk of socket) {
    came = Buffer.concat([came, chunk as Buffer])
    const fields = responseFields()
    const used = parseResponse(came, 0, came.length, fields)
    t.not(used, MALFORMED)
    if (used === NEED_MORE) continue
    if (fields.status === 407) {
      return auth.challenged(attempt, parseChallenges(fieldTexts(came, fields, 'proxy-authenticate')), authority)
    }
    if (!sent) auth.passed(attempt)
    if (fields.status < 200 || fields.status > 299) return refusedByHttp(came, fields)
    if (!sent) socket.write('word')
    sent = true
    if (came.toString('latin1', used) === 'word') return undefined
  }
  throw new Error(`the proxy has closed: ${came.toString('latin1')}`)
}

test('http-squid: Digest, its nonces, refusals and reasons', async t => {
  const helper = HELPERS.find(file => existsSync(file))
  if (!isInstalled('squid') || helper === undefined) {
    t.log('skipped: squid is not installed')
    t.pass()
    return
  }
  const port = await closedPort()
  const squid = await startSquid(port, helper)
  t.teardown(() => squid.close())
  const echo = await tcpServer(t, socket => socket.pipe(socket))
  const auth = new HttpAuthentication(USER)

  t.deepEqual(await dial(t, auth, port, echo), { requests: 2 })
  let requests = 0
  for (let count = 0; count < 4 * NONCE_USES; count++) requests += (await dial(t, auth, port, echo)).requests
  t.true(requests > 4 * NONCE_USES && requests <= 8 * NONCE_USES, `${requests} requests`)
  const many = await Promise.all(Array.from({ length: 30 }, () => dial(t, auth, port, echo)))
  t.deepEqual(
    many.filter(({ error }) => error !== undefined),
    [],
  )

  t.is((await dial(t, auth, port, await closedPort())).error?.failure, 'refused')
  t.is((await dial(t, auth, port, 7)).error?.failure, 'prohibited')
  for (const wrong of [{ username: 'me', password: 'other' }, { username: 'you', password: USER.password }, {}])
    t.is((await dial(t, new HttpAuthentication(wrong), port, echo)).error?.failure, 'authentication')
})
