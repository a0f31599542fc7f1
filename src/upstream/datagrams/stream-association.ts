/**
 * UDP in TCP (hev-udp-codec.ts): the datagrams of one client endpoint as frames on the connection of a request with
 * command 5. What the socket has no room for is lost, as on a full link; of a frame that it took in part the rest is kept, and
 * leaves before anything else. So is what came of a frame whose end is missing.
 */
import type { IpEndpoint } from '../../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, WRITABLE } from '../../io/addon.ts'
import type { Watcher } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'
import type { Arena, Association, AssociationListener, DatagramFields, DialError } from '../dialer.ts'
import type { Handshake } from '../proxy/handshake.ts'
import { Opening, type OpeningHost } from '../proxy/opening.ts'
import { AddressType, MALFORMED, type ReplyFields } from '../socks5/socks5-codec.ts'
import {
  encodeHevHeader,
  encodeHevNameHeader,
  FORWARD_UDP,
  HEV_CUT_PAYLOAD_BYTES,
  HEV_HEADER_BYTES_IPV4,
  HEV_MAX_NAME_BYTES,
  HEV_SERVER_PAYLOAD_IPV4,
  hevFields,
  parseHevDatagram,
  parseHevHeader,
} from './hev-udp-codec.ts'
import type { OneWay } from './udp-climb.ts'

/** The same for IPv6: its header is as much longer as the payload must be shorter. */
const MAX_FRAME_BYTES = HEV_HEADER_BYTES_IPV4 + HEV_SERVER_PAYLOAD_IPV4
const ANY_IPV4: IpEndpoint = { address: new Uint8Array(4), port: 0 }

const EAGAIN = -11
const GONE = READ_HANGUP | HANGUP | ERROR
/** In the scratch, behind the tables of a caller; the row of a single iovec is at its end. */
const ROWS_AT = 64
const ROW_BYTES = 8
/** Rows that there is room for in the table of found datagrams, for each slot. */
const ROWS_A_SLOT = 64
/**
 * A server that could not send one datagram reads no more of that connection, without a word. So many of ours without anything from
 * it, over so long, and a new connection is worth a try.
 */
const DEAF_DATAGRAMS = 3
const DEAF_MS = 10_000
/** The length of a row whose datagram is larger than its slot. */
const TRUNCATED = 0xffff_ffff

const fields = hevFields()

/** What a stream association needs of the dialer around it. */
export interface StreamHost extends OpeningHost {
  readonly arena: Arena
}

export class StreamAssociation extends Opening implements OneWay, Association, Watcher {
  listener: AssociationListener
  readonly maxBytes = MAX_FRAME_BYTES
  readonly #dialer: StreamHost
  readonly #name: Uint8Array | undefined
  #socket: Socket | undefined
  #closed = false
  /** The rest of a frame whose beginning has left. */
  #unsent: Uint8Array | undefined
  /** What came and was not told yet: the beginning of a frame, or more frames than there was room for. */
  #came: Uint8Array | undefined
  /** Bytes to come of a frame that no slot can hold. */
  #skip = 0
  #hungUp = false
  /** Datagrams that were sent since something came, and when the first of them was. */
  #unanswered = 0
  #askedAt = 0

  /** @param name 1 to 248 bytes: of one that cannot be looked up the server reads no more, of this association */
  constructor(dialer: StreamHost, client: IpEndpoint, listener: AssociationListener, name?: string) {
    super(dialer, FORWARD_UDP, ANY_IPV4, client)
    this.#dialer = dialer
    this.listener = listener
    if (name !== undefined) this.#name = new TextEncoder().encode(name)
  }

  protected override onOpened(
    { socket }: Handshake,
    _: ReplyFields,
    early: Uint8Array | undefined,
    readable: boolean,
  ): void {
    this.#socket = socket
    this.#came = early
    socket.handOver(this)
    this.listener.onAssociated(this)
    if (readable || early !== undefined) this.#comeAgain()
  }

  protected override onNotOpened(error: DialError): void {
    this.#end(error)
  }

  onReady(events: number): void {
    if (this.#closed) return
    if ((events & GONE) !== 0) this.#hungUp = true
    if (this.#unsent !== undefined) this.#sendRest()
    if (events !== WRITABLE) this.listener.onDatagrams()
  }

  /** What is there to be read has no event of its own any more. */
  #comeAgain(): void {
    this.#dialer.poller.later(() => {
      if (!this.#closed) this.listener.onDatagrams()
    })
  }

  // ---- to the proxy ----

  writeHeader(at: number, addressAt: number, family: number, port: number, payloadBytes: number): number {
    if (payloadBytes === 0) return 0
    const { bytes } = this.#dialer.arena
    const name = this.#name
    if (name !== undefined)
      return name.length > HEV_MAX_NAME_BYTES ? 0 : encodeHevNameHeader(bytes, at, payloadBytes, name, port)
    return encodeHevHeader(bytes, at, payloadBytes, bytes, port, addressAt, family === 4 ? 4 : 16)
  }

  send(messages: number, iovecs: number, count: number): number {
    if (this.#unsent !== undefined && !this.#sendRest()) return EAGAIN
    const { words, scratch, scratchBytes } = this.#dialer.arena
    const table = (scratch + ROWS_AT) / 4
    const room = Math.floor((scratchBytes - ROWS_AT) / ROW_BYTES)
    let rows = 0
    let taken = 0
    for (let message = messages / 4; taken < count; taken++, message += 3) {
      const first = iovecs / 4 + 2 * words[message]!
      const more = words[message + 1]!
      if (rows + more > room) break
      words.copyWithin(table + 2 * rows, first, first + 2 * more)
      rows += more
    }
    if (this.#isDeaf(taken)) this.#giveUp()
    const { poller, fd } = this.#socket!
    const sent = poller.io.writev(fd, 4 * table, rows)
    return sent < 0 ? sent : this.#messagesIn(sent, messages, taken)
  }

  #isDeaf(more: number): boolean {
    if (this.#unanswered === 0) this.#askedAt = performance.now()
    this.#unanswered += more
    return this.#unanswered > DEAF_DATAGRAMS && performance.now() - this.#askedAt > DEAF_MS
  }

  #giveUp(): void {
    this.#unanswered = 0
    this.#dialer.poller.later(() => this.#end(DEAF))
  }

  /** How many of the messages whose iovecs lie gathered are in `sent` bytes; the rest of one that is there in part is kept. */
  #messagesIn(sent: number, messages: number, count: number): number {
    const { words, scratch } = this.#dialer.arena
    let row = (scratch + ROWS_AT) / 4
    let left = sent
    for (let taken = 0; taken < count; taken++) {
      if (left === 0) return taken
      const end = row + 2 * words[messages / 4 + 3 * taken + 1]!
      for (; row < end; row += 2) {
        if (left < words[row + 1]!) {
          this.#unsent = this.#restOf(row, end, left)
          return taken + 1
        }
        left -= words[row + 1]!
      }
    }
    return count
  }

  /** The bytes of the iovecs `row` … `end`, without the first `skip` of them. */
  #restOf(row: number, end: number, skip: number): Uint8Array | undefined {
    const { bytes, words } = this.#dialer.arena
    const parts: Uint8Array[] = []
    for (let from = skip; row < end; row += 2, from = 0)
      parts.push(bytes.subarray(words[row]! + from, words[row]! + words[row + 1]!))
    return Buffer.concat(parts)
  }

  /** True: nothing is left of it. */
  #sendRest(): boolean {
    const rest = this.#unsent!
    const { bytes, scratch } = this.#dialer.arena
    bytes.set(rest, scratch + ROWS_AT)
    const sent = this.#transfer('writev', scratch + ROWS_AT, rest.length)
    if (sent > 0) this.#unsent = sent < rest.length ? rest.subarray(sent) : undefined
    return this.#unsent === undefined
  }

  #transfer(call: 'readv' | 'writev', at: number, length: number): number {
    const { words, scratch, scratchBytes } = this.#dialer.arena
    const row = (scratch + scratchBytes - 16) / 4
    words[row] = at
    words[row + 1] = length
    const { poller, fd } = this.#socket!
    return poller.io[call](fd, 4 * row, 1)
  }

  // ---- from the proxy ----

  receive(slots: number, count: number, slotBytes: number, found: number): number {
    const { bytes, words } = this.#dialer.arena
    const at = words[slots / 4]!
    const had = this.#came?.length ?? 0
    if (this.#came !== undefined) bytes.set(this.#came, at)
    this.#came = undefined
    const room = slotBytes - had
    const got = room > 0 ? this.#transfer('readv', at + had, room) : EAGAIN
    if (got > 0) this.#unanswered = 0
    const rows = this.#frames(at, had + Math.max(got, 0), slotBytes, found, ROWS_A_SLOT * count)
    const isOver = room > 0 && (got === 0 || (got < 0 && got !== EAGAIN))
    if (rows < 0 || (isOver && rows === 0)) {
      this.#end({ failure: 'upstream-down', message: rows < 0 ? MALFORMED_FRAME : endOf(got) })
      return 0
    }
    const isDrained = !isOver && room > 0 && got < room && !(this.#hungUp && got > 0)
    if (!isDrained && rows < count) this.#comeAgain()
    return rows
  }

  /** Rows for the whole frames in `length` bytes, `most` of them; what is behind them is kept. MALFORMED: they are none. */
  #frames(at: number, length: number, slotBytes: number, found: number, most: number): number {
    const { bytes, words } = this.#dialer.arena
    const end = at + length
    const skipped = Math.min(this.#skip, length)
    this.#skip -= skipped
    let rows = 0
    let from = at + skipped
    for (let row = found / 4; rows < most && from < end; rows++, row += 2) {
      const used = parseHevDatagram(bytes, from, end - from, fields)
      if (used === MALFORMED) return MALFORMED
      if (used <= 0 && fields.totalLength <= slotBytes) break
      words[row] = from
      words[row + 1] = used > 0 ? used : TRUNCATED
      if (used <= 0) this.#skip = fields.totalLength - (end - from)
      from = used > 0 ? from + used : end
    }
    if (from < end) this.#came = bytes.slice(from, end)
    return rows
  }

  parseDatagram(at: number, length: number, out: DatagramFields): boolean {
    const header = parseHevHeader(this.#dialer.arena.bytes, at, length, fields)
    if (header <= 0 || (fields.addressType === AddressType.name && this.#name === undefined)) return false
    if (fields.payloadLength === HEV_CUT_PAYLOAD_BYTES) return false
    out.family = fields.addressType === AddressType.ipv4 ? 4 : 6
    out.sourceAt = fields.addressAt
    out.port = fields.port
    out.payloadAt = fields.payloadAt
    out.payloadBytes = fields.payloadLength
    return true
  }

  // ---- the end ----

  #end(error: DialError): void {
    if (this.#closed) return
    this.close()
    this.listener.onAssociationFailed(error)
  }

  override expire(): DialError {
    const error = super.expire()
    this.close()
    return error
  }

  /** The connection is reset: in order, its port would be kept in TIME_WAIT. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.cancel()
    this.#socket?.close(true)
  }
}

const DEAF: DialError = {
  failure: 'upstream-down',
  message: 'nothing came any more of UDP in TCP: another connection may do',
}
const MALFORMED_FRAME = 'what the proxy sends as UDP in TCP has no frames'

function endOf(errno: number): string {
  const how = errno === 0 ? 'closed' : `broke off (${addon.errnoName(errno)})`
  return `the proxy ${how} the connection with UDP in TCP`
}
