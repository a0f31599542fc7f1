import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { answerQuery, startDnsServer } from '../../src/demo/dns-server.ts'
import { patternSha256, startHttpServer } from '../../src/demo/http-server.ts'
import { listenOnOnePort } from '../../src/demo/listening.ts'
import { startUdpEcho } from '../../src/demo/udp-echo.ts'
import { isInstalled } from '../helpers/servers.ts'
import { readAll, readBytes, tcpConnect, tcpServer, udpEnd } from '../helpers/sockets.ts'

const run = promisify(execFile)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function origin(t: ExecutionContext, hosts?: string[]) {
  const server = await startHttpServer(hosts ? { hosts } : {})
  t.teardown(() => server.close())
  return `http://127.0.0.1:${server.port}`
}

test('http-server: a download is as long as asked, always the same, and has the hash that is told', async t => {
  const url = await origin(t)
  const long = Buffer.from(await (await fetch(`${url}/bytes/3000001`)).arrayBuffer())
  t.is(long.length, 3_000_001)
  for (const size of [0, 1, 1 << 20, (1 << 20) + 1, 3_000_001]) {
    const bytes = Buffer.from(await (await fetch(`${url}/bytes/${size}`)).arrayBuffer())
    t.true(bytes.equals(long.subarray(0, size)))
    t.is((await (await fetch(`${url}/sha256/${size}`)).text()).trim(), sha256(bytes))
  }
  // Not a constant, not one byte again and again.
  t.true(new Set(long.subarray(0, 4096)).size > 200)
})

test('http-server: not a byte more than announced is sent', async t => {
  const url = await origin(t)
  const socket = await tcpConnect(t, Number(new URL(url).port))
  socket.write('GET /bytes/1048579 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  const all = await readAll(socket)
  t.is(all.length - (all.indexOf('\r\n\r\n') + 4), 1_048_579)
})

test('http-server: an upload is counted and hashed', async t => {
  const url = await origin(t)
  for (const method of ['POST', 'PUT'])
    for (const body of [new Uint8Array(0), new Uint8Array(randomBytes(2_000_003))]) {
      const answer = await fetch(`${url}/upload`, { method, body })
      t.deepEqual(await answer.json(), { bytes: body.length, sha256: sha256(body) })
    }
})

test('http-server: what it does not know is said with the status', async t => {
  const url = await origin(t, ['127.0.0.1', '::1'])
  const status = async (path: string, method = 'GET') => (await fetch(url + path, { method })).status
  t.is(await status('/'), 200)
  t.is(await status('/other'), 404)
  t.is(await status('/', 'DELETE'), 405)
  t.is(await status('/upload'), 405)
  for (const count of ['', 'x', '-1', '1e3', '12abc', '99999999999999']) t.is(await status(`/bytes/${count}`), 400)
  t.is((await fetch(`${url.replace('127.0.0.1', '[::1]')}/bytes/5`)).headers.get('content-length'), '5')
  t.is((await fetch(`${url}/bytes/1000000000000`, { method: 'HEAD' })).headers.get('content-length'), '1000000000000')
})

test('http-server: close ends a download in the middle, and a hash that nobody waits for is given up', async t => {
  const server = await startHttpServer()
  const socket = await tcpConnect(t, server.port)
  socket.write('GET /bytes/1000000000000 HTTP/1.1\r\nhost: x\r\n\r\n')
  await readBytes(socket, 1000)
  const ended = readAll(socket).catch(() => undefined)
  await Promise.all([server.close(), server.close()])
  await ended
  await t.throwsAsync(patternSha256(2 ** 40, () => true))
})

const table = new Map([
  ['both.test', [Uint8Array.of(192, 0, 2, 1), new Uint8Array(16).fill(7)]],
  ['empty.test', []],
])
const question = (name: string, type = 1, klass = 1) => [
  ...name.split('.').flatMap(label => [label.length, ...Buffer.from(label)]),
  ...[0, type >> 8, type & 255, klass >> 8, klass & 255],
]
/** ID 0x1234, RD, one question. */
const query = (...asked: number[]) => Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...asked)

test('dns-server: A and AAAA from the table, whatever the case of the name', t => {
  const a = answerQuery(query(...question('BOTH.test')), table)
  const records = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]
  t.deepEqual([...a!], [0x12, 0x34, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0, ...question('BOTH.test'), ...records])
  const aaaa = answerQuery(query(...question('both.test', 28)), table)!
  t.deepEqual([...aaaa.subarray(-28)], [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, ...new Array(16).fill(7)])
})

test('dns-server: no such name, no such type, and what is not spoken here', t => {
  const head = (bytes: Uint8Array | undefined) =>
    bytes && { code: bytes[3]! & 15, questions: bytes[5], answers: bytes[7] }
  const ask = (...bytes: number[]) => head(answerQuery(query(...bytes), table))
  t.deepEqual(ask(...question('other.test')), { code: 3, questions: 1, answers: 0 })
  t.deepEqual(ask(...question('empty.test')), { code: 0, questions: 1, answers: 0 })
  t.deepEqual(ask(...question('both.test', 15)), { code: 0, questions: 1, answers: 0 })
  t.deepEqual(ask(...question('both.test', 1, 3)), { code: 5, questions: 1, answers: 0 })
  const update = query(...question('both.test'))
  update[2] = 5 << 3
  t.deepEqual(head(answerQuery(update, table)), { code: 4, questions: 0, answers: 0 })
})

test('dns-server: cut and broken queries are FORMERR, what is no query is dropped, nothing throws', t => {
  const whole = query(...question('both.test'))
  for (let cut = 0; cut < whole.length; cut++) {
    const response = answerQuery(whole.subarray(0, cut), table)
    if (cut < 12) t.is(response, undefined)
    else t.deepEqual([...response!], [0x12, 0x34, 0x85, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  }
  const response = Uint8Array.from(whole)
  response[2] = 0x81
  t.is(answerQuery(response, table), undefined)
  const compressed = answerQuery(query(0xc0, 12, 0, 1, 0, 1), table)
  t.is(compressed![3], 1)
  const long = answerQuery(query(...question(new Array(130).fill('a').join('.'))), table)
  t.is(long![3], 1)
  const label = answerQuery(query(...question('a'.repeat(64))), table)
  t.is(label![3], 1)
  for (let round = 0; round < 2000; round++) {
    const noise = randomBytes(round % 300)
    if (noise.length > 12) noise.set([0, 0, 0, 1], 2)
    t.notThrows(() => answerQuery(noise, table))
  }
})

test('dns-server: dig gets its answers over UDP and TCP', async t => {
  if (!isInstalled('dig')) {
    t.log('skipped: dig is not installed')
    t.pass()
    return
  }
  const server = await startDnsServer({
    names: { 'demo.test': ['192.0.2.7', '2001:db8::7'] },
    hosts: ['127.0.0.1', '::1'],
  })
  t.teardown(() => server.close())
  const dig = async (...args: string[]) =>
    (await run('dig', ['+short', '+tries=1', '+time=3', '-p', String(server.port), ...args])).stdout.trim()
  for (const at of ['@127.0.0.1', '@::1'])
    for (const over of ['+notcp', '+tcp']) {
      t.is(await dig(at, over, 'demo.test', 'A'), '192.0.2.7')
      t.is(await dig(at, over, 'demo.test', 'AAAA'), '2001:db8::7')
      t.is(await dig(at, over, 'nothing.test', 'A'), '')
    }
})

test('dns-server: a table with a wrong address is refused', async t => {
  await t.throwsAsync(startDnsServer({ names: { a: ['1.2.3'] } }), { message: 'a: "1.2.3" is not an IP address' })
  await t.throwsAsync(startDnsServer({ names: { a: new Array(9).fill('1.2.3.4') } }), { instanceOf: RangeError })
})

test('udp-echo: datagrams of 0 to 65,507 bytes come back, over IPv4 and IPv6 on one port', async t => {
  const server = await startUdpEcho({ hosts: ['127.0.0.1', '::1'] })
  t.teardown(() => server.close())
  for (const host of ['127.0.0.1', '::1']) {
    const client = await udpEnd(t, host)
    for (const size of [0, 1, 65_507]) {
      const message = randomBytes(size)
      client.send(message, server.port)
      t.true((await client.next()).message.equals(message))
    }
  }
})

test('listening: all on one port, and none stays open when one of them fails', async t => {
  const closed: number[] = []
  const taken = await tcpServer(t, socket => socket.destroy())
  const ok = (port: number) =>
    Promise.resolve({
      port: port || taken,
      close: async () => {
        closed.push(port)
      },
    })
  const fails = () => Promise.reject(Object.assign(new Error('taken'), { code: 'EADDRINUSE' }))
  await t.throwsAsync(listenOnOnePort([ok, fails], taken), { code: 'EADDRINUSE' })
  t.is(closed.length, 1)
  await t.throwsAsync(listenOnOnePort([ok, fails], 0), { code: 'EADDRINUSE' })
  t.is(closed.length, 11)
  t.is((await listenOnOnePort([ok, ok], 0)).port, taken)
  await t.notThrowsAsync(
    new Promise((resolve, reject) => connect(taken, '127.0.0.1').on('connect', resolve).on('error', reject)),
  )
})
