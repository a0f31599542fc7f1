/** Chromium without windows, in a namespace, with a profile of its own. */
import { createHash, createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Certificate } from './certificates.ts'
import type { Namespace } from './namespaces.ts'
import { makeFolder } from './servers/folder.ts'
import { isInstalled } from './servers.ts'

const PROGRAMS = ['chromium-headless-shell', 'chromium']

/** undefined: not on this machine. */
export const browserProgram = PROGRAMS.find(isInstalled)

export interface Browser {
  /** What it has said. */
  log(): string
  /** Ends it, and tells what its network did. */
  close(): Promise<NetworkEvent[]>
}

/** A line of `--log-net-log`. */
export interface NetworkEvent {
  readonly name: string
  /** Of what began and ended, or happened once: the same for all events of one connection. */
  readonly source: number
  /** Milliseconds of the browser's clock. */
  readonly time: number
  readonly params: Readonly<Record<string, unknown>>
}

/** Opens a page. The certificate is believed whoever has signed it. */
export async function openPage(place: Namespace, url: string, certificate: Certificate): Promise<Browser> {
  if (browserProgram === undefined) throw new Error(`none of ${PROGRAMS.join(', ')} is installed`)
  const folder = await makeFolder('browser')
  const key = createPublicKey(certificate.cert).export({ type: 'spki', format: 'der' })
  const believed = createHash('sha256').update(key).digest('base64')
  const args = [
    ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
    ...['--disable-background-networking', '--disable-component-update', '--disable-extensions', '--no-proxy-server'],
    `--user-data-dir=${folder.path('profile')}`,
    `--ignore-certificate-errors-spki-list=${believed}`,
    `--log-net-log=${folder.path('net.json')}`,
    '--remote-debugging-port=0', // without it, it would end with the page
    url,
  ]
  const env = { ...process.env, HOME: folder.path('') }
  const program = ['--pdeathsig', 'KILL', '--', browserProgram, ...args]
  const child = place.spawn('setpriv', program, { stdio: ['ignore', 'pipe', 'pipe'], env })
  let log = ''
  for (const output of [child.stdout, child.stderr])
    output?.on('data', chunk => {
      log = (log + chunk).slice(-65_536)
    })
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const close = async () => {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(timer)
    const net = await readFile(folder.path('net.json'), 'utf8').catch(() => '')
    await folder.remove()
    return parseNetLog(net)
  }
  return { log: () => log, close }
}

/** One event a line, the first line with the names of their numbers. A browser that was ended has not written the end. */
function parseNetLog(text: string): NetworkEvent[] {
  const [head = '', ...lines] = text.split('\n')
  const names = new Map<number, string>()
  const { constants } = JSON.parse(`${head.replace(/,\s*$/, '')}}`)
  for (const [name, type] of Object.entries(constants.logEventTypes)) names.set(type as number, name)
  const events: NetworkEvent[] = []
  for (const line of lines) {
    if (!line.startsWith('{"') || !line.trimEnd().endsWith('},')) continue
    const { type, source, time, params = {} } = JSON.parse(line.trimEnd().slice(0, -1))
    events.push({ name: names.get(type) ?? '', source: source.id, time: Number(time), params })
  }
  return events
}
