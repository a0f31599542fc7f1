/**
 * What is known of the members of a group: who is up, and how fast. It outlives a dialer, whose stack may stop; who is up is
 * one truth for all threads, with one log line for each change.
 *
 *     unknown ──┬──answers──▶ up ◀──answers── suspect ──a probe fails──▶ down ──answers──▶ up
 *               └──fails, or stays silent──────▶ │ ▲                       ▲
 *                           up ──fails, or silent──┘                denied ┘
 */
import { Changes } from '../../log-limits.ts'
import type { UpstreamOptions } from '../../options.ts'
import type { HealthLog } from '../proxy/proxy-health.ts'

export type Group = UpstreamOptions & { readonly kind: 'group' }

const UNKNOWN = 0
const UP = 1
/** It has failed, or was silent; a probe is under way to tell. */
const SUSPECT = 2
const DOWN = 3

/** Of each member in the cells. */
const STATE = 0
/** As it was last told: UP or DOWN, or 0. */
const TOLD = 1
const CELLS = 2

/** Of faults in a row, where there is no probe to tell. */
const MAX_STRIKES = 3
/** The weight of what was measured last. */
const WEIGHT = 0.2
/** What a member had more to do than its probe says counts less with each probe, so that it is tried again. */
const FADE = 0.9
/** Another must be faster by this much to take the place of the fastest: connections made in advance are those of one. */
const BETTER = 0.8

/** More lines than this within a minute are summed up in one. */
const LINES_A_MINUTE = 6

/** Shared by the groups of one name in all threads. */
export function groupCells(members: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(members * CELLS * 4))
}

/** A member as this thread knows it. Times are milliseconds. */
interface Member {
  readonly name: string
  /** An answer was seen here last, of whatever content. */
  answeredAt: number
  strikes: number
  /** From asking to the answer of a probe, smoothed. */
  probeMs: number | undefined
  /** How much longer a dial takes. */
  extraMs: number
}

export class GroupState {
  readonly name: string
  readonly policy: Group['policy']
  readonly probeMs: number
  readonly #members: readonly Member[]
  readonly #cells: Int32Array
  readonly #log: HealthLog
  readonly #now: () => number
  #turn = 0
  #fastest: number | undefined
  readonly #changes = new Changes(LINES_A_MINUTE)

  /**
   * @param cells of groupCells(), for several threads with one group
   * @param now milliseconds, monotonic
   */
  constructor(
    name: string,
    { policy, members, probeMs }: Group,
    log: HealthLog,
    cells = groupCells(members.length),
    now = () => performance.now(),
  ) {
    this.name = name
    this.policy = policy
    this.probeMs = probeMs
    this.#members = members.map(each => ({
      name: each,
      answeredAt: Number.NEGATIVE_INFINITY,
      strikes: 0,
      probeMs: undefined,
      extraMs: 0,
    }))
    this.#cells = cells
    this.#log = log
    this.#now = now
  }

  get size(): number {
    return this.#members.length
  }

  nameOf(member: number): string {
    return this.#members[member]!.name
  }

  /** When it has answered last, as far as this thread knows. */
  answeredAt(member: number): number {
    return this.#members[member]!.answeredAt
  }

  /** It was never asked, as far as this thread knows. */
  isUnknown(member: number): boolean {
    return this.#state(member) === UNKNOWN
  }

  isSuspect(member: number): boolean {
    return this.#state(member) === SUSPECT
  }

  isDown(member: number): boolean {
    return this.#state(member) === DOWN
  }

  /** Nothing speaks against it. */
  isSound(member: number): boolean {
    return this.#state(member) <= UP
  }

  #state(member: number): number {
    return this.#cells[member * CELLS + STATE]!
  }

  // ---- who is asked ----

  /** All members, the one that is to be asked first in front; it is not asked for without a dial. */
  order(): number[] {
    const wanted = this.#preference()
    const doubt = (member: number) => (this.isSound(member) ? 0 : this.isSuspect(member) ? 1 : 2)
    return wanted.sort((a, b) => doubt(a) - doubt(b))
  }

  #preference(): number[] {
    const all = this.#members.map((_, member) => member)
    if (this.policy === 'failover') return all
    if (this.policy === 'least-latency') return this.#bySpeed(all)
    const sound = all.filter(member => this.isSound(member))
    if (sound.length === 0) return all
    const first = sound[this.#turn++ % sound.length]!
    return [...all.slice(first), ...all.slice(0, first)]
  }

  #bySpeed(all: number[]): number[] {
    all.sort((a, b) => this.#speed(a) - this.#speed(b))
    const best = all.find(member => this.isSound(member)) ?? all[0]!
    const last = this.#fastest
    const stays = last !== undefined && this.isSound(last) && this.#speed(best) >= BETTER * this.#speed(last)
    const first = stays ? last : best
    this.#fastest = first
    return [first, ...all.filter(member => member !== first)]
  }

  /** Milliseconds that a dial is expected to take; 0 for a member that was never measured. */
  #speed(member: number): number {
    const { probeMs = 0, extraMs } = this.#members[member]!
    return Math.max(0, probeMs + extraMs)
  }

  // ---- what was learned ----

  /** A dial was answered, whatever the answer. `ms`: after so long a success; undefined when it tells nothing of its speed. */
  answered(member: number, ms?: number): void {
    const known = this.#members[member]!
    known.answeredAt = this.#now()
    known.strikes = 0
    if (ms !== undefined) known.extraMs = smooth(known.extraMs, ms - (known.probeMs ?? 0))
    if (this.#state(member) !== UP) this.#becomesUp(member)
  }

  probed(member: number, ms: number): void {
    const known = this.#members[member]!
    known.answeredAt = this.#now()
    known.strikes = 0
    known.probeMs = known.probeMs === undefined ? ms : smooth(known.probeMs, ms)
    known.extraMs *= FADE
    if (this.#state(member) !== UP) this.#becomesUp(member)
  }

  /** One that is not down has failed a dial, or was silent for too long; a probe will tell, where there is one. */
  suspected(member: number, reason: string, hasProbe: boolean): void {
    const known = this.#members[member]!
    known.strikes++
    if (!hasProbe && known.strikes >= MAX_STRIKES) this.failed(member, reason)
    else Atomics.store(this.#cells, member * CELLS + STATE, SUSPECT)
  }

  failed(member: number, reason: string): void {
    Atomics.store(this.#cells, member * CELLS + STATE, DOWN)
    if (this.#turnsTo(member, DOWN))
      this.#log.warn('group member down', {
        group: this.name,
        member: this.nameOf(member),
        reason,
        serves: this.#serves(),
      })
  }

  /** It has no probe: a dial shall tell how it is now. */
  forgive(member: number): void {
    Atomics.store(this.#cells, member * CELLS + STATE, UNKNOWN)
  }

  #becomesUp(member: number): void {
    Atomics.store(this.#cells, member * CELLS + STATE, UP)
    const wasDown = Atomics.load(this.#cells, member * CELLS + TOLD) === DOWN
    if (this.#turnsTo(member, UP) && wasDown)
      this.#log.info('group member up', { group: this.name, member: this.nameOf(member), serves: this.#serves() })
  }

  /** Who serves now, for people. */
  #serves(): string {
    const named = (isOne: (member: number) => boolean) =>
      this.#members.filter((_, member) => isOne(member)).map(({ name }) => name)
    const sound = named(member => this.isSound(member))
    const best = sound.length > 0 ? sound : named(member => this.isSuspect(member))
    if (best.length === 0) return 'none'
    return this.policy === 'failover' ? best[0]! : best.join(', ')
  }

  /** This change is to be told, by this thread. */
  #turnsTo(member: number, state: number): boolean {
    const at = member * CELLS + TOLD
    const told = Atomics.load(this.#cells, at)
    if (told === state) return false
    // that a member is up from the first is no news
    if (told !== UNKNOWN || state === DOWN) if (!this.#mayTell()) return false
    return Atomics.exchange(this.#cells, at, state) !== state
  }

  #mayTell(): boolean {
    const next = this.#changes.next(this.#now())
    if (next !== 'last') return next === 'tell'
    this.#log.warn('group unsteady', {
      group: this.name,
      reason: 'its members come and go: the next changes are told in a minute',
    })
    return false
  }
}

function smooth(before: number, value: number): number {
  return before + WEIGHT * (value - before)
}
