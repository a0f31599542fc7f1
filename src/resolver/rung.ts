/** The ladder: the ways to what a client's resolver knows, the best first, and what is known of each. */
import type { Attempt, Inquiry, Way } from './way.ts'

/** A way that failed is left alone for so long. */
export const LEFT_MS = 60_000

/** A way in the ladder; ways to resolvers of the configuration are in the ladders of all. */
export class Rung {
  /** For the log: `udp`, `tcp`, or the URL of a resolver. */
  readonly name: string
  readonly way: Way
  /** The resolver that is asked: who said no by one way will not say yes by another. */
  readonly target: string
  /** An answer has come since it failed last, if it ever did. */
  isProven = false
  /** Letters' case comes back as it was sent. */
  keepsCase = true
  #leftUntil = 0
  #heardAt = Number.NEGATIVE_INFINITY
  /** The attempt that shows whether it works. */
  #trial: Attempt | undefined

  constructor(name: string, target: string, way: Way) {
    this.name = name
    this.target = target
    this.way = way
  }

  /** Milliseconds before which it is not asked, when there is another. */
  get leftUntil(): number {
    return Math.max(this.#leftUntil, this.way.heldUntil)
  }

  get isOnTrial(): boolean {
    return this.#trial !== undefined
  }

  ask(inquiry: Inquiry, withEdns: boolean, nowMs: number): Attempt {
    const attempt = this.way.prepare(inquiry, { withEdns, withCases: this.keepsCase && !this.way.isStream }, nowMs)
    if (!this.isProven) this.#trial ??= attempt
    return attempt
  }

  answered(attempt: Attempt, nowMs: number): void {
    this.ended(attempt)
    this.isProven = true
    this.#leftUntil = 0
    this.#heardAt = nowMs
  }

  /** No answer, or an error: unless others were answered meanwhile it is left. */
  failed(attempt: Attempt, nowMs: number): void {
    this.ended(attempt)
    if (this.#heardAt > attempt.startedAt) return
    this.leave(nowMs)
  }

  leave(nowMs: number): void {
    this.isProven = false
    this.#leftUntil = nowMs + LEFT_MS
  }

  ended(attempt: Attempt): void {
    if (this.#trial === attempt) this.#trial = undefined
  }
}

/** Whom a client asked, or whom the configuration names for its name. */
export interface Resolver {
  /**
   * In front of the keys of its answers: what one resolver said is not what another would. It says who that is, for the cache
   * outlives a stack, and its resolvers with it.
   */
  readonly prefix: string
  /** `192.0.2.1:53`. */
  readonly name: string
  readonly rungs: readonly Rung[]
  /** The rung that the last answer came by. */
  answeredBy: Rung | undefined
}

/**
 * The next rung for an inquiry that has `tried` some. Not one that failed lately, nor one on which another inquiry is being
 * tried, where there is one of which it is known that it works; else the one that failed first.
 */
export function nextRung(rungs: readonly Rung[], tried: ReadonlySet<Rung>, nowMs: number): Rung | undefined {
  const untried = rungs.filter(rung => !tried.has(rung))
  const usable = untried.filter(rung => rung.leftUntil <= nowMs)
  const free = usable.find(rung => rung.isProven || !rung.isOnTrial)
  const isCertain = usable.some(rung => rung.isProven)
  const best = isCertain ? free : usable[0]
  return best ?? untried.reduce<Rung | undefined>(sooner, undefined)
}

function sooner(one: Rung | undefined, other: Rung): Rung {
  return one === undefined || other.leftUntil < one.leftUntil ? other : one
}
