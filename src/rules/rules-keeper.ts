/** The rules of a running gateway: read at its start, and again when they change. What is wrong changes nothing. */
import { ConfigError, GatewayError } from '../errors.ts'
import type { RulesOptions } from '../options.ts'
import { deafRules, filesOf, type LoadedRules, loadRules, type RulesTargets } from './load-rules.ts'
import { FilesWatch } from './watch-files.ts'

export interface KeeperSetup {
  readonly source: RulesOptions
  readonly targets: RulesTargets
  /** Addresses stand for names (`dns.mode` map). */
  readonly namesKnown: boolean
  readonly log: {
    info(message: string, fields?: Record<string, unknown>): void
    warn(message: string, fields?: Record<string, unknown>): void
    error(message: string, fields?: Record<string, unknown>): void
  }
  /** Flows that begin from now on go by these. */
  readonly onRules: (rules: LoadedRules) => Promise<void>
}

export class RulesKeeper {
  readonly #setup: KeeperSetup
  readonly #closing = new AbortController()
  readonly #watch: FilesWatch
  #source: RulesOptions
  /** One after the other. */
  #last: Promise<unknown> = Promise.resolve()
  #counters = { rules_replaced: 0, rules_refused: 0 }

  constructor(setup: KeeperSetup) {
    this.#setup = setup
    this.#source = setup.source
    const onTrouble = (folder: string, reason: string) =>
      setup.log.warn('changes of the rules are not seen: send SIGHUP after one', { folder, reason })
    this.#watch = new FilesWatch(() => void this.reload().catch(() => {}), onTrouble)
  }

  /** At the start. Throws ConfigError. Changes are seen from then on. */
  load(): Promise<LoadedRules> {
    return this.#inOrder(() => this.#load())
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => {})
    return done
  }

  async #load(): Promise<LoadedRules> {
    const loaded = await loadRules(this.#source, this.#setup.targets, this.#closing.signal)
    if (this.#closing.signal.aborted) throw closed()
    this.#watch.set(filesOf(this.#source, loaded))
    this.#warnOf(loaded)
    return loaded
  }

  #warnOf(loaded: LoadedRules): void {
    const { namesKnown, log } = this.#setup
    const deaf = namesKnown || loaded.kind !== 'tables' ? undefined : deafRules(loaded.rules)
    if (deaf !== undefined) log.warn(deaf)
  }

  /** Reads them again, or `source` in their place. Rejects with ConfigError, which the log has then: nothing has changed. */
  reload(source?: RulesOptions): Promise<void> {
    return this.#inOrder(() => this.#reload(source ?? this.#source))
  }

  async #reload(source: RulesOptions): Promise<void> {
    const since = performance.now()
    const { targets, log, onRules } = this.#setup
    const { signal } = this.#closing
    this.#watch.look()
    try {
      const loaded = await loadRules(source, targets, signal)
      if (signal.aborted) throw closed()
      await onRules(loaded)
      this.#source = source
      this.#watch.set(filesOf(source, loaded))
      this.#counters.rules_replaced++
      const rules = loaded.kind === 'tables' ? loaded.rules.summaries.length : loaded.file
      log.info('rules replaced: flows that begin now go by them', { rules, ms: Math.round(performance.now() - since) })
      this.#warnOf(loaded)
    } catch (error) {
      if (signal.aborted) throw closed()
      this.#counters.rules_refused++
      const message = error instanceof Error ? error.message : String(error)
      const code = error instanceof ConfigError ? error.code : 'INTERNAL'
      log.error(`the rules stay as they were: ${message}`, { code })
      throw error
    }
  }

  counters(): Readonly<Record<string, number>> {
    return this.#counters
  }

  /** What is under way is given up. Idempotent. */
  close(): void {
    this.#closing.abort(closed())
    this.#watch.close()
  }
}

function closed(): GatewayError {
  return new GatewayError('CLOSED', 'the gateway was closed while its rules were read')
}
