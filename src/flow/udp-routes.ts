/**
 * The ways of one client endpoint, where something is decided about its datagrams: for each destination once, and then it stays.
 * Mostly all go one way; destinations that are virtual have one each.
 */
import { sameAddress } from '../endpoint.ts'
import type { Stack } from '../stack/stack.ts'
import type { Dialer } from '../upstream/dialer.ts'
import { DatagramQueue, destinationOf, refuseCopies, refuseRow } from './datagram-queue.ts'
import type { Decision, RoutedFlow } from './router.ts'
import type { UdpHost, WayOwner } from './udp-host.ts'
import { UdpWay } from './udp-way.ts'

/** Of one endpoint; above it the least recently used way gives way. */
const MAX_WAYS = 64
/** What was decided for destinations is forgotten above it, and decided again. */
const MAX_COURSES = 1_024

/** What was decided for one destination. */
interface Course {
  readonly flow: RoutedFlow
  decision: Decision
  way: UdpWay | undefined
  /** While a verdict is waited for. */
  queue: DatagramQueue | undefined
  /** Of the router, when it was decided. */
  revision: number
}

const NO_NAME: Decision = { kind: 'reject', why: 'no name stands behind this virtual address any more' }

export class UdpRoutes {
  readonly #host: UdpHost
  readonly #owner: WayOwner
  readonly #ways: UdpWay[] = []
  /** By the destination, as keyOf makes it. */
  readonly #courses = new Map<string, Course>()
  /** Of ways that are no more. */
  #bytesUp = 0
  #bytesDown = 0
  #closed = false

  constructor(host: UdpHost, owner: WayOwner) {
    this.#host = host
    this.#owner = owner
  }

  get ways(): readonly UdpWay[] {
    return this.#ways
  }

  get bytesUp(): number {
    return this.#ways.reduce((sum, way) => sum + way.bytesUp, this.#bytesUp)
  }

  get bytesDown(): number {
    return this.#ways.reduce((sum, way) => sum + way.bytesDown, this.#bytesDown)
  }

  // ---- client → upstream ----

  /** Rows `from` … `to` of the stack's datagram table, all of this endpoint; those of one way together. */
  send(from: number, to: number): void {
    const { stack } = this.#host
    for (let first = from; first < to; ) {
      const course = this.#courseOf(first)
      let next = first + 1
      while (next < to && sameDestination(stack, first, next)) next++
      this.#sendBy(course, first, next)
      first = next
    }
  }

  #sendBy({ decision, way, queue }: Course, from: number, to: number): void {
    const { stack, udpCounters } = this.#host
    if (way !== undefined) return way.send(from, to)
    for (let row = from; row < to; row++) {
      if (queue !== undefined) udpCounters.udp_queue_full += queue.push(stack, row)
      else if (decision.kind === 'reject') refuseRow(stack, this.#owner.id, row)
    }
  }

  #courseOf(row: number): Course {
    const key = keyOf(this.#host.stack, row)
    const known = this.#courses.get(key)
    if (known !== undefined && (known.way !== undefined || this.#holds(known))) return known
    if (this.#courses.size >= MAX_COURSES) this.#courses.clear()
    const course = this.#decide(row)
    this.#courses.set(key, course)
    return course
  }

  /** A name that nobody holds may give its address to another before the next datagram. */
  #holds({ revision, queue, flow }: Course): boolean {
    return revision === this.#host.router.revision && (queue !== undefined || flow.domain === undefined)
  }

  #decide(row: number): Course {
    const { stack, router } = this.#host
    const destination = destinationOf(stack, row)
    const domain = router.names?.acquire(destination.address)
    const target = domain ? { name: domain, port: destination.port } : destination
    const flow: RoutedFlow = { protocol: 'udp', source: this.#owner.client, destination: target, domain }
    const decision = domain === '' ? NO_NAME : router.decide(flow)
    const course: Course = { flow, decision, way: undefined, queue: undefined, revision: router.revision }
    if (decision.kind === 'ask') this.#ask(course, destination.address)
    else this.#follow(course, destination.address)
    // a way holds the name for itself
    if (domain && decision.kind !== 'ask') router.names?.release(destination.address)
    return course
  }

  #ask(course: Course, address: Uint8Array): void {
    const { router, poller } = this.#host
    course.queue = new DatagramQueue()
    void router.ask(course.flow).then(decision => {
      poller.turn(() => {
        if (!this.#closed) this.#onVerdict(course, decision, address)
      })
      // also where there was no turn, for the stack has stopped
      if (course.flow.domain) router.names?.release(address)
    })
  }

  #onVerdict(course: Course, decision: Decision, address: Uint8Array): void {
    const { datagrams } = course.queue!
    course.queue = undefined
    course.decision = decision
    this.#follow(course, address)
    if (course.way !== undefined) course.way.sendCopies(datagrams)
    else if (decision.kind === 'reject') refuseCopies(this.#host.stack, this.#owner.id, datagrams)
  }

  #follow(course: Course, address: Uint8Array): void {
    const { decision, flow } = course
    if (decision.kind === 'dial') course.way = this.#wayOf(decision.dialer, decision.why, flow.domain, address)
  }

  // ---- ways ----

  #wayOf(dialer: Dialer, why: string, name: string | undefined, address: Uint8Array): UdpWay {
    const leads = (way: UdpWay) =>
      way.dialer === dialer &&
      (name ? way.virtual !== undefined && sameAddress(way.virtual.address, address) : !way.virtual)
    const known = this.#ways.find(leads)
    if (known !== undefined) return known
    if (this.#ways.length >= MAX_WAYS)
      this.#close(this.#ways.reduce((one, other) => (other.usedAt < one.usedAt ? other : one)))
    if (name) this.#host.router.names?.acquire(address)
    const way = new UdpWay(this.#host, this.#owner, dialer, why, name ? { address, name } : undefined)
    this.#ways.push(way)
    return way
  }

  #close(way: UdpWay): void {
    this.#ways.splice(this.#ways.indexOf(way), 1)
    for (const [key, course] of this.#courses) if (course.way === way) this.#courses.delete(key)
    way.close()
    this.#letGo(way)
  }

  #letGo(way: UdpWay): void {
    this.#bytesUp += way.bytesUp
    this.#bytesDown += way.bytesDown
    way.discard()
    if (way.virtual !== undefined) this.#host.router.names?.release(way.virtual.address)
  }

  /** Called now and then. */
  sweep(connectTimeoutMs: number, idleTimeoutMs: number): void {
    for (const way of [...this.#ways]) {
      way.sweep(connectTimeoutMs)
      if (this.#host.now - way.usedAt >= idleTimeoutMs) this.#close(way)
    }
  }

  /** Lets go of the upstreams, without a word to the stack. */
  discard(): void {
    this.#closed = true
    for (const way of this.#ways.splice(0)) this.#letGo(way)
    this.#courses.clear()
  }
}

/** Of an IPv4 address only the first word counts. */
function sameDestination({ abi, words }: Stack, one: number, other: number): boolean {
  const a = (abi.datagrams + one * abi.datagramBytes) / 4
  const b = (abi.datagrams + other * abi.datagramBytes) / 4
  if (words[a + abi.datagramDestPort / 4] !== words[b + abi.datagramDestPort / 4]) return false
  const length = words[a + abi.datagramFamily / 4] === 6 ? 4 : 1
  for (let word = abi.datagramDest / 4, end = word + length; word < end; word++)
    if (words[a + word] !== words[b + word]) return false
  return true
}

function keyOf({ abi, words }: Stack, row: number): string {
  const datagram = (abi.datagrams + row * abi.datagramBytes) / 4
  const at = datagram + abi.datagramDest / 4
  const port = words[datagram + abi.datagramDestPort / 4]!
  if (words[datagram + abi.datagramFamily / 4] !== 6) return `${words[at]}:${port}`
  return `${words[at]}.${words[at + 1]}.${words[at + 2]}.${words[at + 3]}:${port}`
}
