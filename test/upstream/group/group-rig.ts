/** A group whose members, clock and probes are in the hands of the test. */
import type { ExecutionContext } from 'ava'
import type {
  Association,
  AssociationListener,
  Connected,
  DialError,
  Dialer,
  DialFailure,
  DialListener,
  ProbeListener,
} from '../../../src/upstream/dialer.ts'
import { GroupDialer, type GroupTime } from '../../../src/upstream/group/group-dialer.ts'
import { type Group, GroupState } from '../../../src/upstream/group/group-state.ts'
import { CLIENT, DEST } from '../rig.ts'

const error = (failure: DialFailure): DialError => ({ failure, message: `it says ${failure}` })

/** What was asked of a member. */
interface Asked<L> {
  readonly listener: L
  cancelled: boolean
}

export class FakeTime implements GroupTime {
  #now = 1_000
  #timers: { at: number; work: () => void }[] = []
  #later: (() => void)[] = []
  readonly poller = {
    turn: (work: () => void) => work(),
    later: (work: () => void) => void this.#later.push(work),
  }

  now(): number {
    return this.#now
  }

  random(): number {
    return 1
  }

  after(ms: number, work: () => void): () => void {
    const timer = { at: this.#now + ms, work }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(each => each !== timer)
    }
  }

  get timers(): number {
    return this.#timers.length
  }

  /** Work for later turns. */
  settle(): void {
    for (const work of this.#later.splice(0)) work()
  }

  advance(ms: number): void {
    const end = this.#now + ms
    this.settle()
    for (;;) {
      const [next] = this.#timers.sort((a, b) => a.at - b.at)
      if (next === undefined || next.at > end) break
      this.#timers.shift()
      this.#now = Math.max(this.#now, next.at)
      next.work()
      this.settle()
    }
    this.#now = end
  }
}

/** What it is asked waits for the test, or is answered at once as `mood` says. */
export class Scripted implements Dialer {
  readonly dials: Asked<DialListener>[] = []
  readonly associations: (Asked<AssociationListener> & { made?: Association })[] = []
  readonly probes: Asked<ProbeListener>[] = []
  mood: DialFailure | 'success' | undefined
  upstream = 0
  readonly probe?: (listener: ProbeListener) => { cancel(): void }

  constructor(hasProbe = true) {
    if (hasProbe) this.probe = listener => this.#ask(this.probes, listener)
  }

  connect(_destination: unknown, _client: unknown, listener: DialListener) {
    const asked = this.#ask(this.dials, listener)
    if (this.mood === 'success') this.succeed()
    else if (this.mood !== undefined) this.fail(this.mood)
    return asked
  }

  associate(_client: unknown, listener: AssociationListener) {
    const asked = this.#ask(this.associations, listener)
    if (this.mood !== undefined && this.mood !== 'success') listener.onAssociationFailed(error(this.mood))
    return { ...asked, close: asked.cancel }
  }

  #ask<L>(list: Asked<L>[], listener: L) {
    const asked = { listener, cancelled: false }
    list.push(asked)
    const cancel = () => {
      asked.cancelled = true
    }
    return {
      cancel,
      expire: () => {
        cancel()
        return { failure: 'timeout', message: 'no word from it' } as const
      },
    }
  }

  /** The last dial. */
  succeed(dial = this.dials.at(-1)!): void {
    dial.listener.onConnected({ socket: { close() {} } } as unknown as Connected)
  }

  fail(failure: DialFailure, dial = this.dials.at(-1)!): void {
    dial.listener.onFailed(error(failure))
  }

  probed(): void {
    this.probes.at(-1)!.listener.onProbed()
  }

  probeFails(failure: DialFailure = 'upstream-down'): void {
    this.probes.at(-1)!.listener.onFailed(error(failure))
  }

  isUpstream({ port }: { port: number }): boolean {
    return port === this.upstream
  }

  counters(): Record<string, number> {
    return { handshakes: this.dials.length }
  }

  close(): void {}
}

export class Lines {
  readonly all: string[] = []
  info = (message: string, fields: Record<string, unknown> = {}) => void this.all.push(told(message, fields))
  warn = (message: string, fields: Record<string, unknown> = {}) => void this.all.push(told(message, fields))

  /** Those since the last call. */
  take(): string[] {
    return this.all.splice(0)
  }
}

function told(message: string, { member, serves, reason }: Record<string, unknown>): string {
  return [message, member, reason, serves && `→ ${serves}`].filter(Boolean).join(': ')
}

interface GroupSetup {
  readonly policy?: Group['policy']
  readonly members?: readonly Scripted[]
  readonly probeMs?: number
  readonly cells?: Int32Array
  readonly lines?: Lines
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']

export function group(t: ExecutionContext, setup: GroupSetup = {}) {
  const {
    policy = 'failover',
    members = [new Scripted(), new Scripted()],
    probeMs = 10_000,
    lines = new Lines(),
  } = setup
  const time = new FakeTime()
  const names = NAMES.slice(0, members.length)
  const options = { kind: 'group', policy, members: names, probeMs } as const
  const state = new GroupState('any', options, lines, setup.cells, () => time.now())
  const dialer = new GroupDialer({ poller: time.poller, state, dialers: members, time })
  t.teardown(() => {
    dialer.close()
    if (time.timers > 0) throw new Error('a timer is left')
  })
  return { dialer, state, members, time, lines }
}

export type GroupRig = ReturnType<typeof group>

/** What became of a dial: 'connected', a failure, or undefined. */
export interface Outcome {
  said: DialFailure | 'connected' | undefined
  message: string
  calls: number
}

export function dial({ dialer }: Pick<GroupRig, 'dialer'>) {
  const outcome: Outcome = { said: undefined, message: '', calls: 0 }
  const started = dialer.connect(DEST, CLIENT, {
    onConnected() {
      outcome.calls++
      outcome.said = 'connected'
    },
    onFailed({ failure, message }) {
      outcome.calls++
      outcome.said = failure
      outcome.message = message
    },
  })
  return { outcome, dial: started }
}

/** How many dials each member has had since it was asked last. */
export function asked({ members }: Pick<GroupRig, 'members'>): number[] {
  return members.map(member => member.dials.splice(0).length)
}
