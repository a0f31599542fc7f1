/** Slow: a browser takes a second to start, and is no part of the packages of `make test`. */
import test, { type ExecutionContext } from 'ava'
import { browserProgram, type NetworkEvent, openPage } from '../helpers/browser.ts'
import { type Certificate, makeCertificate } from '../helpers/certificates.ts'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { type HttpsOrigin, startHttpsOrigin } from '../helpers/servers/https-origin.ts'
import { isInstalled } from '../helpers/servers.ts'
import { NO_UDP_PROXIES } from '../integration/no-udp-proxies.ts'
import { createWorld, endsWithFile, type GatewayProcess, skip, until, type World } from '../integration/world.ts'

const ORIGIN = '203.0.113.80'
/** The client's resolver, whom nobody but the proxy can reach. */
const RESOLVER = '203.0.113.53'
const PARTS = 20
/** Between two parts, milliseconds: an attempt at QUIC ends meanwhile. */
const PAUSE_MS = 50
/**
 * Bounds that hold on a loaded machine. Alone it is 10 ms until QUIC is refused, and 200 ms for the slowest request. The first
 * time what the proxy copes with may be still unknown.
 */
const LEARNED_MS = 1_000
const REFUSED_MS = 200
const REQUEST_MS = 2_000

const PAGE = `<!doctype html><title>page</title><script type="module">
let slowest = performance.now()
for (let at = 0; at < ${PARTS}; at++) {
  const since = performance.now()
  const response = await fetch('/part.txt?' + at, { cache: 'no-store' })
  if (await response.text() !== 'part') throw new Error(response.status)
  slowest = Math.max(slowest, performance.now() - since)
  await new Promise(resolve => setTimeout(resolve, ${PAUSE_MS}))
}
await fetch('/done?' + Math.round(slowest))
</script>`

let world: World
let gateway: GatewayProcess
let certificate: Certificate
let origin: HttpsOrigin

function lacking(proxy: string): string {
  const missing = ['nginx', 'dnsmasq', proxy].filter(program => !isInstalled(program))
  if (browserProgram === undefined) missing.unshift('a browser')
  return missing.length === 0 ? '' : `${missing.join(', ')} not installed`
}

test.before(async () => {
  world = await createWorld()
  const issuer = makeCertificate({ name: 'Test authority' })
  certificate = makeCertificate({ name: 'origin', hosts: ['origin.test'], issuer })
  const pages = { '/page.html': PAGE, '/part.txt': 'part' }
  if (lacking('microsocks') !== '' && lacking('tinyproxy') !== '') return
  origin = await startHttpsOrigin(world.server, { hosts: [ORIGIN], certificate, pages })
  await startDnsmasq(world.server, { hosts: [RESOLVER], names: { 'origin.test': [ORIGIN] } })
  await world.client.useResolver([RESOLVER])
})
endsWithFile(() => ({ world, gateway }))

/** Opens the page; how long its slowest request took, milliseconds, with what led to the page for the first, and what the browser's network did. */
async function load(t: ExecutionContext): Promise<{ ms: number; events: NetworkEvent[] }> {
  const before = (await origin.requests()).length
  const browser = await openPage(world.client, 'https://origin.test/page.html', certificate)
  const done = async () => (await origin.requests()).slice(before).find(request => request.includes('/done?'))
  try {
    await until(async () => (await done()) !== undefined, 'the last request of the page', 30_000)
  } catch (error) {
    t.log(browser.log(), await origin.requests())
    throw error
  }
  const ms = Number(/\/done\?(\d+)/.exec((await done())!)![1])
  return { ms, events: await browser.close() }
}

/** Milliseconds from the begin to the end of each QUIC connection, and why it ended. */
function quicAttempts(events: NetworkEvent[]): { ms: number; reason: unknown }[] {
  const closed = events.filter(({ name }) => name === 'QUIC_SESSION_CLOSED')
  return [...new Set(closed.map(({ source }) => source))].map(source => {
    const begin = events.find(event => event.source === source && event.name === 'QUIC_SESSION')!
    const end = closed.find(event => event.source === source)!
    return { ms: end.time - begin.time, reason: end.params.details }
  })
}

for (const [name, proxy] of Object.entries(NO_UDP_PROXIES))
  test.serial(`browser: behind ${name} its QUIC is refused at once, and the page comes by TCP`, async t => {
    const reason = lacking(name)
    if (reason !== '') return skip(t, reason)
    await gateway?.stop()
    await proxy.start(world)
    gateway = await world.gateway({ proxy: proxy.url })
    for (const limitMs of [LEARNED_MS, REFUSED_MS]) {
      const { ms, events } = await load(t)
      const attempts = quicAttempts(events)
      t.log(`slowest request ${ms} ms, QUIC ${JSON.stringify(attempts)}`)
      t.true(attempts.length > 0, 'QUIC was tried')
      for (const { ms, reason } of attempts) {
        // of a read, or of the next write
        t.regex(String(reason), /ERR_CONNECTION_REFUSED|error: -102 /)
        t.true(ms < limitMs, `${ms} ms`)
      }
      t.true(ms < REQUEST_MS, `${ms} ms`)
    }
  })
