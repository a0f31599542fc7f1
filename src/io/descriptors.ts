/** How many descriptors a process may have (RLIMIT_NOFILE), and how many of them are for sockets to the proxy. */
import { readdirSync, readFileSync } from 'node:fs'

/** Left free for the status socket, look-ups of names, files that are read late: so that a full gateway can still be asked why. */
const RESERVE = 16
/** Of a thread itself: its event loop, its poller. */
const OF_A_THREAD = 8
/** Whatever the limit: with fewer nothing works. */
const LEAST = 4

/** Sockets of each of `workers` planes at most, counted when nothing but the device is open. Infinity where there is no proc(5). */
export function socketsPerPlane(workers: number): number {
  try {
    const limit = /^Max open files +(\d+) /m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    if (limit === undefined) return Number.POSITIVE_INFINITY
    const threads = workers > 1 ? workers * OF_A_THREAD : 1
    const left = Number(limit) - readdirSync('/proc/self/fd').length - threads - RESERVE
    return Math.max(LEAST, Math.floor(left / workers))
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
