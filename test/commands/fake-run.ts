/**
 * `tungate run` with a gateway that moves no packets but keeps the contract of Gateway; run as a process by the tests of
 * signals, log and status. argv: how it behaves, then the flags of run.
 */
import { EventEmitter } from 'node:events'
import { writeFileSync } from 'node:fs'
import { getHeapSpaceStatistics } from 'node:v8'
import { run } from '../../src/commands/run.ts'
import { parseFlags } from '../../src/config/flags.ts'
import { loadConfig } from '../../src/config.ts'
import { SystemError } from '../../src/errors.ts'
import { type Log, silentLog } from '../../src/log.ts'
import type { FlowView, Gateway } from '../../src/options.ts'

export const FLOW: FlowView = {
  id: 1,
  protocol: 'tcp',
  client: '198.18.0.1:50000',
  destination: '[2001:db8::7]:443',
  state: 'established',
  ageMs: 65_000,
  bytesUp: 1000,
  bytesDown: 5_000_000,
}

/** After the gateway's start; by then all of `run` that is put off is done. */
const SETTLED_MS = 2000

/** As many short-lived objects as make V8 want a large space for them. Returns its size. */
function makeGarbage(): number {
  let kept: object[] = []
  for (let count = 0; count < 500_000; count++) {
    kept.push({ count, list: [count] })
    if (kept.length > 20_000) kept = []
  }
  return getHeapSpaceStatistics().find(space => space.space_name === 'new_space')!.space_size
}

class FakeGateway extends EventEmitter implements Gateway {
  readonly tunName = 'tun-fake'
  readonly #behaviour: string
  readonly #log: Log
  #startedAt = 0

  constructor(behaviour: string, log: Log) {
    super()
    this.#behaviour = behaviour
    this.#log = log
  }

  async start(): Promise<void> {
    const refused = () => new SystemError('TUN_OPEN', 'no right to open the device', 'ioctl(TUNSETIFF)', 1)
    if (this.#behaviour === 'start-fails') throw refused()
    if (this.#behaviour === 'start-hangs') await new Promise(resolve => setTimeout(resolve, 60_000))
    if (this.#behaviour.startsWith('occupies ')) writeFileSync(this.#behaviour.slice(9), 'mine')
    this.#startedAt = performance.now()
    this.#log.info('gateway started', { tun: this.tunName })
    if (this.#behaviour === 'fatal') setImmediate(() => this.emit('error', refused()))
    if (this.#behaviour === 'throws') setImmediate(() => JSON.parse('{'))
  }

  async reloadRules(): Promise<void> {
    process.stdout.write('rules read again\n')
  }

  async close(): Promise<void> {
    if (this.#behaviour === 'close-hangs') await new Promise(resolve => setTimeout(resolve, 60_000))
    process.stdout.write('closed\n')
  }

  counters(): Record<string, number> {
    const isSettled = performance.now() - this.#startedAt > SETTLED_MS
    if (this.#behaviour === 'makes-garbage' && isSettled) return { newSpaceBytes: makeGarbage() }
    return { tcpFlows: 12, ingressBytes: 5_242_880 }
  }

  flows(): FlowView[] {
    return [FLOW]
  }
}

if (process.argv[1]?.endsWith('fake-run.js')) {
  const [behaviour = 'runs', ...args] = process.argv.slice(2)
  const { flags } = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
  const sources = { environment: process.env, flags, uid: 1000, requireProxy: true }
  const { config } = loadConfig(sources)
  const reread = () => loadConfig(sources).config
  const file = process.env.TUNGATE_CONFIG
  const createGateway = ({ log }: { log?: Log }) => new FakeGateway(behaviour, log ?? silentLog)
  process.exit(await run({ config, version: '9.8.7', load: async () => ({ createGateway }), reread, file }))
}
