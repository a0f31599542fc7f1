import test from 'ava'
import {
  createWorld,
  DEST4,
  DEST6,
  endsWithFile,
  type GatewayProcess,
  until,
  untilAtRest,
  type World,
} from './world.ts'

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: '10.8.0.2' })
  await world.far.call('listen', 'echo', '0.0.0.0', 7001, 'echo')
  await world.far.call('listen', 'echo6', '::', 7001, 'echo')
  await world.far.call('listen', 'answer', '0.0.0.0', 7002, 'answer')
  await world.far.call('listen', 'answer6', '::', 7002, 'answer')
  await world.far.call('listen', 'hold', '0.0.0.0', 7003, 'hold')
  gateway = await world.gateway()
})
endsWithFile(() => ({ world, gateway }))

for (const dest of [DEST4, DEST6])
  test.serial(`tcp: echo by way of the embedded proxy (${dest})`, async t => {
    const { id, code } = await world.near.call('dial', dest, 7001)
    t.is(code, '')
    await world.near.call('write', id, 'hello, ', 3)
    await world.near.call('end', id)
    await until(async () => (await world.near.call('view', id)).closed, 'the end')
    const view = await world.near.call('view', id)
    t.is(view.text, 'hello, hello, hello, ')
    t.is(view.error, '')
    await untilAtRest(gateway)
  })

for (const dest of [DEST4, DEST6])
  test.serial(`tcp: nc -N gets the answer that comes after its own end (${dest})`, async t => {
    const { code, stdout, stderr } = await world.client.run('nc', ['-N', '-w', '5', dest, '7002'], {
      input: 'x'.repeat(100_000),
    })
    t.is(code, 0, stderr)
    t.is(stdout, '100000 bytes')
    await untilAtRest(gateway)
  })

test.serial('tcp: the server ends first, the client still sends', async t => {
  await world.far.call('takeAccepted')
  const { id } = await world.near.call('dial', DEST4, 7003)
  await until(async () => (await world.far.call('acceptedCount')) > 0, 'the connection')
  const [server] = await world.far.call('takeAccepted')
  await world.far.call('write', server!, 'bye')
  await world.far.call('end', server!)
  await until(async () => (await world.near.call('view', id)).ended, 'FIN at the client')
  await world.near.call('write', id, 'late words')
  await world.near.call('end', id)
  await until(async () => (await world.far.call('view', server!)).ended, 'FIN at the server')
  t.is((await world.far.call('view', server!)).text, 'late words')
  t.is((await world.near.call('view', id)).text, 'bye')
  await untilAtRest(gateway)
})

/** A connection whose upstream socket is the server itself: what the proxy does to resets is left out. */
async function direct(dest: string) {
  await world.far.call('takeAccepted')
  const { id, code } = await world.near.call('dial', dest, 80)
  if (code !== '') throw new Error(code)
  await until(async () => (await world.far.call('acceptedCount')) > 0, 'the connection')
  const [server] = await world.far.call('takeAccepted')
  return { client: id, server: server! }
}

const FULL = 'x'.repeat(1024)

/** Writes from one end until nothing moves any more: every buffer on the way is full. */
async function untilStuck(flowBytes: () => Promise<number>): Promise<void> {
  let before = -1
  let since = performance.now()
  await until(
    async () => {
      const now = await flowBytes()
      if (now !== before || now === 0) {
        before = now
        since = performance.now()
      }
      return performance.now() - since > 300
    },
    'full buffers',
    15_000,
  )
}

async function flowCount(): Promise<number> {
  return gateway.counter('tcp_flows')
}

for (const dest of [DEST4, DEST6]) {
  test.serial(`tcp: RST from the server is ECONNRESET at the client within 1 s (${dest})`, async t => {
    const { client, server } = await switchToDirect(dest)
    await world.far.call('reset', server)
    const ms = await until(async () => (await world.near.call('view', client)).closed, 'the reset')
    t.is((await world.near.call('view', client)).error, 'ECONNRESET')
    t.true(ms < 1000)
    await untilAtRest(gateway)
  })

  test.serial(`tcp: RST from the client is ECONNRESET at the server within 1 s (${dest})`, async t => {
    const { client, server } = await switchToDirect(dest)
    await world.near.call('reset', client)
    const ms = await until(async () => (await world.far.call('view', server)).closed, 'the reset')
    t.is((await world.far.call('view', server)).error, 'ECONNRESET')
    t.true(ms < 1000)
    await untilAtRest(gateway)
  })
}

test.serial('tcp: RST from the server while the client does not read and every buffer is full', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.near.call('pause', client)
  await world.far.call('write', server, FULL, 32_768)
  await untilStuck(async () => (await gateway.status()).flows.find(flow => flow.protocol === 'tcp')!.bytesDown)
  const [flow] = (await gateway.status()).flows
  await world.far.call('reset', server)
  const ms = await until(async () => (await flowCount()) === 0, 'the end of the flow')
  t.true(ms < 1000, `${ms} ms`)
  // RST takes the connection out of the kernel's table, FIN would leave it there. Node tells them apart only while it reads.
  const known = () => world.client.mustRun('ss', ['-Htan', `sport = :${flow!.client.split(':').at(-1)}`])
  await until(async () => (await known()) === '', 'the reset in the kernel of the client', 1000)
  await world.near.call('resume', client)
  await until(async () => {
    const { ended, closed } = await world.near.call('view', client)
    return ended || closed
  }, 'the end at the client')
  await untilAtRest(gateway)
})

test.serial('tcp: RST from the client while it does not read and every buffer is full', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.near.call('pause', client)
  await world.far.call('write', server, FULL, 32_768)
  await untilStuck(async () => (await gateway.status()).flows.find(flow => flow.protocol === 'tcp')!.bytesDown)
  await world.near.call('reset', client)
  const ms = await until(async () => (await world.far.call('view', server)).closed, 'the reset')
  t.is((await world.far.call('view', server)).error, 'ECONNRESET')
  t.true(ms < 1000, `${ms} ms`)
  await untilAtRest(gateway)
})

test.serial('tcp: RST from the server while it does not read what the client sends', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.far.call('pause', server)
  await world.near.call('write', client, FULL, 32_768)
  await untilStuck(async () => (await gateway.status()).flows.find(flow => flow.protocol === 'tcp')!.bytesUp)
  await world.far.call('reset', server)
  const ms = await until(async () => (await world.near.call('view', client)).closed, 'the reset')
  t.regex((await world.near.call('view', client)).error, /^(ECONNRESET|EPIPE)$/)
  t.true(ms < 1000, `${ms} ms`)
  await untilAtRest(gateway)
})

test.serial('tcp: RST from the server after its FIN', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.far.call('end', server)
  await until(async () => (await world.near.call('view', client)).ended, 'FIN at the client')
  await world.far.call('reset', server)
  const ms = await until(async () => (await flowCount()) === 0, 'the end of the flow')
  t.true(ms < 1000, `${ms} ms`)
  await until(async () => {
    await world.near.call('write', client, 'anybody there?')
    return (await world.near.call('view', client)).closed
  }, 'the end at the client')
  t.regex((await world.near.call('view', client)).error, /^(ECONNRESET|EPIPE)$/)
  await untilAtRest(gateway)
})

test.serial('tcp: RST from the server after the FIN of the client', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.near.call('end', client)
  await until(async () => (await world.far.call('view', server)).ended, 'FIN at the server')
  await world.far.call('reset', server)
  const ms = await until(async () => (await world.near.call('view', client)).closed, 'the reset')
  t.is((await world.near.call('view', client)).error, 'ECONNRESET')
  t.true(ms < 1000, `${ms} ms`)
  await untilAtRest(gateway)
})

test.serial('tcp: RST from the client after its FIN', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.near.call('end', client)
  await until(async () => (await world.far.call('view', server)).ended, 'FIN at the server')
  await world.near.call('reset', client)
  // behind the end of the stream Node sees a reset only when it writes
  const ms = await until(async () => {
    await world.far.call('write', server, 'anybody there?')
    return (await world.far.call('view', server)).closed
  }, 'the reset')
  t.regex((await world.far.call('view', server)).error, /^(ECONNRESET|EPIPE)$/)
  t.true(ms < 1000, `${ms} ms`)
  await untilAtRest(gateway)
})

test.serial('tcp: a client that does not read stops the server, and gets every byte when it reads again', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.near.call('pause', client)
  await world.far.call('write', server, FULL, 65_536)
  await world.far.call('end', server)
  const down = async () => (await gateway.status()).flows.find(flow => flow.protocol === 'tcp')!.bytesDown
  await untilStuck(down)
  t.true((await down()) < 16 << 20, `${await down()} bytes are on the way`)
  t.true((await gateway.counter('send_buffer_bytes')) <= 4 << 20)
  await world.near.call('resume', client)
  await until(async () => (await world.near.call('view', client)).ended, 'the end', 20_000)
  t.is((await world.near.call('view', client)).bytes, 65_536 * 1024)
  await world.near.call('end', client)
  await untilAtRest(gateway)
})

test.serial('tcp: a server that does not read stops the client, and gets every byte when it reads again', async t => {
  const { client, server } = await switchToDirect(DEST4)
  await world.far.call('pause', server)
  await world.near.call('write', client, FULL, 65_536)
  await world.near.call('end', client)
  const up = async () => (await gateway.status()).flows.find(flow => flow.protocol === 'tcp')!.bytesUp
  await untilStuck(up)
  t.true((await gateway.counter('receive_buffer_bytes')) <= 4 << 20)
  await world.far.call('resume', server)
  await until(async () => (await world.far.call('view', server)).ended, 'the end', 20_000)
  t.is((await world.far.call('view', server)).bytes, 65_536 * 1024)
  await world.far.call('end', server)
  await untilAtRest(gateway)
})

let isDirect = false

/** The first of these tests puts a gateway whose proxy is the server itself into the place of the other. */
async function switchToDirect(dest: string) {
  if (!isDirect) {
    await gateway.stop()
    await world.far.call('listenAsProxy', 'direct', '10.8.0.2', 1090)
    // Each connection that the server accepts is then one that a client has asked for.
    gateway = await world.gateway({ proxy: 'socks5://10.8.0.2:1090', args: ['--upstream-pool', '0'] })
    isDirect = true
  }
  return direct(dest)
}
