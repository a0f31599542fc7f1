import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import { SocksClient } from 'socks'
import { startSocksServer } from '../../src/demo/socks-server.ts'
import { addon } from '../../src/io/addon.ts'
import { addressFields, parseAuth, parseGreeting, parseRequest } from '../../src/upstream/socks5/socks5-codec.ts'
import { type Step, startBadSocks } from '../helpers/bad-socks.ts'
import { tcpServer, until } from '../helpers/sockets.ts'
import { dial, OK, open } from '../upstream/rig.ts'
import { Random } from './random.ts'
import { mutateBytes, pieces } from './texts.ts'

const PASSWORD = 'S3cr3tZq'
const DIALS = 150
const AT_ONCE = 10
const FAILURES = /^[a-z-]+$/

/** What a proxy says in a handshake with user and password, each behind so many bytes, and the first bytes of the destination. */
const ANSWERS = [
  [3, Buffer.from([5, 2])],
  [12, Buffer.from([1, 0])],
  [8, Buffer.from([...OK, ...Buffer.from('first bytes')])],
] as const

/** Behind an answer that is wrong the proxy waits for nothing more: who waits for each other is the time-out's business. */
function conversation(random: Random): Step[] {
  const steps: Step[] = []
  let isRight = true
  for (const [expect, answer] of ANSWERS) {
    if (isRight) steps.push({ expect })
    if (random.once(3)) isRight = false
    steps.push(...pieces(isRight ? answer : mutateBytes(answer, random), random).map(send => ({ send })))
  }
  return [...steps, random.once(2) ? 'end' : 'reset']
}

for (const handshake of ['strict', 'pipelined', 'auto'] as const)
  test.serial(
    `fuzz: handshake ${handshake}: a proxy that answers anything ends each dial once, and nothing is left`,
    async t => {
      const random = new Random(handshake.length)
      let isGood = false
      const server = await startBadSocks(() => {
        if (isGood) return ANSWERS.flatMap(([expect, send]) => [{ expect }, { send }])
        return conversation(random)
      })
      const said: string[] = []
      const keep = (...line: unknown[]) => void said.push(JSON.stringify(line))
      const log = { info: keep, warn: keep }
      const before = addon.openDescriptors()
      const credentials = { username: 'user', password: PASSWORD }
      const rig = open(t, server.port, credentials, log, { handshake })
      let connected = 0
      for (let round = 0; round < DIALS; round += AT_ONCE) {
        const dials = Array.from({ length: AT_ONCE }, () => dial(t, rig).outcome)
        await until(() => dials.every(outcome => outcome.calls > 0), 'the outcomes')
        for (const outcome of dials) {
          t.is(outcome.calls, 1)
          if (outcome.error !== undefined) t.regex(outcome.error.failure, FAILURES)
          said.push(outcome.error?.message ?? '')
          if (outcome.connected !== undefined) connected++
          outcome.connected?.socket.close()
        }
      }
      t.true(connected > 0 && connected < DIALS, `${connected} of ${DIALS} answers were right`)
      isGood = true
      let last = dial(t, rig).outcome
      await until(() => {
        if (last.calls > 0 && last.connected === undefined) last = dial(t, rig).outcome
        return last.connected !== undefined
      }, 'a connection through a proxy that has come to its senses')
      last.connected!.socket.close()
      rig.dialer.close()
      await until(() => addon.openDescriptors() === before, 'the descriptors')
      await server.close()
      t.deepEqual(
        said.filter(text => text.includes(PASSWORD)),
        [],
      )
    },
  )

/** A client's whole side: greeting, user and password, CONNECT to `port`. */
function request(port: number): Buffer {
  const user = Buffer.from('user')
  const password = Buffer.from(PASSWORD)
  return Buffer.from([
    5,
    1,
    2,
    1,
    user.length,
    ...user,
    password.length,
    ...password,
    5,
    1,
    0,
    1,
    127,
    0,
    0,
    1,
    port >> 8,
    port & 255,
  ])
}

/** A right request for another address than loopback: no test asks for one. */
function leadsAway(said: Buffer): boolean {
  let at = parseGreeting(said, 0, said.length, { offersNone: false, offersPassword: false })
  if (at <= 0) return false
  const auth = { usernameAt: 0, usernameLength: 0, passwordAt: 0, passwordLength: 0 }
  const used = parseAuth(said, at, said.length - at, auth)
  if (used <= 0) return false
  at += used
  const fields = { command: -1, ...addressFields() }
  if (parseRequest(said, at, said.length - at, fields) <= 0) return false
  return fields.addressLength !== 4 || said[fields.addressAt] !== 127
}

test.serial(
  'fuzz: the embedded SOCKS5 server: clients that say anything are let go, and the next is served',
  async t => {
    const random = new Random(9)
    const target = await tcpServer(t, socket => {
      socket.on('data', chunk => socket.end(chunk))
      socket.on('end', () => socket.end())
    })
    const server = await startSocksServer({ username: 'user', password: PASSWORD, handshakeTimeoutMs: 1_000 })
    t.teardown(() => server.close())
    const speak = async () => {
      const client = connect({ port: server.port, host: server.host })
      client.on('error', () => undefined)
      client.resume()
      await once(client, 'connect')
      const said = mutateBytes(request(target), random)
      for (const piece of pieces(leadsAway(said) ? request(target) : said, random)) {
        if (client.destroyed) break
        client.write(piece)
        if (random.once(2)) await turn()
      }
      if (random.once(2)) client.end()
      else client.resetAndDestroy()
    }
    for (let round = 0; round < 30; round++) await Promise.all(Array.from({ length: AT_ONCE }, speak))
    const { socket } = await SocksClient.createConnection({
      proxy: { host: server.host, port: server.port, type: 5, userId: 'user', password: PASSWORD },
      command: 'connect',
      destination: { host: '127.0.0.1', port: target },
      timeout: 5_000,
    })
    const answer = once(socket, 'data')
    socket.write('still there')
    t.is(String((await answer)[0]), 'still there')
    socket.destroy()
    await until(() => server.counters.liveConnections === 0, 'the end of every connection')
  },
)
