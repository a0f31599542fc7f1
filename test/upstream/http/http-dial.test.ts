/** Dials through an HTTP proxy that answers as told. */
import type { Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { DialFailure } from '../../../src/upstream/dialer.ts'
import { closedPort, tcpServer, until } from '../../helpers/sockets.ts'
import { CLIENT, DEST6, dial, openUrl, outcomeOf, read, silent } from '../rig.ts'

interface Asked {
  readonly text: string
  /** From 0; and of how many the connection has had before. */
  readonly connection: number
  readonly before: number
}

/** Each request has one answer; what is '' is none. `end` closes behind it. */
type Answer = (asked: Asked, socket: Socket) => string | { readonly text: string; readonly end: true }

async function proxy(t: ExecutionContext, answer: Answer) {
  const requests: Asked[] = []
  let connections = 0
  const port = await tcpServer(t, socket => {
    const connection = connections++
    let text = ''
    let before = 0
    socket.on('data', chunk => {
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end < 0) return
      const asked = { text: text.slice(0, end + 4), connection, before: before++ }
      text = text.slice(end + 4)
      requests.push(asked)
      const said = answer(asked, socket)
      if (typeof said === 'string') socket.write(said, 'latin1')
      else socket.end(said.text, 'latin1')
    })
  })
  return { port, requests, connections: () => connections }
}

const OK = 'HTTP/1.1 200 OK\r\n\r\n'
const BASIC = 'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="r"\r\n'
const CREDENTIALS = `Proxy-Authorization: Basic ${Buffer.from('me:s3cret').toString('base64')}\r\n`
const DIGEST =
  'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="r", nonce="NONCE", qop="auth"\r\nContent-Length: 0\r\n\r\n'
const hasPassword = ({ text }: Asked) => text.includes('\r\nProxy-Authorization: ')

test('http: one request, whose answer opens the tunnel', async t => {
  const { port, requests } = await proxy(t, () => OK)
  const { connected } = await outcomeOf(t, openUrl(t, `http://127.0.0.1:${port}`))
  t.truthy(connected)
  t.deepEqual(
    requests.map(({ text }) => text),
    ['CONNECT 203.0.113.7:443 HTTP/1.1\r\nHost: 203.0.113.7:443\r\n\r\n'],
  )
})

test('http: names and IPv6 go as they are', async t => {
  const { port, requests } = await proxy(t, () => OK)
  const rig = openUrl(t, `http://127.0.0.1:${port}`)
  t.truthy((await outcomeOf(t, rig, { name: 'example.org', port: 80 })).connected)
  t.truthy((await outcomeOf(t, rig, DEST6)).connected)
  t.true(requests[0]!.text.startsWith('CONNECT example.org:80 HTTP/1.1\r\nHost: example.org:80\r\n'))
  t.true(requests[1]!.text.startsWith('CONNECT [2001:db8::7]:443 HTTP/1.1\r\n'))
})

test('http: a name that no request may hold is refused, and nothing is sent', async t => {
  const { port, connections } = await proxy(t, () => OK)
  const { error } = await outcomeOf(t, openUrl(t, `http://127.0.0.1:${port}`), { name: 'a b\r\nX: y', port: 80 })
  t.is(error?.failure, 'unsupported')
  t.is(connections(), 0)
})

for (const [what, head] of [
  ['a Content-Length', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n'],
  ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['interim answers before it', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299 Fine\r\n\r\n'],
  ['fields of 16 KB', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(16_384 - 24)}\r\n\r\n`],
] as const)
  for (const piece of [1, 1000, 100_000])
    test(`http: bytes behind an answer with ${what} are the client's first, in pieces of ${piece}`, async t => {
      const words = 'SSH-2.0-server'
      const { port } = await proxy(t, (_, socket) => {
        const all = head + words
        socket.setNoDelay(true)
        for (let at = 0; at < all.length; at += piece) socket.write(all.slice(at, at + piece))
        return ''
      })
      const rig = openUrl(t, `http://127.0.0.1:${port}`)
      const { connected } = await outcomeOf(t, rig)
      t.is(await read(rig, connected!, words.length), words)
    })

for (const [status, fields, failure] of [
  ['403 Forbidden', '', 'prohibited'],
  ['502 Bad Gateway', '', 'host-unreachable'],
  ['504 Gateway Timeout', '', 'host-unreachable'],
  ['503 Service Unavailable', 'X-Squid-Error: ERR_CONNECT_FAIL 111\r\n', 'refused'],
  ['500 Error', '', 'general'],
] as const satisfies readonly (readonly [string, string, DialFailure])[])
  test(`http: ${status} ${fields.trim()} is told as ${failure}`, async t => {
    const { port } = await proxy(t, () => `HTTP/1.1 ${status}\r\n${fields}Content-Length: 2\r\n\r\nno`)
    const { error } = await outcomeOf(t, openUrl(t, `http://127.0.0.1:${port}`))
    t.is(error?.failure, failure)
    t.true(error?.message.includes(status.slice(0, 3)), error?.message)
  })

for (const [what, first, wanted] of [
  ['with a page, on the same connection', `${BASIC}Content-Length: 5\r\n\r\nhello`, 1],
  ['without a page, on the same connection', `${BASIC}Content-Length: 0\r\n\r\n`, 1],
  ['that ends the connection, on a new one', `${BASIC}Connection: close\r\nContent-Length: 0\r\n\r\n`, 2],
  ['in chunks, on a new one', `${BASIC}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 2],
  ['with more behind it than it says, on a new one', `${BASIC}Content-Length: 1\r\n\r\nhello`, 2],
  ['with a page of 1 MB, on a new one', `${BASIC}Content-Length: 1000000\r\n\r\n`, 2],
] as const)
  test(`http: a challenge ${what}, is answered`, async t => {
    const { port, requests, connections } = await proxy(t, asked => (hasPassword(asked) ? OK : first))
    const { connected } = await outcomeOf(t, openUrl(t, `http://me:s3cret@127.0.0.1:${port}`))
    t.truthy(connected)
    t.is(connections(), wanted)
    t.is(requests.length, 2)
    t.true(requests[1]!.text.includes(CREDENTIALS))
  })

test('http: a page that comes late is waited for', async t => {
  const { port, connections } = await proxy(t, (asked, socket) => {
    if (hasPassword(asked)) return OK
    setTimeout(() => socket.write('hello'), 100)
    return `${BASIC}Content-Length: 5\r\n\r\n`
  })
  t.truthy((await outcomeOf(t, openUrl(t, `http://me:s3cret@127.0.0.1:${port}`))).connected)
  t.is(connections(), 1)
})

for (const within of ['', 'HTTP/1.1 4'])
  test(`http: a connection that is closed though it was to be kept (${within}) is made anew`, async t => {
    const { port, connections } = await proxy(t, asked => {
      if (asked.before > 0) return { text: within, end: true }
      return hasPassword(asked) ? OK : `${BASIC}Content-Length: 0\r\n\r\n`
    })
    const { connected, error } = await outcomeOf(t, openUrl(t, `http://me:s3cret@127.0.0.1:${port}`))
    t.is(connected === undefined, within !== '', 'what has begun to answer is not asked again')
    t.is(connections(), within === '' ? 2 : 1)
    if (within !== '') t.is(error?.message, 'the proxy closed the connection within its reply to the request')
  })

test('http: Basic is known to the next dial, Digest counts on', async t => {
  const basic = await proxy(t, asked => (hasPassword(asked) ? OK : `${BASIC}Content-Length: 0\r\n\r\n`))
  const rig = openUrl(t, `http://me:s3cret@127.0.0.1:${basic.port}`)
  for (let dials = 0; dials < 3; dials++) t.truthy((await outcomeOf(t, rig)).connected)
  t.is(basic.requests.length, 4)

  const digest = await proxy(t, asked => (hasPassword(asked) ? OK : DIGEST))
  const other = openUrl(t, `http://me:s3cret@127.0.0.1:${digest.port}`)
  for (let dials = 0; dials < 3; dials++) t.truthy((await outcomeOf(t, other)).connected)
  const counts = digest.requests.map(({ text }) => /nc=(\w+)/.exec(text)?.[1])
  t.deepEqual(counts, [undefined, '00000001', '00000002', '00000003'])
})

for (const [status, denial] of [
  [407, `${BASIC}Content-Length: 0\r\n\r\n`],
  [401, 'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n'],
] as const)
  test(`http: a wrong password (${status}) is shown once, told once, and stands in no message`, async t => {
    const said: string[] = []
    const tell = (line: string, fields?: object) => said.push(`${line} ${JSON.stringify(fields)}`)
    const { port, requests } = await proxy(t, asked =>
      hasPassword(asked) ? denial : `${BASIC}Content-Length: 0\r\n\r\n`,
    )
    const rig = openUrl(t, `http://me:s3cret@127.0.0.1:${port}`, { info: tell, warn: tell } as never)
    // those that wait for the first verdict do so for a second at most, and machines are slow
    const first = await outcomeOf(t, rig)
    const outcomes = [first, ...(await Promise.all(Array.from({ length: 20 }, () => outcomeOf(t, rig))))]
    for (const { error } of outcomes) {
      t.is(error?.failure, 'authentication')
      t.false(error!.message.includes('s3cret'))
    }
    t.is(requests.filter(hasPassword).length, 1)
    t.is(said.length, 1, said.join('\n'))
    t.regex(said[0]!, /^upstream down .*check both in the configuration/)
  })

test('http: a proxy that wants a password and has none configured is told once', async t => {
  const said: string[] = []
  const tell = (line: string, fields?: object) => said.push(`${line} ${JSON.stringify(fields)}`)
  const { port } = await proxy(t, () => `${BASIC}Content-Length: 0\r\n\r\n`)
  const rig = openUrl(t, `http://127.0.0.1:${port}`, { info: tell, warn: tell } as never)
  for (let dials = 0; dials < 3; dials++) t.is((await outcomeOf(t, rig)).error?.failure, 'authentication')
  t.is(said.length, 1)
  t.regex(said[0]!, /none is configured/)
})

test('http: the user name carries the client, and one who is refused is no verdict on another', async t => {
  const said: string[] = []
  const tell = (line: string, fields?: { upstream?: string; client?: string }) =>
    said.push(`${line} ${fields?.client ?? ''} ${fields?.upstream ?? ''}`)
  const name = Buffer.from('u-198.18.0.2:p').toString('base64')
  const { port, requests } = await proxy(t, asked =>
    asked.text.includes(name) ? OK : `${BASIC}Content-Length: 0\r\n\r\n`,
  )
  const rig = openUrl(t, `http://u-{source}:p@127.0.0.1:${port}`, { info: tell, warn: tell } as never, 4)
  const other = { address: Uint8Array.of(198, 18, 0, 9), port: 1 }
  const failures: string[] = []
  for (let dials = 1; dials <= 3; dials++) {
    rig.dialer.connect({ name: 'a.org', port: 1 }, other, {
      onConnected: () => t.fail(),
      onFailed: ({ failure }) => failures.push(failure),
    })
    if (failures.length < dials) await until(() => failures.length === dials, 'a refusal')
  }
  t.deepEqual(CLIENT.address, Uint8Array.of(198, 18, 0, 2))
  t.truthy((await outcomeOf(t, rig)).connected)
  const others = requests.filter(({ text }) => text.includes(Buffer.from('u-198.18.0.9:p').toString('base64')))
  t.is(others.length, 1, 'it is not shown again at once')
  t.is(said.filter(line => line.includes('user name')).length, 1)
  t.true(said.includes(`the proxy does not accept the user name and password of a client 198.18.0.9 127.0.0.1:${port}`))
  t.false(said.some(line => line.startsWith('upstream down')))
})

for (const [what, bytes, pattern] of [
  ['SOCKS5', '\x05\xff', /not HTTP.*SOCKS5 proxy\?/],
  ['TLS', '\x15\x03\x01\x00\x02', /wants TLS/],
  ['a head without end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(17_000)}`, /more than 16 KB/],
] as const)
  test(`http: an answer that is ${what}`, async t => {
    const { port } = await proxy(t, () => bytes)
    const { error } = await outcomeOf(t, openUrl(t, `http://127.0.0.1:${port}`))
    t.is(error?.failure, 'upstream-down')
    t.regex(error!.message, pattern)
  })

test('http: one that nobody answers, and one that says nothing', async t => {
  const dead = await outcomeOf(t, openUrl(t, `http://127.0.0.1:${await closedPort()}`))
  t.regex(dead.error!.message, /ECONNREFUSED/)
  const { port, requests } = await proxy(t, () => '')
  const { dial: mute } = dial(t, openUrl(t, `http://127.0.0.1:${port}`))
  await until(() => requests.length === 1, 'the request')
  t.is(mute.expire().failure, 'timeout')
})

test('http: an association is refused at once', async t => {
  const { dialer } = openUrl(t, 'http://127.0.0.1:1')
  const failures: string[] = []
  dialer.associate(CLIENT, {
    onAssociated: () => t.fail(),
    onAssociationFailed: ({ message }) => failures.push(message),
    onDatagrams() {},
  })
  t.deepEqual(failures, ['an HTTP proxy carries no UDP'])
})

test('http: the next dial finds a connection that stands; one that was closed meanwhile is replaced', async t => {
  const sockets: Socket[] = []
  let connections = 0
  const port = await tcpServer(t, socket => {
    connections++
    sockets.push(socket)
    socket.on('data', () => socket.write(OK))
  })
  const rig = openUrl(t, `http://127.0.0.1:${port}`, silent, 1)
  const count = (name: string) => rig.dialer.counters()[name]
  t.truthy((await outcomeOf(t, rig)).connected)
  await until(() => count('pool_ready') === 1 && connections === 2, 'a connection that waits')
  t.truthy((await outcomeOf(t, rig)).connected)
  t.is(count('pool_hits'), 1)
  await until(() => count('pool_ready') === 1 && connections === 3, 'another')
  sockets[2]!.resetAndDestroy()
  t.truthy((await outcomeOf(t, rig)).connected)
})

test.after.always('http: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
