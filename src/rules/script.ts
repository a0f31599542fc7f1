/**
 * A rules file in JavaScript, or in TypeScript where Node.js itself takes the types away, in a thread of its own: whatever it
 * does, the data path waits `verdictMs` for it at most, and then goes on with the default.
 *
 *     ┌─────────── verdict ──▶ cache ──▶ thread ──┬─ in time ──▶ its target, cached by what was read
 *     │                                           └─ late ────▶ the default; cached when it comes
 *   starting ──loaded──▶ running ──does not answer a ping for `hangMs`, or ends──▶ ended, for a time that doubles ──▶ starting
 */
import { extname } from 'node:path'
import { FormatError } from '../config/format-error.ts'
import { formatAddress } from '../endpoint.ts'
import { ConfigError } from '../errors.ts'
import { escapeControls } from '../redact.ts'
import type { ScriptFlow } from './define-rules.ts'
import { canonicalDomain } from './domain-name.ts'
import type { RuleFlow, Target } from './rule.ts'
import type { ScriptAnswer } from './script-messages.ts'
import { ScriptThread } from './script-thread.ts'
import { parseTarget } from './values.ts'
import { VerdictCache } from './verdict-cache.ts'

export interface ScriptOptions {
  /** Absolute path. */
  readonly file: string
  /** The names that a verdict may be, besides direct, reject and drop. */
  readonly upstreams: readonly string[]
  /** Told once of each kind of trouble, as long as this object lives. */
  readonly onComplaint: (message: string) => void
  readonly limits?: Partial<ScriptLimits>
}

export interface ScriptLimits {
  /** How long a flow waits for its verdict. */
  readonly verdictMs: number
  /** How long the thread may not answer a ping, which is sent when a verdict is late. */
  readonly hangMs: number
  readonly loadMs: number
  /** Before the thread is started again: the first time, and at most; it doubles, and is the first again after a long life. */
  readonly backoffMs: number
  readonly maxBackoffMs: number
  readonly cacheEntries: number
  /** For files that look at more than the flow, as the time of day. */
  readonly cacheMs: number
  /** Verdicts that are under way, late ones too; more flows go by the default. */
  readonly maxRunning: number
  /** Where no more may be under way and one has been for so long, it never comes: the thread is started again. */
  readonly endlessMs: number
  readonly heapMb: number
}

const LIMITS: ScriptLimits = {
  verdictMs: 50,
  hangMs: 1_000,
  loadMs: 5_000,
  backoffMs: 200,
  maxBackoffMs: 30_000,
  cacheEntries: 4_096,
  cacheMs: 60_000,
  maxRunning: 1_024,
  endlessMs: 10_000,
  heapMb: 64,
}

const JAVASCRIPT = ['.js', '.mjs', '.cjs']
const TYPESCRIPT = ['.ts', '.mts', '.cts']

interface Running {
  readonly flow: ScriptFlow
  readonly since: number
  readonly timer: NodeJS.Timeout
  /** Undefined once the flow waits no longer. */
  settle: ((target: Target | undefined) => void) | undefined
}

type Trouble = 'late' | 'full' | 'threw' | 'target' | 'hangs' | 'ended'

/** Made by `loadScript`; owns its thread until `close`. */
export class RulesScript {
  readonly #options: ScriptOptions
  readonly #limits: ScriptLimits
  readonly #cache: VerdictCache
  readonly #running = new Map<number, Running>()
  readonly #told = new Set<Trouble>()
  readonly #counters = { asked: 0, cached: 0, late: 0, failed: 0, restarts: 0 }
  #thread: ScriptThread | undefined
  #startedAt = 0
  #backoffMs: number
  #restart: NodeJS.Timeout | undefined
  #lastId = 0
  #isClosed = false

  constructor(options: ScriptOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#cache = new VerdictCache(this.#limits.cacheEntries, this.#limits.cacheMs, () => performance.now())
    this.#backoffMs = this.#limits.backoffMs
  }

  /** Resolves when the file is loaded; rejects with ConfigError. Once. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      const onEnd = (reason: string) => reject(new ConfigError('CONFIG_FILE', this.#placed(reason)))
      this.#startThread(resolve, onEnd)
    })
  }

  /** Where the flow goes; undefined: by the default. Never rejects, and takes no longer than `verdictMs`. */
  async verdict(flow: RuleFlow): Promise<Target | undefined> {
    const asked = flowForScript(flow)
    this.#counters.asked++
    const known = this.#cache.find(asked)
    if (known !== undefined) {
      this.#counters.cached++
      return this.#targetOf(known.verdict)
    }
    if (this.#running.size >= this.#limits.maxRunning) {
      this.#complain('full', `has ${this.#running.size} verdicts under way`)
      this.#endEndless()
    } else if (this.#thread?.answers) return this.#ask(this.#thread, asked)
    this.#counters.late++
    return undefined
  }

  counters(): Readonly<Record<string, number>> {
    return { ...this.#counters, entries: this.#cache.size, running: this.#running.size }
  }

  /** Ends the thread; whoever waits gets the default. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#restart)
    this.#settleAll()
    await this.#thread?.close()
  }

  #ask(thread: ScriptThread, flow: ScriptFlow): Promise<Target | undefined> {
    const id = ++this.#lastId
    return new Promise(settle => {
      const timer = setTimeout(() => this.#onLate(thread, id), this.#limits.verdictMs)
      this.#running.set(id, { flow, since: performance.now(), timer, settle })
      thread.ask(id, flow)
    })
  }

  /** The first in the map is the oldest. */
  #endEndless(): void {
    const [oldest] = this.#running.values()
    const { endlessMs } = this.#limits
    if (oldest !== undefined && performance.now() - oldest.since > endlessMs)
      this.#thread?.end(`has waited for a verdict for more than ${endlessMs} ms`)
  }

  #onLate(thread: ScriptThread, id: number): void {
    const running = this.#running.get(id)!
    running.settle?.(undefined)
    running.settle = undefined
    this.#counters.late++
    this.#complain('late', `gave no verdict within ${this.#limits.verdictMs} ms`)
    thread.ping()
  }

  #startThread(onLoaded: () => void, onEnd: (reason: string) => void): void {
    const { loadMs, hangMs, heapMb } = this.#limits
    let isLoaded = false
    this.#startedAt = performance.now()
    this.#thread = new ScriptThread({
      file: this.#options.file,
      loadMs,
      hangMs,
      heapMb,
      onLoaded: () => {
        isLoaded = true
        onLoaded()
      },
      onAnswer: answer => this.#onAnswer(answer),
      onEnd: (reason, isHang) => {
        this.#settleAll()
        if (!isLoaded) return onEnd(reason)
        this.#complain(isHang ? 'hangs' : 'ended', `${reason}, and is started again`)
        this.#startAgain()
      },
    })
  }

  #startAgain(): void {
    if (this.#isClosed) return
    const lived = performance.now() - this.#startedAt
    if (lived > 2 * this.#limits.maxBackoffMs) this.#backoffMs = this.#limits.backoffMs
    this.#restart = setTimeout(() => {
      this.#counters.restarts++
      this.#startThread(
        () => {},
        reason => {
          this.#complain('ended', reason)
          this.#startAgain()
        },
      )
    }, this.#backoffMs).unref()
    this.#backoffMs = Math.min(this.#limits.maxBackoffMs, this.#backoffMs * 2)
  }

  #onAnswer(answer: ScriptAnswer): void {
    const running = this.#running.get(answer.id)
    if (running === undefined) return
    this.#running.delete(answer.id)
    clearTimeout(running.timer)
    if ('threw' in answer) {
      this.#counters.failed++
      this.#complain('threw', answer.threw)
      running.settle?.(undefined)
      return
    }
    this.#cache.keep(running.flow, answer.read, answer.verdict)
    running.settle?.(this.#targetOf(answer.verdict))
  }

  #targetOf(verdict: string | undefined): Target | undefined {
    if (verdict === undefined) return undefined
    try {
      return parseTarget(verdict, this.#options.upstreams)
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      this.#counters.failed++
      this.#complain('target', `gave a wrong verdict: ${error.message}`)
      return undefined
    }
  }

  #settleAll(): void {
    for (const { timer, settle } of this.#running.values()) {
      clearTimeout(timer)
      settle?.(undefined)
    }
    this.#running.clear()
  }

  #complain(trouble: Trouble, what: string): void {
    if (this.#told.has(trouble) || this.#isClosed) return
    this.#told.add(trouble)
    this.#options.onComplaint(`${this.#placed(what)}; flows without a verdict go by the default`)
  }

  /** What the thread says of the file begins with its place already. */
  #placed(what: string): string {
    const file = escapeControls(this.#options.file)
    const text = escapeControls(what)
    return text.startsWith('/') ? text : `${file}: ${text}`
  }
}

/** Loads a rules file. Throws ConfigError with file and line; nothing is left open then. */
export async function loadScript(options: ScriptOptions): Promise<RulesScript> {
  const kind = extname(options.file)
  const canStrip = Boolean((process.features as { typescript?: unknown }).typescript)
  if (TYPESCRIPT.includes(kind) && !canStrip) {
    const way = 'with Node.js 22.18 or later, or JavaScript with types in comments (/** @type … */)'
    throw scriptError(
      options.file,
      `found TypeScript, which this Node.js (${process.version}) cannot run, allowed ${way}`,
    )
  }
  if (![...JAVASCRIPT, ...TYPESCRIPT].includes(kind)) {
    throw scriptError(options.file, `found another kind of file, allowed ${[...JAVASCRIPT, ...TYPESCRIPT].join(', ')}`)
  }
  const script = new RulesScript(options)
  try {
    await script.start()
  } catch (error) {
    await script.close()
    throw error
  }
  return script
}

function scriptError(file: string, message: string): ConfigError {
  return new ConfigError('CONFIG_FILE', `${escapeControls(file)}: ${message}`)
}

function flowForScript({ protocol, source, destination, domain }: RuleFlow): ScriptFlow {
  const name = domain ?? ('name' in destination ? destination.name : '')
  return {
    protocol,
    source: formatAddress(source.address),
    destination: 'address' in destination ? formatAddress(destination.address) : '',
    port: destination.port,
    domain: canonicalDomain(name) ?? '',
  }
}
