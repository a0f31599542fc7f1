/**
 * What a data plane's time (milliseconds, monotonic: `performance.now()`) leaves out. A process that was stopped, or a machine
 * that did something else for long, has heard of nothing meanwhile: such a leap counts as MAX_LEAP_MS since the last sweep, or the
 * last leap, so that not every time-out is over at its end. Two plain numbers, because the time is asked for with every packet.
 */
import type { GatewayOptions } from '../options.ts'

type TimeLimits = {
  readonly tcp: Pick<GatewayOptions['tcp'], 'connectTimeoutMs' | 'halfCloseTimeoutMs' | 'idleTimeoutMs'>
  readonly udp: Pick<GatewayOptions['udp'], 'idleTimeoutMs'>
}

/** Between two looks at what is over: a quarter of the shortest limit, a second at most. */
export function sweepIntervalMs({ tcp, udp }: TimeLimits): number {
  const shortest = Math.min(tcp.connectTimeoutMs, tcp.halfCloseTimeoutMs, tcp.idleTimeoutMs, udp.idleTimeoutMs)
  return Math.min(1_000, Math.max(20, shortest / 4))
}

/** Twice what lies between two sweeps at most. */
const MAX_LEAP_MS = 2_000

export class Clock {
  /** Milliseconds left out, so far. */
  skipped = 0
  /** A time beyond it is a leap: ask `leapt`. */
  latest: number

  constructor(now: number) {
    this.latest = now + MAX_LEAP_MS
  }

  /** `now` is beyond `latest`: what was too much, to be taken from it. */
  leapt(now: number): number {
    const leap = now - this.latest
    this.skipped += leap
    // the sweep may come many turns later
    this.latest += MAX_LEAP_MS
    return leap
  }

  /** To be called with every sweep. */
  swept(now: number): void {
    this.latest = now + MAX_LEAP_MS
  }
}
