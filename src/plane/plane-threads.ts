/**
 * Data planes in worker threads, one for each queue of the device, seen from the main thread. They share the compiled
 * module and nothing else. Loaded only when there is more than one.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'

import { GatewayError, SystemError } from '../errors.ts'
import { addon, type TunInfo } from '../io/addon.ts'
import { socketsPerPlane } from '../io/descriptors.ts'
import type { FlowView, GatewayOptions } from '../options.ts'
import type { LoadedRules } from '../rules/load-rules.ts'
import { stackModule } from '../stack/stack.ts'
import { upstreamCells } from '../upstream/upstreams.ts'
import type { GatewayLog, Planes } from './plane.ts'
import {
  type Answer,
  type Answers,
  errorOf,
  type LogLine,
  type Report,
  type Request,
  type WorkerStart,
} from './plane-messages.ts'
import { SharedLog } from './shared-log.ts'
import { TrapLimit } from './trap-limit.ts'
import { pendingCell, taken } from './worker-log.ts'

/** The worker's program, plane-worker.ts as one file: the same path from any script in a folder beside this one, as that of a bundle. */
const WORKER_ENTRY = new URL('../bundle/plane-worker.mjs', import.meta.url)

/** A worker that has not answered by then counts with its last answer. */
const ANSWER_LIMIT_MS = 200
/** To close in order, then to be ended. Both are within what `tungate run` gives to the whole. */
const CLOSE_LIMIT_MS = 1_000
const TERMINATE_LIMIT_MS = 300
/** Flow numbers of a worker are below it. */
const FLOW_NUMBERS = 100_000
/** Above what 65,536 flows need; the stack's 256 MiB do not count. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 32 }

export interface ThreadsSetup {
  readonly options: GatewayOptions
  /** One for each worker. Descriptors stay with whoever opened them, until close() has resolved. */
  readonly queues: readonly TunInfo[]
  readonly rules?: LoadedRules | undefined
  readonly log: GatewayLog
  /** See PlaneSetup. */
  readonly names?: SharedArrayBuffer | undefined
  /** Called once, when a plane cannot go on. */
  readonly onFatal: (error: GatewayError) => void
  readonly entry?: URL
}

export class PlaneThreads implements Planes {
  readonly #threads: PlaneThread[] = []

  constructor({ options, queues, rules, names, log, onFatal, entry = WORKER_ENTRY }: ThreadsSetup) {
    const shared = new SharedLog(log)
    const part = partOf(options, queues.length)
    const sockets = socketsPerPlane(queues.length)
    const traps = new TrapLimit()
    const known = upstreamCells(options, queues.length * part.udp.maxAssociations)
    let failed = false
    const onFailure = (error: GatewayError) => {
      if (!failed) onFatal(error)
      failed = true
    }
    const onTrap = (error: GatewayError) => {
      const last = traps.add(error)
      if (last !== undefined) onFailure(last)
    }
    try {
      for (const [worker, queue] of queues.entries()) {
        const start = { options: part, queue, rules, sockets, debugEnabled: log.debugEnabled, known, names }
        const told = { onFailure, onTrap, onLine: (line: LogLine) => shared.say(worker, line) }
        this.#threads.push(new PlaneThread(entry, start, told))
      }
    } catch (error) {
      void this.close() // those that were made
      throw error
    }
  }

  async start(): Promise<void> {
    await Promise.all(this.#threads.map(thread => thread.started))
  }

  /** The sums; the queues' descriptors are this thread's. */
  counters(): Record<string, number> {
    const sums: Record<string, number> = { open_descriptors: addon.openDescriptors() }
    for (const { counters } of this.#ask('counters')) {
      for (const [name, value] of Object.entries(counters)) sums[name] = (sums[name] ?? 0) + value
    }
    return sums
  }

  flows(): FlowView[] {
    return this.#ask('flows').flatMap(({ flows }, worker) =>
      flows.map(flow => ({ ...flow, id: worker * FLOW_NUMBERS + flow.id })),
    )
  }

  async useRules(rules: LoadedRules): Promise<void> {
    for (const thread of this.#threads) thread.useRules(rules)
  }

  /** All are asked before the first is waited for. */
  #ask(what: keyof Answers): Answers[] {
    const deadline = performance.now() + ANSWER_LIMIT_MS
    for (const thread of this.#threads) thread.ask(what)
    return this.#threads.map(thread => thread.answersBy(deadline))
  }

  async close(): Promise<readonly number[]> {
    const held = await Promise.all(this.#threads.map(async thread => ((await thread.close()) ? [] : [thread.queue])))
    return held.flat()
  }
}

/** Limits are those of the gateway: each worker has its part, rounded up. */
function partOf(options: GatewayOptions, workers: number): GatewayOptions {
  const part = (all: number) => Math.ceil(all / workers)
  const { flows, dials, dialsPerSource } = options.limits
  return {
    ...options,
    upstream: { ...options.upstream, pool: part(options.upstream.pool) },
    udp: { ...options.udp, maxAssociations: part(options.udp.maxAssociations) },
    limits: { flows: part(flows), dials: part(dials), dialsPerSource: part(dialsPerSource) },
  }
}

/** What a worker reports. */
interface ThreadListener {
  readonly onFailure: (error: GatewayError) => void
  readonly onTrap: (error: GatewayError) => void
  readonly onLine: (line: LogLine) => void
}

class PlaneThread {
  /** Settles once: packets are answered, or the plane could not be made. */
  readonly started: Promise<void>
  /** The descriptor of its queue. */
  readonly queue: number
  readonly #worker: Worker
  readonly #exited: Promise<void>
  readonly #answered = new Int32Array(new SharedArrayBuffer(4))
  readonly #answers: MessagePort
  readonly #onFailure: (error: GatewayError) => void
  #asked = 0
  #known: Answers = { counters: {}, flows: [] }
  #state: 'starting' | 'running' | 'closing' | 'ended' = 'starting'
  #settleStart!: { resolve(): void; reject(error: GatewayError): void }

  constructor(
    entry: URL,
    start: Pick<WorkerStart, 'options' | 'queue' | 'rules' | 'sockets' | 'debugEnabled' | 'known' | 'names'>,
    { onFailure, onTrap, onLine }: ThreadListener,
  ) {
    const { port1, port2 } = new MessageChannel()
    const pendingLines = pendingCell()
    this.queue = start.queue.fd
    this.#answers = port1
    this.#onFailure = onFailure
    this.started = new Promise((resolve, reject) => {
      this.#settleStart = { resolve, reject }
    })
    // it is waited for, or nobody is left to be told
    this.started.catch(() => {})
    this.#worker = new Worker(entry, {
      workerData: {
        ...start,
        module: stackModule(),
        pendingLines,
        answered: this.#answered,
        answers: port2,
      } satisfies WorkerStart,
      transferList: [port2],
      name: 'tungate plane',
      execArgv: [],
      env: {},
      resourceLimits: RESOURCE_LIMITS,
      trackUnmanagedFds: false,
    })
    this.#worker.on('message', (report: Report) => {
      if ('log' in report) {
        taken(pendingLines)
        onLine(report.log)
      } else if ('trapped' in report) onTrap(errorOf(report.trapped))
      else if ('failed' in report) this.#fail(errorOf(report.failed))
      else this.#onStarted()
    })
    this.#worker.on('error', error => this.#fail(lackOfFiles(error) ?? ended(error.message, error)))
    this.#exited = new Promise(resolve => {
      this.#worker.once('exit', code => {
        this.#fail(ended(`exit code ${code}`))
        this.#state = 'ended'
        this.#known = { counters: { stack_restarts: this.#known.counters.stack_restarts ?? 0 }, flows: [] }
        port1.close()
        resolve()
      })
    })
  }

  #onStarted(): void {
    if (this.#state !== 'starting') return
    this.#state = 'running'
    this.#settleStart.resolve()
  }

  #fail(error: GatewayError): void {
    const { reject } = this.#settleStart
    if (this.#state === 'running') this.#onFailure(error)
    reject(error)
  }

  #post(request: Request): void {
    this.#worker.postMessage(request)
  }

  /** Their tables are in memory that all threads share. */
  useRules(rules: LoadedRules): void {
    if (this.#state === 'starting' || this.#state === 'running') this.#post({ rules })
  }

  ask(what: keyof Answers): void {
    if (this.#state !== 'running') return
    this.#asked = (this.#asked + 1) | 0
    this.#post({ ask: what, number: this.#asked })
  }

  /** Blocks this thread until `deadline` at most. */
  answersBy(deadline: number): Answers {
    for (;;) {
      const number = Atomics.load(this.#answered, 0)
      const left = deadline - performance.now()
      if (this.#state !== 'running' || number === this.#asked || left <= 0) break
      Atomics.wait(this.#answered, 0, number, left)
    }
    for (let got = receiveMessageOnPort(this.#answers); got !== undefined; got = receiveMessageOnPort(this.#answers)) {
      this.#known = { ...this.#known, ...(got.message as Answer) }
    }
    return this.#known
  }

  /** In order, or by force. false: it cannot be ended (a system call that hangs); it does not keep the process. */
  async close(): Promise<boolean> {
    if (this.#state === 'ended') return true
    this.#state = 'closing'
    this.#settleStart.reject(new GatewayError('CLOSED', 'the gateway was closed while it started'))
    this.#post({ close: true })
    if (await endsWithin(this.#exited, CLOSE_LIMIT_MS)) return true
    void this.#worker.terminate()
    if (await endsWithin(this.#exited, TERMINATE_LIMIT_MS)) return true
    this.#worker.unref()
    return false
  }
}

function ended(reason: string, cause?: unknown): GatewayError {
  return new GatewayError('WORKER_ENDED', `a worker thread ended: ${reason}`, { cause })
}

/** errno(3). */
const TOO_MANY_FILES = { EMFILE: 24, ENFILE: 23 } as const

/** A worker that is made, or reads its program, under the limit of open files. Node tells some of that by its message alone. */
function lackOfFiles({ message }: Error): SystemError | undefined {
  const code = /\b(EMFILE|ENFILE)\b/.exec(message)?.[1] as keyof typeof TOO_MANY_FILES | undefined
  return code === undefined ? undefined : new SystemError(code, message, 'open', TOO_MANY_FILES[code])
}

async function endsWithin(end: Promise<void>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>(resolve => {
    timer = setTimeout(resolve, limitMs, false)
  })
  const inTime = await Promise.race([end.then(() => true), late])
  clearTimeout(timer)
  return inTime
}
