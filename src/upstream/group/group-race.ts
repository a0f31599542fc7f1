/**
 * A dial of a group: the members are asked one after the other, the next when one fails by its own fault or is silent for too
 * long; a silent one may still be the first to answer. What the destination says is an answer, whoever brings it.
 */
import type { Destination, IpEndpoint } from '../../endpoint.ts'
import type {
  Associating,
  Association,
  AssociationListener,
  Connected,
  Dial,
  DialError,
  Dialer,
  DialFailure,
  DialListener,
} from '../dialer.ts'
import type { GroupState } from './group-state.ts'

/**
 * A client sends its SYN again after 1 and 3 s (RFC 6298 §5.5, §2.1): nobody notices what is over by then. The same as most
 * dials through a proxy that is up take at most.
 */
const PATIENCE_MS = 2_000
/** With one of which nothing good is known. */
const DOUBT_MS = 500

/** What a race needs of the group around it. */
export interface RaceHost {
  readonly state: GroupState
  readonly dialers: readonly Dialer[]
  now(): number
  /** The member is to blame. */
  blame(member: number, error: DialError): void
  /** It has not answered anybody since it was asked. */
  wasSilent(member: number): void
  /** Another member is asked: after a failure, or because of silence. */
  goesOn(afterFailure: boolean): void
  raceEnded(race: Race): void
}

/** What a member may be blamed for: of the rest, only a dial for a destination gives answers. */
const FAULTS: ReadonlySet<DialFailure> = new Set(['upstream-down', 'authentication', 'timeout'])
/** Another member may do better, though this one is not to blame. */
const WORTH_ANOTHER: ReadonlySet<DialFailure> = new Set([...FAULTS, 'unsupported', 'no-resources'])

interface Handle {
  stop(): void
  expire(): DialError
}

/** A member that was asked. */
abstract class Runner {
  readonly race: Race
  readonly member: number
  readonly startedAt: number
  protected handle: Handle | undefined
  ended = false

  constructor(race: Race, member: number) {
    this.race = race
    this.member = member
    this.startedAt = race.host.now()
  }

  abstract start(dialer: Dialer): void

  /** For so long nothing was heard of it. While it answers others it is the destination that is slow. */
  get silentMs(): number {
    const { host } = this.race
    const heardAt = host.state.isDown(this.member) ? this.startedAt : host.state.answeredAt(this.member)
    return host.now() - Math.max(this.startedAt, heardAt)
  }

  stop(): void {
    this.ended = true
    this.handle?.stop()
  }

  expire(): DialError {
    this.ended = true
    return this.handle!.expire()
  }
}

export abstract class Race {
  readonly host: RaceHost
  /** Who is left to be asked, the next one first. */
  readonly #left: number[]
  readonly #running: Runner[] = []
  #firstError: { readonly member: number; readonly error: DialError } | undefined
  #over = false

  constructor(host: RaceHost) {
    this.host = host
    this.#left = host.state.order()
  }

  protected abstract runner(member: number): Runner
  protected abstract tellFailure(error: DialError): void
  protected abstract isAnswer(failure: DialFailure): boolean

  /** Asks the first member. */
  start(): void {
    this.#askNext()
  }

  #askNext(): boolean {
    const member = this.#left.shift()
    if (member === undefined) return false
    const runner = this.runner(member)
    this.#running.push(runner)
    runner.start(this.host.dialers[member]!)
    return true
  }

  /** Called at regular times. */
  tick(): void {
    if (this.#over || this.#left.length === 0) return
    const { state } = this.host
    for (const runner of this.#running) {
      if (runner.silentMs < (state.isSound(runner.member) ? PATIENCE_MS : DOUBT_MS)) return
    }
    for (const { member } of this.#running) if (state.isSound(member)) this.host.wasSilent(member)
    this.host.goesOn(false)
    this.#askNext()
  }

  /** The others are given up. False: the race is over. */
  won(runner: Runner, isConnected: boolean): boolean {
    if (this.#over) return false
    this.host.state.answered(runner.member, isConnected ? this.host.now() - runner.startedAt : undefined)
    runner.ended = true
    this.#end()
    return true
  }

  lost(runner: Runner, error: DialError): void {
    if (this.#over || runner.ended) return
    runner.ended = true
    this.#running.splice(this.#running.indexOf(runner), 1)
    if (this.isAnswer(error.failure)) {
      this.won(runner, false)
      return this.tellFailure(error)
    }
    if (FAULTS.has(error.failure)) this.host.blame(runner.member, error)
    this.#firstError ??= { member: runner.member, error }
    if (this.#left.length > 0) {
      this.host.goesOn(true)
      this.#askNext()
    } else if (this.#running.length === 0) {
      this.#end()
      this.tellFailure(this.#told(this.#firstError.member, this.#firstError.error))
    }
  }

  #told(member: number, { failure, message }: DialError): DialError {
    const others = this.host.state.size - 1
    const rest = others === 0 ? '' : ', and no other member of the group could do it'
    return { failure, message: `${this.host.state.nameOf(member)}: ${message}${rest}` }
  }

  #end(): void {
    this.#over = true
    for (const runner of this.#running) if (!runner.ended) runner.stop()
    this.#running.length = 0
    this.host.raceEnded(this)
  }

  cancel(): void {
    if (!this.#over) this.#end()
  }

  expire(): DialError {
    const [first] = this.#running
    if (this.#over || first === undefined) return { failure: 'timeout', message: 'the group was not asked yet' }
    const error = first.expire()
    this.#end()
    return { failure: error.failure, message: `${this.host.state.nameOf(first.member)}: ${error.message}` }
  }
}

/** A stream. */
export class DialRace extends Race implements Dial {
  readonly destination: Destination
  readonly client: IpEndpoint
  readonly listener: DialListener

  constructor(host: RaceHost, destination: Destination, client: IpEndpoint, listener: DialListener) {
    super(host)
    this.destination = destination
    this.client = client
    this.listener = listener
  }

  protected override runner(member: number): DialRunner {
    return new DialRunner(this, member, this)
  }

  protected override isAnswer(failure: DialFailure): boolean {
    return !WORTH_ANOTHER.has(failure)
  }

  protected override tellFailure(error: DialError): void {
    this.listener.onFailed(error)
  }
}

class DialRunner extends Runner implements DialListener {
  readonly #dial: DialRace

  constructor(race: Race, member: number, dial: DialRace) {
    super(race, member)
    this.#dial = dial
  }

  override start(dialer: Dialer): void {
    const dial = dialer.connect(this.#dial.destination, this.#dial.client, this)
    if (!this.ended) this.handle = { stop: () => dial.cancel(), expire: () => dial.expire() }
  }

  onConnected(connected: Connected): void {
    if (this.race.won(this, true)) this.#dial.listener.onConnected(connected)
    else connected.socket.close(true)
  }

  onFailed(error: DialError): void {
    this.race.lost(this, error)
  }
}

/** A way for datagrams. Nothing that a member says of it is an answer of a destination. */
export class AssociationRace extends Race implements Associating {
  readonly client: IpEndpoint
  readonly listener: AssociationListener
  /** All datagrams go to it. */
  readonly name: string | undefined

  constructor(host: RaceHost, client: IpEndpoint, listener: AssociationListener, name?: string) {
    super(host)
    this.client = client
    this.listener = listener
    this.name = name
  }

  protected override runner(member: number): AssociationRunner {
    return new AssociationRunner(this, member, this)
  }

  protected override isAnswer(): boolean {
    return false
  }

  protected override tellFailure(error: DialError): void {
    this.listener.onAssociationFailed(error)
  }

  close(): void {
    this.cancel()
  }
}

class AssociationRunner extends Runner implements AssociationListener {
  readonly #host: AssociationRace
  #stands = false

  constructor(race: Race, member: number, host: AssociationRace) {
    super(race, member)
    this.#host = host
  }

  override start(dialer: Dialer): void {
    const associating = dialer.associate(this.#host.client, this, this.#host.name)
    if (!this.ended) this.handle = { stop: () => associating.close(), expire: () => associating.expire() }
  }

  onAssociated(association: Association): void {
    if (!this.race.won(this, true)) return association.close()
    this.#stands = true
    this.#host.listener.onAssociated(association)
  }

  onAssociationFailed(error: DialError): void {
    if (!this.#stands) return this.race.lost(this, error)
    if (FAULTS.has(error.failure)) this.race.host.blame(this.member, error)
    this.#host.listener.onAssociationFailed(error)
  }

  onDatagrams(): void {
    this.#host.listener.onDatagrams()
  }
}
