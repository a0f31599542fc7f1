/** The rules of one data plane, which a stack that stops does not change; a script runs in a thread of the plane's own. */
import { basename } from 'node:path'
import type { LoadedRules, RulesTargets } from '../rules/load-rules.ts'
import type { RulesScript } from '../rules/script.ts'
import type { ActiveRules, RulesRouter, ScriptedRules } from './rules-router.ts'

export class PlaneRules {
  readonly #upstreams: readonly string[]
  readonly #onComplaint: (message: string) => void
  #active: ActiveRules = { kind: 'none' }
  #script: RulesScript | undefined
  #router: RulesRouter | undefined
  /** One after the other: a script takes longer than tables. */
  #last: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor({ upstreams }: Pick<RulesTargets, 'upstreams'>, onComplaint: (message: string) => void) {
    this.#upstreams = upstreams
    this.#onComplaint = onComplaint
  }

  /** The router of a new stack. */
  attach(router: RulesRouter): void {
    router.replace(this.#active)
    this.#router = router
  }

  /** Rejects with ConfigError, and then nothing has changed. */
  use(loaded: LoadedRules): Promise<void> {
    const done = this.#last.then(() => this.#use(loaded))
    this.#last = done.catch(() => {})
    return done
  }

  async #use(loaded: LoadedRules): Promise<void> {
    if (this.#closed) return
    const script = loaded.kind === 'script' ? await this.#load(loaded.file) : undefined
    if (this.#closed) {
      await script?.close()
      return
    }
    const active: ActiveRules =
      loaded.kind === 'tables' ? loaded : { kind: 'script', script: named(loaded.file, script!) }
    try {
      this.#router?.replace(active)
    } catch (error) {
      await script?.close()
      throw error
    }
    const former = this.#script
    this.#active = active
    this.#script = script
    await former?.close()
  }

  async #load(file: string): Promise<RulesScript> {
    const { loadScript } = await import('../rules/script.ts')
    return loadScript({ file, upstreams: this.#upstreams, onComplaint: this.#onComplaint })
  }

  counters(): Record<string, number> {
    const counters = Object.entries(this.#script?.counters() ?? {})
    return Object.fromEntries(counters.map(([name, value]) => [`script_${name}`, value]))
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#script?.close()
  }
}

function named(file: string, script: RulesScript): ScriptedRules {
  return { name: basename(file), verdict: flow => script.verdict(flow) }
}
