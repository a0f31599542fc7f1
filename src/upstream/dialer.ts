/**
 * Seam 2: a dialer opens flows through an upstream. It knows nothing of packets, and the flows know nothing of its
 * protocol. A dialer works with the sockets of one poller and belongs to one data plane.
 */
import type { Destination, IpEndpoint } from '../endpoint.ts'
import type { Socket } from '../io/socket.ts'

/** Why a dial failed, in the terms of a client (flow/answer.ts makes packets of it). */
export type DialFailure =
  | 'refused' // the destination said no
  | 'net-unreachable'
  | 'host-unreachable'
  | 'prohibited' // a rule of the proxy
  | 'ttl-expired'
  | 'general' // the proxy could not say why
  | 'unsupported' // command or address type
  | 'no-resources' // this machine has no descriptor or no memory for a socket, or too many names to look up
  | 'upstream-down' // the proxy could not be reached, or the handshake broke
  | 'authentication'
  | 'timeout'

/** Not an Error: one is made per failed connect, and nobody reads its stack. */
export interface DialError {
  readonly failure: DialFailure
  /** One line for a log, without secrets. */
  readonly message: string
}

/** A stream to the destination. */
export interface Connected {
  readonly socket: Socket
  /** Bytes that came behind the handshake: the client's first. */
  readonly early: Uint8Array | undefined
  /** false: everything that had come was read, an event will tell of more. */
  readonly readable: boolean
}

/** Exactly one of the two is called, once, perhaps before connect() returns; none after cancel(). */
export interface DialListener {
  /** The listener owns the socket from here and hands it a watcher. */
  onConnected(connected: Connected): void
  onFailed(error: DialError): void
}

export interface Dial {
  /** Gives up: nothing is called any more, the socket is closed. Idempotent, harmless after the end. */
  cancel(): void
  /** The same, because its time is over: why there is no answer so far. */
  expire(): DialError
}

/** What parseDatagram found; offsets into the arena's memory. */
export interface DatagramFields {
  family: 4 | 6
  sourceAt: number
  port: number
  payloadAt: number
  payloadBytes: number
}

export interface AssociationListener {
  /** Datagrams may be sent; the association is the listener's to close. Not before associate() has returned. */
  onAssociated(association: Association): void
  /** It could not be made, or it ended. The association is closed already. */
  onAssociationFailed(error: DialError): void
  /** Datagrams have come: receive until there are none. */
  onDatagrams(): void
}

/** An association that is being made; not to be used after onAssociated. */
export interface Associating {
  /** Gives up. Idempotent; nothing is called afterwards. */
  close(): void
  /** The same, because the time to make it is over: why it does not stand yet. */
  expire(): DialError
}

/**
 * A way for the datagrams of one client endpoint: a relay and its socket, or a stream that carries them. It sends and
 * receives itself, since a stream has frames; the tables are those of io/addon.ts, in the arena's memory.
 */
export interface Association {
  /** Bytes of the largest datagram that can be sent, header included. */
  readonly maxBytes: number
  /**
   * Writes the header for a destination (4 or 16 bytes at `addressAt`) and a payload of `payloadBytes` at `at`; its length, 0
   * when the upstream carries no such payload. At most 22 bytes, towards a name 262.
   */
  writeHeader(at: number, addressAt: number, family: number, port: number, payloadBytes: number): number
  /**
   * As sendDatagrams of `Io`, each message with its header: how many were taken, or the negative errno of the first. It ends
   * nothing: of an end the listener is told later. The tables may lie in the first 64 bytes of the scratch.
   */
  send(messages: number, iovecs: number, count: number): number
  /**
   * As recvDatagrams of `Io`. Fewer rows than `count`: there is no more, or another onDatagrams follows. It may find the end of
   * the association: the listener is told during this call.
   */
  receive(slots: number, count: number, slotBytes: number, found: number): number
  /**
   * Looks at a datagram that was received; false when it is malformed or must be dropped (a fragment, a source that is a name).
   * Towards a name a source may be one: then there is no address.
   */
  parseDatagram(at: number, length: number, out: DatagramFields): boolean
  /** Leaves no port behind. Idempotent; nothing is called afterwards. */
  close(): void
}

/** Exactly one of the two is called, once, not before probe() has returned; none after cancel(). */
export interface ProbeListener {
  /** The upstream answers. */
  onProbed(): void
  onFailed(error: DialError): void
}

export interface Probing {
  /** Nothing is called any more. Idempotent. */
  cancel(): void
}

export interface Dialer {
  /**
   * @param destination a name is looked up by the upstream
   * @param client for whom: an upstream may be shown it
   */
  connect(destination: Destination, client: IpEndpoint, listener: DialListener): Dial
  /**
   * @param name all its datagrams go to this name, which the upstream looks up, whatever address writeHeader is given: the port
   *   is that of each
   */
  associate(client: IpEndpoint, listener: AssociationListener, name?: string): Associating
  /** Whether the upstream answers, without a destination. Not there: it can be told by dials alone. */
  probe?(listener: ProbeListener): Probing
  /** It, or what it is reached through, is shown a user for each client: that one is refused says nothing of others. */
  readonly hasUserPerClient?: boolean
  /** The destination is the upstream itself, or the client a socket of ours: a route leads the gateway's own traffic into the tun. */
  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean
  counters(): Record<string, number>
  close(): void
}

/** The memory that a dialer may use: handshakes are read and written in `scratch`, nothing of it outlives a call. */
export interface Arena {
  readonly bytes: Uint8Array
  /** The same memory as u32. */
  readonly words: Uint32Array
  /** Byte offset, 16-byte aligned. */
  readonly scratch: number
  readonly scratchBytes: number
}
