/** TCP payload that passes a point of the network: bytes, what comes twice, and how long it waits for its acknowledgement. */

/** Of TCP payload, one way. */
export interface WayCounters {
  packets: number
  bytes: number
  lostPackets: number
  lostBytes: number
  /** Beyond the first copy of each byte, as the sender sent them. */
  resentBytes: number
  corrupted: number
  /** The longest that an acknowledgement of the other side let this side's data wait, from its arrival on. */
  ackDelayMs: number
}

interface Stream {
  first: number
  last: number
  bytes: number
}

/** Counts the payload of each TCP flow: what goes beyond its range of sequences was sent more than once. */
export class PayloadMeter {
  readonly counters: WayCounters = {
    packets: 0,
    bytes: 0,
    lostPackets: 0,
    lostBytes: 0,
    resentBytes: 0,
    corrupted: 0,
    ackDelayMs: 0,
  }
  /** Data that has arrived at `at` and is not acknowledged. */
  #owed: { readonly ports: number; readonly end: number; readonly at: number } | undefined
  readonly #streams = new Map<number, Stream>()

  /** A packet of the other way: it may acknowledge. */
  acknowledge(bytes: Uint8Array, at: number, now: number): void {
    if (this.#owed === undefined) return
    const isV6 = bytes[at]! >> 4 === 6
    if (bytes[at + (isV6 ? 6 : 9)] !== 6) return
    const view = new DataView(bytes.buffer, bytes.byteOffset + at + (isV6 ? 40 : (bytes[at]! & 15) * 4))
    const ports = ((view.getUint16(2) << 16) | view.getUint16(0)) >>> 0
    if (ports !== this.#owed.ports || ((view.getUint32(8) - this.#owed.end) | 0) < 0) return
    this.counters.ackDelayMs = Math.max(this.counters.ackDelayMs, now - this.#owed.at)
    this.#owed = undefined
  }

  /** The packet's payload bytes. It arrives at `due`. */
  count(bytes: Uint8Array, at: number, length: number, due: number): number {
    const isV6 = bytes[at]! >> 4 === 6
    const header = isV6 ? 40 : (bytes[at]! & 15) * 4
    if (bytes[at + (isV6 ? 6 : 9)] !== 6) return 0
    const tcp = at + header
    const payload = length - header - (bytes[tcp + 12]! >> 4) * 4
    if (payload <= 0) return 0
    const view = new DataView(bytes.buffer, bytes.byteOffset + tcp)
    const ports = view.getUint32(0)
    const sequence = view.getUint32(4)
    const stream = this.#streams.get(ports) ?? { first: sequence, last: sequence, bytes: 0 }
    this.#streams.set(ports, stream)
    if (((sequence + payload - stream.last) | 0) > 0) stream.last = (sequence + payload) >>> 0
    if (((sequence - stream.first) | 0) < 0) stream.first = sequence
    stream.bytes += payload
    this.#owed ??= { ports, end: (sequence + payload) >>> 0, at: due }
    this.counters.packets++
    this.counters.bytes += payload
    return payload
  }

  finish(): WayCounters {
    this.counters.resentBytes = 0
    for (const { first, last, bytes } of this.#streams.values()) {
      this.counters.resentBytes += bytes - ((last - first) >>> 0)
    }
    return this.counters
  }
}
