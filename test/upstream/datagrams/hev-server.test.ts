/**
 * UDP in TCP with the real hev-socks5-server, where HEV_SOCKS5_SERVER names its binary (2.13.1 was tried); our own of
 * test/helpers/udp-in-tcp.ts stands for it in all other runs.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import type { Association, DatagramFields } from '../../../src/upstream/dialer.ts'
import { type RealServer, startProgram } from '../../helpers/servers.ts'
import { closedPort, udpEnd, until } from '../../helpers/sockets.ts'
import { filler } from '../../helpers/socks-faults.ts'
import { associated, DATA, open, type Rig, SCRATCH, silent } from '../rig.ts'

const BINARY = process.env.HEV_SOCKS5_SERVER
const SLOT = 131_072
const FOUND = 262_144
const USER = { username: 'me', password: 's3cret-w0rd' }

async function start(t: ExecutionContext, binary: string, withUser: boolean): Promise<RealServer> {
  const folder = await mkdtemp(join(tmpdir(), 'hev-'))
  const port = await closedPort()
  const file = join(folder, 'main.yml')
  const auth = withUser ? `auth:\n  username: ${USER.username}\n  password: ${USER.password}\n` : ''
  await writeFile(file, `main:\n  workers: 1\n  port: ${port}\n  listen-address: '127.0.0.1'\n${auth}`)
  const server = await startProgram(undefined, port, binary, [file], () => rm(folder, { recursive: true }))
  t.teardown(() => server.close())
  return server
}

function send(
  { bytes, words }: Rig,
  association: Association,
  host: string,
  port: number,
  payload: Uint8Array,
): number {
  const address = parseAddress(host)!
  bytes.set(address, DATA)
  const header = association.writeHeader(DATA + 64, DATA, address.length === 4 ? 4 : 6, port, payload.length)
  bytes.set(payload, DATA + 64 + header)
  words.set([0, 1, 0, DATA + 64, header + payload.length], SCRATCH / 4)
  return association.send(SCRATCH, SCRATCH + 12, 1)
}

function receive({ bytes, words }: Rig, association: Association): { port: number; payload: Buffer }[] {
  words.set([SLOT, 0], SCRATCH / 4 + 8)
  const rows = association.receive(SCRATCH + 32, 1, 65_536, FOUND)
  const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  const got: { port: number; payload: Buffer }[] = []
  for (let row = FOUND / 4; row < FOUND / 4 + 2 * rows; row += 2)
    if (association.parseDatagram(words[row]!, words[row + 1]!, fields))
      got.push({
        port: fields.port,
        payload: Buffer.from(bytes.slice(fields.payloadAt, fields.payloadAt + fields.payloadBytes)),
      })
  return got
}

for (const withUser of [false, true])
  for (const host of ['127.0.0.1', '::1'])
    test(`hev-socks5-server: UDP in TCP to ${host}${withUser ? ', with a password' : ''}: each size it can carry`, async t => {
      if (BINARY === undefined) {
        t.log('skipped: HEV_SOCKS5_SERVER does not name its binary')
        t.pass()
        return
      }
      const server = await start(t, BINARY, withUser)
      const end = await udpEnd(t, host)
      const rig = open(t, server.port, withUser ? USER : {}, silent, { handshake: 'auto' }, 'tcp')
      const association = await associated(t, rig)
      const largest = host === '::1' ? 1_481 : 1_493
      for (const bytes of [1, 2, 500, 1_452, 1_472, largest]) {
        t.is(send(rig, association, host, end.port, filler(bytes)), 1)
        const { message, peer } = await end.next()
        t.deepEqual(message, Buffer.from(filler(bytes)))
        end.send(message, peer.port)
        const got: { port: number; payload: Buffer }[] = []
        await until(() => got.push(...receive(rig, association)) > 0, `the answer of ${bytes} bytes`)
        t.deepEqual(got, [{ port: end.port, payload: Buffer.from(filler(bytes)) }])
      }
      // what we hold back would be the last that it reads
      const header = association.writeHeader(DATA + 64, DATA, host === '::1' ? 6 : 4, end.port, largest + 1)
      t.true(header + largest + 1 > association.maxBytes)
      t.is(association.writeHeader(DATA + 64, DATA, 4, end.port, 0), 0)
    })

test('hev-socks5-server: a thousand datagrams in both directions, each whole', async t => {
  if (BINARY === undefined) {
    t.log('skipped: HEV_SOCKS5_SERVER does not name its binary')
    t.pass()
    return
  }
  const server = await start(t, BINARY, false)
  const end = await udpEnd(t)
  end.socket.on('message', (message, peer) => end.socket.send(message, peer.port, peer.address))
  const rig = open(t, server.port, {}, silent, {}, 'tcp')
  const association = await associated(t, rig)
  const seen = new Set<number>()
  for (let count = 1; count <= 1_000; count++) {
    t.is(send(rig, association, '127.0.0.1', end.port, filler(count)), 1)
    await until(() => {
      for (const { payload } of receive(rig, association)) {
        if (payload.equals(filler(payload.length))) seen.add(payload.length)
      }
      return seen.has(count)
    }, `number ${count}`)
  }
  t.is(seen.size, 1_000)
})

test('hev-socks5-server: a datagram that it cannot send makes it deaf, and another association is not', async t => {
  if (BINARY === undefined) {
    t.log('skipped: HEV_SOCKS5_SERVER does not name its binary')
    t.pass()
    return
  }
  const server = await start(t, BINARY, false)
  const end = await udpEnd(t)
  const rig = open(t, server.port, {}, silent, {}, 'tcp')
  const deaf = await associated(t, rig)
  // no socket may send to broadcast without asking first
  t.is(send(rig, deaf, '255.255.255.255', 9, filler(10)), 1)
  t.is(send(rig, deaf, '127.0.0.1', end.port, filler(20)), 1)
  await t.throwsAsync(end.next(500), undefined, 'it would be heard by now')
  const other = await associated(t, rig)
  t.is(send(rig, other, '127.0.0.1', end.port, filler(30)), 1)
  t.is((await end.next()).message.length, 30)
})
