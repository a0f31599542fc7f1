/** SIGHUP, and changes of the configuration file: the rules are read again while the gateway runs. */
import { closeSync, openSync } from 'node:fs'
import { type Config, gatewayOptions } from '../config.ts'
import type { Log } from '../log.ts'
import type { Gateway, RulesOptions } from '../options.ts'

export interface ReloadSetup {
  readonly gateway: Pick<Gateway, 'reloadRules'>
  readonly log: Log
  /** What the gateway was started with. */
  readonly rules: RulesOptions
  /** The configuration as it is now. Throws ConfigError. */
  readonly reread: () => Config
  /** Absolute path of the configuration file. */
  readonly file: string | undefined
}

export class RunReload {
  readonly #setup: ReloadSetup
  #rules: string
  #watch: { close(): void } | undefined
  #closed = false

  constructor(setup: ReloadSetup) {
    this.#setup = setup
    this.#rules = JSON.stringify(setup.rules)
  }

  /** Changes of the configuration file are seen from now on; of a rules file and of lists the gateway sees them. */
  async watch(): Promise<void> {
    const { file, log } = this.#setup
    if (file === undefined) return
    const { FilesWatch } = await import('../rules/watch-files.ts')
    if (this.#closed) return
    const onTrouble = (folder: string, reason: string) =>
      log.warn('changes of the configuration file are not seen: send SIGHUP after one', { folder, reason })
    const watch = new FilesWatch(() => this.#reread(false), onTrouble)
    watch.set([file])
    this.#watch = watch
  }

  /** Because of SIGHUP. What is wrong is told, and changes nothing. */
  reload(): void {
    this.#setup.log.info('reading the rules again', { signal: 'SIGHUP' })
    this.#reread(true)
  }

  /** `always`: lists may have changed. */
  #reread(always: boolean): void {
    const { gateway, log, reread } = this.#setup
    let rules: RulesOptions
    try {
      rules = gatewayOptions(reread()).rules
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      log.error(`the rules stay as they were: ${message}`, { code: (error as { code?: string }).code ?? 'INTERNAL' })
      return
    }
    const text = JSON.stringify(rules)
    if (!always && text === this.#rules) return
    // the log has the reason
    gateway.reloadRules(rules).then(
      () => {
        this.#rules = text
      },
      () => {},
    )
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true
    this.#watch?.close()
  }
}

/** Whether this process has a controlling terminal (tty(4)) that is not hung up. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}
