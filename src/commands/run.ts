/** `tungate run`: one gateway in the foreground, from start to signal. */
import { setFlagsFromString } from 'node:v8'
import { upstreamText } from '../config/upstreams.ts'
import { type Config, gatewayOptions } from '../config.ts'
import { ConfigError, GatewayError } from '../errors.ts'
import { createLog, type Log, type LogOutput } from '../log.ts'
import type { Gateway, GatewayOptions } from '../options.ts'
import { isFreeForStatus, type StatusDocument, type StatusServer, serveStatus } from '../status.ts'
import { hasTerminal, RunReload } from './run-reload.ts'

/** src/gateway.ts, or what stands for it. */
export interface GatewayModule {
  createGateway(options: GatewayOptions & { readonly log?: Log }): Gateway
}

export interface RunOptions {
  readonly config: Config
  readonly version: string
  /** Loaded only when configuration and log stand: a wrong key is told without WebAssembly and addon. */
  readonly load: () => Promise<GatewayModule>
  /** The configuration as it is now, and its file: rules are read again while the gateway runs. */
  readonly reread: () => Config
  readonly file: string | undefined
}

/** The promise is 2 s from the signal to the end of the process; the rest is for its exit. */
const CLOSE_LIMIT_MS = 1700

/** Shorter than the log's: who reads that the gateway has started may ask for its status. */
const STATUS_DELAY_MS = 80

/** By then winston is loaded: V8 takes a code cache only under the flags that it was made with. */
const HEAP_BOUND_DELAY_MS = 1000

type End = { readonly signal: NodeJS.Signals } | { readonly error: unknown }

/**
 * Resolves with the exit code: 0 after a signal, 1 when the gateway could not start or go on, 2 when its rules are wrong. Throws
 * ConfigError.
 */
export async function run({ config, version, load, reread, file }: RunOptions): Promise<number> {
  const options = gatewayOptions(config)
  const log = createLog(config.log)
  const startedAt = performance.now()
  const ends = watchEnds()
  let gateway: Gateway | undefined
  let status: Promise<StatusServer | undefined> | undefined
  let reload: RunReload | undefined
  let failed = false
  let wrong = false
  try {
    const created = (await load()).createGateway({ ...options, log })
    gateway = created
    reload = new RunReload({ gateway: created, log, rules: options.rules, reread, file })
    ends.onHangup = () => reload?.reload()
    created.on('error', ends.fail)
    const proxy = upstreamText(options)
    const report = () => ({
      version,
      pid: process.pid,
      tun: created.tunName,
      proxy,
      uptimeMs: Math.round(performance.now() - startedAt),
      counters: created.counters(),
      flows: created.flows(),
    })
    const open = () => openStatus(config, report, log)
    if (mayServeStatusLater(config)) {
      status = new Promise(resolve => setTimeout(resolve, STATUS_DELAY_MS)).then(open)
      status.catch(ends.fail)
    } else {
      status = open()
      await status
    }
    log.info('starting', { version, pid: process.pid, proxy })
    const early = await Promise.race([created.start(), ends.first])
    reload.watch().catch(ends.fail)
    setTimeout(boundYoungHeap, HEAP_BOUND_DELAY_MS).unref()
    failed = logEnd(early ?? (await ends.first), log)
  } catch (error) {
    failed = logEnd({ error }, log)
    wrong = error instanceof ConfigError
  }
  reload?.close()
  const closed = await closeInOrder(gateway, status, log)
  await log.close()
  ends.forget()
  return wrong ? 2 : failed || !closed ? 1 : 0
}

/**
 * The first reason to end: a signal, an error of the gateway, or one that nobody caught. A second signal ends the
 * process at once, with 128 + its number, as a shell would tell it. SIGHUP is one where the terminal is gone that the process
 * was started from; else it calls `onHangup`.
 */
function watchEnds() {
  const hadTerminal = hasTerminal()
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const
  let signalled = false
  let resolveFirst: (end: End) => void = () => {}
  const first = new Promise<End>(resolve => {
    resolveFirst = resolve
  })
  const onSignal = (signal: NodeJS.Signals) => {
    if (signal === 'SIGHUP' && !(hadTerminal && !hasTerminal())) return ends.onHangup()
    if (signalled) process.exit(128 + numbers[signal as keyof typeof numbers])
    signalled = true
    resolveFirst({ signal })
  }
  // Waiting for a signal does not keep Node running, and nothing says that a gateway at rest does.
  const awake = setInterval(() => {}, 2 ** 31 - 1)
  const fail = (error: unknown) => resolveFirst({ error })
  for (const signal of Object.keys(numbers)) process.on(signal, onSignal)
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  const forget = () => {
    clearInterval(awake)
    for (const signal of Object.keys(numbers)) process.off(signal, onSignal)
    process.off('uncaughtException', fail)
    process.off('unhandledRejection', fail)
  }
  const ends = { first, fail, forget, onHangup: () => {} }
  return ends
}

/**
 * Objects of a gateway are few and short-lived, but under load V8 lets the space for new ones grow from 1 to 48 MB, and
 * rarely gives it back. It stays as it is, which costs no CPU that could be measured.
 */
function boundYoungHeap(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** true when the end is a failure. */
function logEnd(end: End, log: Log): boolean {
  if ('signal' in end) {
    log.info('stopping', { signal: end.signal })
    return false
  }
  const { error } = end
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof GatewayError ? error.code : 'INTERNAL'
  log.error(message, { code, stack: log.debugEnabled && error instanceof Error ? error.stack : undefined })
  return true
}

function mayServeStatusLater({ status: { socket, chosen } }: Config): boolean {
  return socket !== '' && isFreeForStatus({ path: socket, ownFolder: !chosen })
}

/** At its usual place the status socket is a help, and its lack a warning; at a place that the user named it must be. */
async function openStatus(config: Config, report: () => StatusDocument, log: Log) {
  const { socket, chosen } = config.status
  if (socket === '') return undefined
  try {
    return await serveStatus({ path: socket, ownFolder: !chosen, report })
  } catch (error) {
    if (chosen || !(error instanceof GatewayError) || error.code === 'STATUS_IN_USE') throw error
    log.warn(`no status socket: ${error.message}`, { code: error.code })
    return undefined
  }
}

/** false when not all could be closed in the time. The gateway first: its last counters can still be asked for. */
async function closeInOrder(
  gateway: Gateway | undefined,
  status: Promise<StatusServer | undefined> | undefined,
  log: LogOutput,
): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>(resolve => {
    timer = setTimeout(resolve, CLOSE_LIMIT_MS, 'late')
  })
  const work = async () => {
    await gateway?.close()
    const server = await status?.catch(() => undefined)
    await server?.close()
  }
  try {
    if ((await Promise.race([work(), late])) !== 'late') return true
    log.error(`not closed within ${CLOSE_LIMIT_MS} ms: ended without waiting`, { code: 'CLOSE_TIMEOUT' })
  } catch (error) {
    logEnd({ error }, log)
  } finally {
    clearTimeout(timer)
  }
  return false
}
