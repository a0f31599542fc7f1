/** What the demo shows: each step is one program that knows nothing of proxies, and what it must say in the end. */
import { fileURLToPath } from 'node:url'
import type { RunResult } from './namespace.ts'
import {
  CLOSED_PORT,
  type DemoNetwork,
  ECHO_PORT,
  type Family,
  HTTP_PORT,
  NAME_SERVER,
  ORIGIN,
  ORIGIN_NAME,
  UNREACHABLE,
} from './network.ts'
import { isOnPath } from './programs.ts'

export interface Step {
  readonly title: string
  /** Long enough for a rate to mean something. */
  readonly isTransfer: boolean
  /** Rejects with an Error that says what came instead. */
  run(): Promise<Proof>
}

export interface Proof {
  readonly proven: string
  /** Figures, for the line of the step alone. */
  readonly detail?: string
}

export const UDP_BYTES = 65_000
const TRANSFER_TIMEOUT_MS = 60_000
/** curl's exit code for "could not connect". */
const CURL_NO_CONNECTION = 7
/** Far above one answer of the proxy, far below any time-out. */
const AT_ONCE_MS = 1000

const clientProgram = fileURLToPath(new URL('./client-program.js', import.meta.url))

/** A user's own curl settings and proxies must not change what is shown. */
const CURL = ['curl', '-q', '--noproxy', '*', '-sS']

/** `bytes`: the length of each download and upload. */
export function listSteps(network: DemoNetwork, bytes: number): Step[] {
  const steps: Step[] = []
  const add = (title: string, isTransfer: boolean, run: () => Promise<Proof>) => steps.push({ title, isTransfer, run })
  const asker = isOnPath('dig') ? 'dig' : 'getent'
  add(`names, asked by ${asker}`, false, () => (asker === 'dig' ? dig(network) : getent(network)))
  for (const family of network.families)
    add(`curl downloads over ${family}`, true, () => download(network, family, bytes))
  for (const family of network.families) add(`curl uploads over ${family}`, true, () => upload(network, family, bytes))
  for (const family of network.families) add(`UDP echo over ${family}`, false, () => echo(network, family))
  for (const family of network.families)
    add(`a closed port over ${family}`, false, () =>
      refusal(network, ORIGIN[family], CLOSED_PORT, 'Connection refused'),
    )
  for (const family of network.families)
    add(`an unreachable host over ${family}`, false, () =>
      refusal(network, UNREACHABLE[family], HTTP_PORT, 'No route to host'),
    )
  return steps
}

async function dig(network: DemoNetwork): Promise<Proof> {
  const { namespace, families } = network
  for (const at of families)
    for (const [type, family] of [
      ['A', 'IPv4'],
      ['AAAA', 'IPv6'],
    ] as const) {
      const args = ['-r', '+short', '+notcp', '+tries=2', '+time=3', `@${NAME_SERVER[at]}`, ORIGIN_NAME, type]
      const result = await namespace.run('dig', args)
      if (result.stdout.trim() !== ORIGIN[family]) throw unexpected(result, `${ORIGIN[family]} for ${type}`)
    }
  return { proven: 'A and AAAA over UDP', detail: `asked over ${families.join(' and ')}` }
}

async function getent({ namespace, socks }: DemoNetwork): Promise<Proof> {
  const before = socks.counters.datagramsDown
  const result = await namespace.run('getent', ['ahostsv4', ORIGIN_NAME])
  const result6 = await namespace.run('getent', ['ahostsv6', ORIGIN_NAME])
  if (!result.stdout.includes(`${ORIGIN.IPv4} `)) throw unexpected(result, ORIGIN.IPv4)
  if (!result6.stdout.includes(`${ORIGIN.IPv6} `)) throw unexpected(result6, ORIGIN.IPv6)
  if (socks.counters.datagramsDown < before + 2) throw new Error('the names did not come in datagrams through the tun')
  return { proven: 'A and AAAA over UDP' }
}

async function download({ namespace, sha256 }: DemoNetwork, family: Family, bytes: number): Promise<Proof> {
  const script = 'program=$1 node=$2; shift 2; "$@" | "$node" "$program" sha256'
  const curl = [...CURL, familyFlag(family), `http://${ORIGIN_NAME}/bytes/${bytes}`]
  const args = ['-c', script, 'sh', clientProgram, process.execPath, ...curl]
  checkSum(await namespace.run('sh', args, { timeoutMs: TRANSFER_TIMEOUT_MS }), bytes, sha256)
  return { proven: 'sha256 equal' }
}

async function upload({ namespace, sha256 }: DemoNetwork, family: Family, bytes: number): Promise<Proof> {
  const script = 'program=$1 node=$2 bytes=$3; shift 3; "$node" "$program" pattern "$bytes" | "$@"'
  const curl = [...CURL, familyFlag(family), '-T', '-', `http://${ORIGIN_NAME}/upload`]
  const args = ['-c', script, 'sh', clientProgram, process.execPath, String(bytes), ...curl]
  checkSum(await namespace.run('sh', args, { timeoutMs: TRANSFER_TIMEOUT_MS }), bytes, sha256)
  return { proven: 'sha256 equal' }
}

function familyFlag(family: Family): string {
  return family === 'IPv4' ? '-4' : '-6'
}

function checkSum(result: RunResult, bytes: number, sha256: string): void {
  const expected = JSON.stringify({ bytes, sha256 })
  if (result.code !== 0 || result.stdout.trim() !== expected) throw unexpected(result, expected)
}

async function echo({ namespace }: DemoNetwork, family: Family): Promise<Proof> {
  const args = [clientProgram, 'echo', ORIGIN[family], String(ECHO_PORT), String(UDP_BYTES)]
  const result = await namespace.run(process.execPath, args)
  if (result.code !== 0) throw unexpected(result, `a datagram of ${UDP_BYTES} bytes`)
  const { milliseconds } = JSON.parse(result.stdout) as { milliseconds: number }
  return { proven: `${UDP_BYTES.toLocaleString('en')} bytes whole`, detail: `back in ${milliseconds.toFixed(1)} ms` }
}

/** curl's last line is its own words in every version; those of the system stand in the verbose lines before it. */
async function refusal({ namespace }: DemoNetwork, host: string, port: number, words: string): Promise<Proof> {
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}/`
  const args = [...CURL.slice(1), '-v', '-o', '/dev/null', '-w', '%{time_total}', url]
  const result = await namespace.run('env', ['LC_ALL=C', 'curl', ...args])
  const milliseconds = Number(result.stdout) * 1000
  const isRefused = result.code === CURL_NO_CONNECTION && result.stderr.includes(words)
  if (!isRefused || milliseconds > AT_ONCE_MS) throw unexpected(result, `"${words}" at once`)
  return { proven: words, detail: `curl: exit ${result.code} after ${milliseconds.toFixed(1)} ms` }
}

function unexpected({ code, signal, stdout, stderr }: RunResult, wanted: string): Error {
  const said = `${stdout.trim()} ${stderr.trim()}`.trim().replace(/\s+/g, ' ').slice(0, 300)
  return new Error(`expected ${wanted}; exit ${code ?? signal}: ${said}`)
}
