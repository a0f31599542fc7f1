import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { startBadSocks } from './bad-socks.ts'
import { connectNamespaces, createNamespace, type Namespace } from './namespaces.ts'
import {
  isInstalled,
  isListening,
  type RealServer,
  startDante,
  startIperf3,
  startMicrosocks,
  startNginx,
} from './servers.ts'
import { readAll, readBytes, tcpConnect, udpEnd, until } from './sockets.ts'
import { scriptOf } from './socks-faults.ts'

const PROXY = '10.8.0.2'
const PROXY6 = 'fd08::2'
const user = { username: 'me', password: 'se cret' }

/** A client and a server namespace, and nginx with `hello` in the second. */
async function pair(t: ExecutionContext, rights: 'root' | 'rootless') {
  const client = await createNamespace({ rights })
  t.teardown(() => client.close())
  const server = await createNamespace({ within: client })
  t.teardown(() => server.close())
  const addresses = { a: ['10.8.0.1/24', 'fd08::1/64'], b: [`${PROXY}/24`, `${PROXY6}/64`] }
  await connectNamespaces(client, server, { addresses })
  const root = await mkdtemp(join(tmpdir(), 'served-'))
  t.teardown(() => rm(root, { recursive: true }))
  await writeFile(join(root, 'hello'), 'hello from nginx\n')
  const web = await startNginx(server, { hosts: ['127.0.0.1', '::1'], port: 8080, root })
  t.teardown(() => web.close())
  return { client, server }
}

const curl = (place: Namespace, proxy: string, url: string) =>
  place.run('curl', ['-sS', '-m', '5', '-x', proxy, '--noproxy', '', url])

const rights = process.geteuid?.() === 0 ? (['root', 'rootless'] as const) : (['rootless'] as const)

for (const right of rights) {
  test(`servers: ${right}: dante, with and without a password, IPv4 and IPv6`, async t => {
    if (!isInstalled('danted')) return skip(t, 'danted')
    const { client, server } = await pair(t, right)
    const ends = { internal: [PROXY, PROXY6], external: ['lo'] }
    const plain = await startDante(server, { port: 1080, ...ends })
    const closed = await startDante(server, { port: 1081, ...ends, credentials: user })
    for (const dante of [plain, closed]) t.teardown(() => dante.close())
    const [name, secret] = [user.username, encodeURIComponent(user.password)]
    for (const proxy of [`${PROXY}:1080`, `[${PROXY6}]:1080`, `${name}:${secret}@${PROXY}:1081`])
      for (const url of ['http://127.0.0.1:8080/hello', 'http://[::1]:8080/hello']) {
        const { stdout, stderr } = await curl(client, `socks5://${proxy}`, url)
        t.is(stdout, 'hello from nginx\n', `${proxy} ${url}: ${stderr}\n${plain.log()}\n${closed.log()}`)
      }
    t.is((await curl(client, `socks5://${name}:wrong@${PROXY}:1081`, 'http://127.0.0.1:8080/hello')).code, 97)
    await endsWell(t, server, plain)
  })

  test(`servers: ${right}: microsocks, with and without a password, and iperf3`, async t => {
    if (!isInstalled('microsocks') || !isInstalled('iperf3')) return skip(t, 'microsocks or iperf3')
    const { client, server } = await pair(t, right)
    const plain = await startMicrosocks(server, { host: PROXY, port: 1080 })
    const closed = await startMicrosocks(server, { host: PROXY6, port: 1081, credentials: user })
    const iperf3 = await startIperf3(server, 5201)
    for (const one of [plain, closed, iperf3]) t.teardown(() => one.close())
    const [name, secret] = [user.username, encodeURIComponent(user.password)]
    for (const proxy of [`${PROXY}:1080`, `${name}:${secret}@[${PROXY6}]:1081`]) {
      const { stdout, stderr } = await curl(client, `socks5://${proxy}`, 'http://127.0.0.1:8080/hello')
      t.is(stdout, 'hello from nginx\n', stderr)
    }
    t.is((await curl(client, `socks5://${name}:wrong@[${PROXY6}]:1081`, 'http://127.0.0.1:8080/')).code, 97)
    t.is((await client.run('iperf3', ['-c', PROXY, '-n', '1M', '-J'])).code, 0)
    await endsWell(t, server, iperf3)
  })
}

async function endsWell(t: ExecutionContext, place: Namespace, server: RealServer) {
  t.true(await isListening(place, server.port))
  await server.close()
  t.false(await isListening(place, server.port))
}

function skip(t: ExecutionContext, program: string): void {
  t.log(`skipped: ${program} is not installed`)
  t.pass()
}

test('servers: one that ends at once is told with what it said', async t => {
  const namespace = await createNamespace()
  t.teardown(() => namespace.close())
  if (!isInstalled('nginx')) return skip(t, 'nginx')
  await t.throwsAsync(startNginx(namespace, { hosts: ['192.0.2.1'], port: 80, root: '/' }), {
    message: /nginx did not start: exit 1.*192\.0\.2\.1/s,
  })
})

test('bad-socks: it plays its script, in pieces, and keeps what came', async t => {
  const bad = await startBadSocks(n =>
    n === 0 ? [{ expect: 3 }, { send: [5, 0], piece: 1 }, 'end'] : [{ expect: 1 }, 'reset'],
  )
  t.teardown(() => bad.close())
  const first = await tcpConnect(t, bad.port)
  first.write(Uint8Array.of(5, 1, 0))
  t.deepEqual([...(await readAll(first))], [5, 0])
  first.end()
  t.deepEqual([...bad.received[0]!], [5, 1, 0])
  await until(() => bad.live() === 0, 'the end')
  const second = await tcpConnect(t, bad.port)
  second.write('x')
  await t.throwsAsync(readAll(second), { code: 'ECONNRESET' })
})

test('udp-relay: full cone: a peer that was never asked is heard, with its address', async t => {
  const relay = await startBadSocks(scriptOf(['relay']))
  t.teardown(() => relay.close())
  const control = await tcpConnect(t, relay.port)
  control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0))
  const reply = await readBytes(control, 12)
  const [client, asked, stranger] = [await udpEnd(t), await udpEnd(t), await udpEnd(t)]
  const header = (port: number) => [0, 0, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]
  client.send(Uint8Array.from([...header(asked.port), 1, 2]), reply.readUInt16BE(10))
  const { message, peer } = await asked.next()
  t.deepEqual([...message], [1, 2])
  t.is(relay.outgoingPorts[0], peer.port)
  stranger.send(Uint8Array.of(9), peer.port)
  t.deepEqual([...(await client.next()).message], [...header(stranger.port), 9])
})
