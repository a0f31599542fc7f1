import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket as PeerSocket, type Server } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { UnixTransport } from '../../../src/upstream/transport/transport-unix.ts'
import { until } from '../../helpers/sockets.ts'
import { connected, openPoller, User } from './transport-rig.ts'

function place(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return join(folder, 'proxy.sock')
}

async function listen(
  t: ExecutionContext,
  path: string,
  serve: (socket: PeerSocket) => void,
  backlog = 64,
): Promise<Server> {
  const open: PeerSocket[] = []
  const server = createServer({ allowHalfOpen: true }, socket => {
    open.push(socket.on('error', () => {}))
    serve(socket)
  })
  server.listen({ path, backlog })
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return server
}

test.serial('unix: bytes go both ways, and each side ends apart', async t => {
  const path = place(t)
  await listen(t, path, socket => socket.pipe(socket))
  const user = await connected(t, new UnixTransport(openPoller(t), path))
  t.is(user.peer, undefined)
  await user.send('ping')
  user.socket!.end()
  await until(() => user.ended !== undefined, 'the end')
  t.deepEqual([user.text, user.ended], ['ping', 'FIN'])
})

test.serial('unix: why a path is no proxy is told with the path, and nothing stays open', async t => {
  const before = addon.openDescriptors()
  const path = place(t)
  const poller = openPoller(t)
  const refused = async (at: string, message: RegExp) => {
    const transport = new UnixTransport(poller, at)
    const user = new User()
    transport.connect(user)
    t.is(user.calls, 0, 'never inside of connect()')
    await until(() => user.calls > 0, 'an outcome')
    t.like(user.error, { failure: 'upstream-down' })
    t.is(user.end, 'unreached')
    t.regex(user.error!.message, message)
  }
  await refused(path, /^the proxy cannot be reached: there is nothing at \/.*proxy\.sock \(ENOENT\)$/)
  writeFileSync(path, '')
  await refused(path, /nobody listens at .* \(ECONNREFUSED\)/)
  await refused(`${path}/more`, /there is nothing at .* \(ENOTDIR\)/)
  await refused('/nowhere/\u202e\n', /nothing at \/nowhere\/\\u\{202e\}\\u\{a\} /)
  if (userInfo().uid !== 0) {
    chmodSync(path, 0)
    await refused(path, /its rights do not let us use .* \(EACCES\)/)
  }
  t.is(addon.openDescriptors(), before)
})

test.serial('unix: a proxy that has not accepted as many as may wait is asked again until it does', async t => {
  const path = place(t)
  const poller = openPoller(t)
  const before = addon.openDescriptors()
  // perl listens with a backlog of 1 and accepts nobody until it is told
  const program = `use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) && bind(S, sockaddr_un($ARGV[0])) && listen(S, 1) or die $!;
    $| = 1; print "listens\\n"; <STDIN>; while (accept(C, S)) { syswrite(C, "x"); close C; }`
  const proxy = spawn('perl', ['-e', program, path], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => proxy.kill('SIGKILL'))
  await once(proxy.stdout, 'data')
  const transport = new UnixTransport(poller, path)
  const users = Array.from({ length: 6 }, () => new User())
  const waits = users.map(user => transport.connect(user))
  const waiting = waits.filter(each => each !== undefined)
  t.true(waiting.length >= 3 && waiting.every(each => each.stands))
  t.regex(waiting.at(-1)!.expire(), /accepts no connection: too many wait at /)
  const last = users.at(-1)!
  proxy.stdin.write('go\n')
  await until(() => users.every(user => user === last || user.ended !== undefined), 'all served')
  t.true(users.every(user => user === last || user.text === 'x'))
  t.is(last.calls, 0)
  for (const user of users) user.socket?.close()
  t.is(addon.openDescriptors(), before)
})

test.serial('unix: the close of the transport ends what waits', async t => {
  const transport = new UnixTransport(openPoller(t), place(t))
  const user = new User()
  transport.connect(user)
  transport.close()
  await new Promise(resolve => setTimeout(resolve, 20))
  t.is(user.calls, 0)
})

test.serial('unix: without a descriptor the dial fails at once, for this machine', async t => {
  const path = place(t)
  await listen(t, path, () => {})
  const poller = openPoller(t)
  Object.assign(poller, { capacity: 0 })
  t.throws(() => new UnixTransport(poller, path).connect(new User()), { code: 'EMFILE' })
})
