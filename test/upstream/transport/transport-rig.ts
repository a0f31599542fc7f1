/** Transports on a poller of their own, and a user that keeps what it is told. */
import type { ExecutionContext } from 'ava'
import { type IpEndpoint, parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import { Poller } from '../../../src/io/poller.ts'
import { Socket } from '../../../src/io/socket.ts'
import type { DialError } from '../../../src/upstream/dialer.ts'
import type { Transport, TransportUser } from '../../../src/upstream/transport/transport.ts'
import { until } from '../../helpers/sockets.ts'

export const NOBODY: IpEndpoint = { address: new Uint8Array(4), port: 0 }

const LOOPBACK = parseAddress('127.0.0.1')!

export function openPoller(t: ExecutionContext): Poller {
  const failures: unknown[] = []
  const poller = new Poller(new ArrayBuffer(4096), error => failures.push(error))
  t.teardown(() => {
    poller.close()
    if (failures.length > 0) throw failures[0]
  })
  return poller
}

/** TCP to a port of loopback, without what is known of a proxy. */
export class PlainTcp implements Transport {
  readonly peer: IpEndpoint
  readonly #poller: Poller

  constructor(poller: Poller, port: number) {
    this.#poller = poller
    this.peer = { address: LOOPBACK, port }
  }

  connect(user: TransportUser): undefined {
    user.attach(Socket.connectTcp(this.#poller, this.peer, { interface: '', mark: 0 }, user), this.peer, false)
  }

  probe(): undefined {}
  failed(): void {}
  isPeer(endpoint: IpEndpoint): boolean {
    return endpoint.port === this.peer.port
  }
  close(): void {}
}

/** Who has a connection: reads all that comes, when it is let. */
export class User implements TransportUser {
  socket: Socket | undefined
  peer: IpEndpoint | undefined
  error: DialError | undefined
  /** How far the proxy was when there was no connection. */
  end: string | undefined
  calls = 0
  readonly received: Buffer[] = []
  receivedBytes = 0
  /** An end of stream was read, or why not. */
  ended: string | undefined
  isReading = true
  #toSend: Buffer | undefined
  #onSent: (() => void) | undefined

  attach(socket: Socket, peer: IpEndpoint | undefined): void {
    this.calls++
    this.socket = socket
    this.peer = peer
  }

  onUnconnected(error: DialError, end: string): void {
    this.calls++
    this.error = error
    this.end = end
  }

  onReady(): void {
    this.push()
    this.read()
  }

  /** Resolves when all of it was taken. */
  send(bytes: Uint8Array | string): Promise<void> {
    this.#toSend = Buffer.from(bytes)
    return new Promise(resolve => {
      this.#onSent = resolve
      this.push()
    })
  }

  push(): void {
    while (this.#toSend !== undefined && this.#toSend.length > 0 && this.socket!.open) {
      const sent = addon.writeBytes(this.socket!.fd, this.#toSend)
      if (sent < 0) return
      this.#toSend = this.#toSend.subarray(sent)
    }
    this.#toSend = undefined
    this.#onSent?.()
  }

  read(): void {
    const room = Buffer.alloc(65_536)
    while (this.isReading && this.ended === undefined && this.socket?.open) {
      const got = addon.readBytes(this.socket.fd, room)
      if (got > 0) {
        this.received.push(Buffer.from(room.subarray(0, got)))
        this.receivedBytes += got
      } else if (addon.errnoName(got) === 'EAGAIN') return
      else this.ended = got === 0 ? 'FIN' : addon.errnoName(got)
    }
  }

  get unsentBytes(): number {
    return this.#toSend?.length ?? 0
  }

  get text(): string {
    return Buffer.concat(this.received).toString()
  }
}

/** One who is told what became of it. */
export async function connected(t: ExecutionContext, transport: Transport): Promise<User> {
  const user = new User()
  transport.connect(user, NOBODY)
  t.teardown(() => user.socket?.close(true))
  await until(() => user.calls > 0, 'an outcome')
  t.is(user.calls, 1)
  return user
}
