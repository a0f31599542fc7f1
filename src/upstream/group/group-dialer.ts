/**
 * A dialer that is several: the members of a group, of which one is asked, and the next when that one is to blame. Who is down
 * is looked at again by probes, as long as the group is in use or somebody is down.
 */
import type { Destination, IpEndpoint } from '../../endpoint.ts'
import type { Poller } from '../../io/poller.ts'
import type {
  Associating,
  AssociationListener,
  Dial,
  DialError,
  Dialer,
  DialListener,
  ProbeListener,
  Probing,
} from '../dialer.ts'
import { AssociationRace, DialRace, type Race, type RaceHost } from './group-race.ts'
import type { GroupState } from './group-state.ts'

/** How often races and probes are looked at. */
const TICK_MS = 250
/** Members that nobody has asked are probed so long after the first dial of the group. */
const FIRST_LOOK_MS = 500
/** A probe without an answer. */
const PROBE_PATIENCE_MS = 2_000
/** One that was found to be up is not suspected again at once: there are proxies that close where they should refuse. */
const TRUST_MS = 250
/** Of the pause: gateways, and the members of one, shall not all probe at the same moment, and none later than was promised. */
const JITTER = [0.7, 0.95] as const
/** A password that was refused is not tried sooner. */
const DENIED_MS = 30_000
/** A group that was not used for so many pauses does not measure who is fastest. */
const IDLE_PAUSES = 6

export interface GroupTime {
  /** Milliseconds, monotonic. */
  now(): number
  /** What it gives calls it off. */
  after(ms: number, work: () => void): () => void
  /** 0 to 1. */
  random(): number
}

const REAL_TIME: GroupTime = {
  now: () => performance.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms).unref()
    return () => clearTimeout(timer)
  },
  random: Math.random,
}

export interface GroupParts {
  readonly poller: Pick<Poller, 'turn' | 'later'>
  readonly state: GroupState
  /** In the order of the state's members. Who has made them closes them. */
  readonly dialers: readonly Dialer[]
  readonly time?: GroupTime
}

/** What is going on with a member. */
interface Watch {
  /** When it is probed next. */
  dueAt: number
  /** When it was last found to be up by a probe. */
  trustedAt: number
  probe: Probing | undefined
  probedAt: number
}

export class GroupDialer implements Dialer, RaceHost {
  readonly state: GroupState
  readonly dialers: readonly Dialer[]
  readonly hasUserPerClient: boolean
  readonly #poller: Pick<Poller, 'turn' | 'later'>
  readonly #time: GroupTime
  readonly #races = new Set<Race>()
  readonly #watches: readonly Watch[]
  readonly #counters = { group_failovers: 0, group_hedges: 0, group_probes: 0, group_probe_failures: 0 }
  #usedAt = Number.NEGATIVE_INFINITY
  #timer: { readonly at: number; readonly stop: () => void } | undefined
  #closed = false

  constructor({ poller, state, dialers, time = REAL_TIME }: GroupParts) {
    this.state = state
    this.dialers = dialers
    this.hasUserPerClient = dialers.some(dialer => dialer.hasUserPerClient)
    this.#poller = poller
    this.#time = time
    const never = Number.NEGATIVE_INFINITY
    this.#watches = dialers.map(() => ({ dueAt: never, trustedAt: never, probe: undefined, probedAt: never }))
  }

  now(): number {
    return this.#time.now()
  }

  connect(destination: Destination, client: IpEndpoint, listener: DialListener): Dial {
    return this.#begin(new DialRace(this, destination, client, listener))
  }

  associate(client: IpEndpoint, listener: AssociationListener, name?: string): Associating {
    return this.#begin(new AssociationRace(this, client, listener, name))
  }

  #begin<R extends Race>(race: R): R {
    this.#use()
    this.#races.add(race)
    race.start()
    this.#arm()
    return race
  }

  #use(): void {
    const isFirst = this.#usedAt === Number.NEGATIVE_INFINITY
    this.#usedAt = this.now()
    // the dials of the first moment may tell more than a probe
    if (isFirst) for (const watch of this.#watches) watch.dueAt = Math.max(watch.dueAt, this.#usedAt + FIRST_LOOK_MS)
  }

  // ---- what races say ----

  blame(member: number, { failure, message }: DialError): void {
    if (failure === 'authentication') {
      if (this.dialers[member]!.hasUserPerClient) return
      this.state.failed(member, message)
      this.#watches[member]!.dueAt = this.now() + Math.max(DENIED_MS, this.state.probeMs)
      return
    }
    // without a probe nobody could tell a slow destination from a member that is down
    if (failure !== 'timeout' || this.dialers[member]!.probe !== undefined) this.#suspect(member, message)
  }

  wasSilent(member: number): void {
    this.#suspect(member, 'it does not answer')
  }

  #suspect(member: number, reason: string): void {
    const watch = this.#watches[member]!
    if (this.now() - watch.trustedAt < TRUST_MS || this.state.isDown(member)) return
    const hasProbe = this.dialers[member]!.probe !== undefined
    this.state.suspected(member, reason, hasProbe)
    if (hasProbe) this.#probe(member)
    else watch.dueAt = this.now() + this.#pause()
  }

  goesOn(afterFailure: boolean): void {
    if (afterFailure) this.#counters.group_failovers++
    else this.#counters.group_hedges++
  }

  raceEnded(race: Race): void {
    this.#races.delete(race)
  }

  // ---- time ----

  /** The timer is set for what comes next. */
  #arm(): void {
    if (this.#closed) return
    const now = this.now()
    const isBusy = this.#races.size > 0 || this.#watches.some(({ probe }) => probe !== undefined)
    let at = isBusy ? now + TICK_MS : Number.POSITIVE_INFINITY
    for (const [member, { dueAt }] of this.#watches.entries()) if (this.#wantsProbe(member)) at = Math.min(at, dueAt)
    if (this.#timer !== undefined && this.#timer.at <= at) return
    this.#timer?.stop()
    this.#timer = undefined
    if (at === Number.POSITIVE_INFINITY) return
    const stop = this.#time.after(Math.max(0, at - now), () => {
      this.#timer = undefined
      this.#poller.turn(() => this.#tick())
      this.#arm()
    })
    this.#timer = { at, stop }
  }

  #tick(): void {
    for (const race of this.#races) race.tick()
    const now = this.now()
    for (const [member, { dueAt, probe, probedAt }] of this.#watches.entries()) {
      if (probe === undefined) {
        if (this.#wantsProbe(member) && dueAt <= now) this.#probe(member)
      } else if (now - probedAt >= PROBE_PATIENCE_MS) {
        probe.cancel()
        this.#watches[member]!.probe = undefined
        // what clients have from it counts for more
        if (this.state.answeredAt(member) < probedAt)
          this.#probeFailed(member, `no answer to a probe within ${PROBE_PATIENCE_MS / 1000} s`)
      }
    }
  }

  #wantsProbe(member: number): boolean {
    if (this.#watches[member]!.probe !== undefined || this.#closed) return false
    if (this.state.isDown(member) || this.state.isSuspect(member)) return true
    if (this.dialers[member]!.probe === undefined) return false
    const isUsed = this.now() - this.#usedAt < IDLE_PAUSES * this.state.probeMs
    return isUsed && (this.state.isUnknown(member) || this.state.policy === 'least-latency')
  }

  #pause(): number {
    const [least, most] = JITTER
    return this.state.probeMs * (least + (most - least) * this.#time.random())
  }

  // ---- probes ----

  #probe(member: number): void {
    const watch = this.#watches[member]!
    if (watch.probe !== undefined || this.#closed) return
    const dialer = this.dialers[member]!
    if (dialer.probe === undefined) return this.state.forgive(member)
    this.#counters.group_probes++
    watch.probedAt = this.now()
    watch.dueAt = watch.probedAt + this.#pause()
    watch.probe = dialer.probe({
      onProbed: () => {
        watch.probe = undefined
        watch.trustedAt = this.now()
        this.state.probed(member, watch.trustedAt - watch.probedAt)
        this.#arm()
      },
      onFailed: ({ failure, message }) => {
        watch.probe = undefined
        // of this machine: it says nothing of the member
        if (failure !== 'no-resources') this.#probeFailed(member, message)
        this.#arm()
      },
    })
    this.#arm()
  }

  #probeFailed(member: number, reason: string): void {
    this.#counters.group_probe_failures++
    this.#watches[member]!.probe = undefined
    this.state.failed(member, reason)
    for (const race of this.#races) race.tick()
  }

  /** Of the group as a member of another: it is up as long as one of its own is. */
  probe(listener: ProbeListener): Probing {
    let isOver = false
    this.#use()
    this.#arm()
    this.#poller.later(() => {
      if (isOver) return
      isOver = true
      if (this.#watches.some((_, member) => this.state.isSound(member))) listener.onProbed()
      else listener.onFailed({ failure: 'upstream-down', message: `no member of ${this.state.name} is up` })
    })
    return {
      cancel: () => {
        isOver = true
      },
    }
  }

  // ---- the rest of the seam ----

  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.dialers.some(dialer => dialer.isUpstream(destination, client))
  }

  /** Without those of the members. */
  counters(): Record<string, number> {
    return { ...this.#counters }
  }

  close(): void {
    this.#closed = true
    this.#timer?.stop()
    this.#timer = undefined
    for (const race of this.#races) race.cancel()
    for (const { probe } of this.#watches) probe?.cancel()
  }
}
