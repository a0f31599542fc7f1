/** How datagrams reach a resolver: by an association of the proxy, one for all resolvers, or by a socket of our own. */
import { type IpEndpoint, sameAddress } from '../endpoint.ts'
import { SystemError } from '../errors.ts'
import type { Poller, Watcher } from '../io/poller.ts'
import { type Binding, Socket } from '../io/socket.ts'
import type { Associating, Association, AssociationListener, DatagramFields, DialError } from '../upstream/dialer.ts'
import type { Carrier, DatagramCounters, DatagramWay } from './datagram-way.ts'
import type { WayMemory } from './way.ts'

/** What `Io.recvDatagrams` says of one that is larger than its slot. */
const TRUNCATED = 0xffff_ffff
const ECONNREFUSED = -111
/** Kept until the association stands; the oldest goes first. */
const MAX_WAITING = 256
/** An association that does not stand by then never will. */
const ASSOCIATE_MS = 5_000
/** Without a question for so long it is closed, and the next question gets another port of the proxy. */
const IDLE_MS = 30_000
/** After a refusal by the proxy it is not asked again for so long. */
export const HOLD_MS = 60_000
/** It is the proxy that is away, not its UDP. */
const PASSING = new Set<DialError['failure']>(['upstream-down', 'timeout', 'no-resources', 'authentication'])

const received = Buffer.alloc(65_536)

/** Datagrams land in all slots but two: one is for answers to clients, one for what is sent. */
const OTHER_SLOTS = 2

/** Reads until there is no more; `take` gets offset and length of each datagram. false: the peer refuses. */
function readAll(
  memory: WayMemory,
  receive: () => number,
  isOpen: () => boolean,
  take: (at: number, length: number) => void,
) {
  const { words, landed, landingSlots } = memory
  while (isOpen()) {
    const count = receive()
    if (count <= 0) return count !== ECONNREFUSED
    for (let row = 0; row < count && isOpen(); row++)
      take(words[landed / 4 + 2 * row]!, words[landed / 4 + 2 * row + 1]!)
    if (count < landingSlots - OTHER_SLOTS) return true
  }
  return true
}

/** Tables of one message of one piece, in the first 64 bytes of the scratch memory. */
function prepareOne({ words, scratch }: WayMemory, at: number, length: number): void {
  words.set([0, 1, 0, at, length], scratch / 4)
}
const IOVECS_AT = 12
/** Of an address, behind the tables. */
const ADDRESS_AT = 32

/** Where a datagram that is to be sent may lie. */
function sendingSlot({ words, landingTable, landingSlots }: WayMemory): number {
  return words[landingTable / 4 + 2 * (landingSlots - OTHER_SLOTS)]!
}

export class AssociationCarrier implements Carrier, AssociationListener {
  heldUntil = 0
  readonly #memory: WayMemory
  readonly #poller: Poller
  readonly #associate: (listener: AssociationListener) => Associating
  readonly #counters: DatagramCounters
  readonly #ways = new Set<DatagramWay>()
  #waiting: { way: DatagramWay; message: Buffer }[] = []
  #associating: Associating | undefined
  #association: Association | undefined
  #startedAt = 0
  #expiring: NodeJS.Timeout | undefined
  #resting: NodeJS.Timeout | undefined
  #isOver = false
  readonly #fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }

  constructor(
    memory: WayMemory,
    poller: Poller,
    counters: DatagramCounters,
    associate: (listener: AssociationListener) => Associating,
  ) {
    this.#memory = memory
    this.#poller = poller
    this.#counters = counters
    this.#associate = associate
  }

  send(way: DatagramWay, message: Buffer, nowMs: number): void {
    this.#ways.add(way)
    clearTimeout(this.#resting)
    if (this.#association !== undefined) return this.#send(this.#association, way.resolver, message)
    if (this.#waiting.push({ way, message }) > MAX_WAITING) this.#waiting.shift()
    if (this.#associating !== undefined) return
    this.#startedAt = nowMs
    this.#isOver = false
    const associating = this.#associate(this)
    if (this.#isOver) return // it failed at once
    this.#associating = associating
    this.#expiring = this.#after(ASSOCIATE_MS, () => this.onAssociationFailed(associating.expire()))
  }

  #after(ms: number, work: () => void): NodeJS.Timeout {
    return setTimeout(() => this.#poller.turn(work), ms).unref()
  }

  onAssociated(association: Association): void {
    clearTimeout(this.#expiring)
    this.#associating = undefined
    this.#association = association
    const waiting = this.#waiting
    this.#waiting = []
    for (const { way, message } of waiting) if (way.isBusy) this.#send(association, way.resolver, message)
    this.#restIfIdle()
  }

  onAssociationFailed(error: DialError): void {
    if (!PASSING.has(error.failure)) this.heldUntil = this.#startedAt + HOLD_MS
    this.#forget()
    const ways = [...this.#ways]
    this.#ways.clear()
    for (const way of ways) way.failed(error)
  }

  #forget(): void {
    this.#isOver = true
    clearTimeout(this.#expiring)
    clearTimeout(this.#resting)
    this.#associating = undefined
    this.#association = undefined
    this.#waiting = []
  }

  #send(association: Association, { address, port }: IpEndpoint, message: Buffer): void {
    const { bytes, scratch } = this.#memory
    const at = sendingSlot(this.#memory)
    bytes.set(address, scratch + ADDRESS_AT)
    const family = address.length === 4 ? 4 : 6
    const header = association.writeHeader(at, scratch + ADDRESS_AT, family, port, message.length)
    if (header === 0) return // no such payload is carried: the question goes another way
    bytes.set(message, at + header)
    prepareOne(this.#memory, at, header + message.length)
    association.send(scratch, scratch + IOVECS_AT, 1)
  }

  onDatagrams(): void {
    const { landingTable, landingSlots, landingBytes, landed } = this.#memory
    const association = this.#association
    if (association === undefined) return
    readAll(
      this.#memory,
      () => association.receive(landingTable, landingSlots - OTHER_SLOTS, landingBytes, landed),
      () => this.#association === association,
      (at, length) => this.#take(association, at, length),
    )
  }

  #take(association: Association, at: number, length: number): void {
    const { bytes } = this.#memory
    const fields = this.#fields
    if (length === TRUNCATED || !association.parseDatagram(at, length, fields)) return
    const source = bytes.subarray(fields.sourceAt, fields.sourceAt + (fields.family === 4 ? 4 : 16))
    for (const way of this.#ways) {
      if (way.resolver.port !== fields.port || !sameAddress(way.resolver.address, source)) continue
      received.set(bytes.subarray(fields.payloadAt, fields.payloadAt + fields.payloadBytes))
      return way.receive(received, fields.payloadBytes)
    }
    this.#counters.dns_foreign_answers++
  }

  rest(way: DatagramWay): void {
    this.#ways.delete(way)
    this.#restIfIdle()
  }

  #restIfIdle(): void {
    clearTimeout(this.#resting)
    if (this.#ways.size === 0) this.#resting = this.#after(IDLE_MS, () => this.close())
  }

  close(): void {
    this.#associating?.close()
    this.#association?.close()
    this.#forget()
    this.#ways.clear()
  }
}

/** A socket for one way, connected: the kernel lets nobody else be heard. After a rest it is another one, with another port. */
export class DirectCarrier implements Carrier, Watcher {
  readonly heldUntil = 0
  readonly #memory: WayMemory
  readonly #poller: Poller
  readonly #binding: Binding
  #way: DatagramWay | undefined
  #socket: Socket | undefined

  constructor(memory: WayMemory, poller: Poller, binding: Binding) {
    this.#memory = memory
    this.#poller = poller
    this.#binding = binding
  }

  send(way: DatagramWay, message: Buffer): void {
    this.#way = way
    try {
      this.#socket ??= Socket.connectUdp(this.#poller, way.resolver, this.#binding, this)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      return way.failed({ failure: 'no-resources', message: error.message })
    }
    const { bytes, scratch } = this.#memory
    const at = sendingSlot(this.#memory)
    bytes.set(message, at)
    prepareOne(this.#memory, at, message.length)
    this.#poller.io.sendDatagrams(this.#socket.fd, scratch, scratch + IOVECS_AT, 1)
  }

  onReady(): void {
    const socket = this.#socket
    if (socket === undefined) return
    const { landingTable, landingSlots, landingBytes, landed, bytes } = this.#memory
    const slots = landingSlots - OTHER_SLOTS
    const heard = readAll(
      this.#memory,
      () => this.#poller.io.recvDatagrams(socket.fd, landingTable, slots, landingBytes, landed),
      () => socket.open,
      (at, length) => {
        if (length === TRUNCATED) return
        received.set(bytes.subarray(at, at + length))
        this.#way?.receive(received, length)
      },
    )
    if (heard) return
    this.close()
    this.#way?.failed({ failure: 'refused', message: 'nobody listens there' })
  }

  rest(): void {
    this.close()
  }

  close(): void {
    this.#socket?.close()
    this.#socket = undefined
  }
}
