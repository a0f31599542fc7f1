/** What other programs of this machine take from the one that is timed, so that a limit need not be so wide that it limits nothing. */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Of proc(5), /proc/stat and /proc/PID/stat. */
const TICK_MS = 10

/**
 * Begins to look at a process. `tell()`: milliseconds for which the thread that had to wait longest was ready to run since then, and
 * had no CPU (schedstat); 0 where the kernel does not tell.
 */
export function watchWaiting(pid: number): { tell(): number } {
  const before = waits(pid)
  return {
    tell: () => Math.max(0, ...[...waits(pid)].map(([thread, ms]) => ms - (before.get(thread) ?? ms))),
  }
}

/** Of each thread since it began. */
function waits(pid: number): Map<string, number> {
  const found = new Map<string, number>()
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`))
      found.set(thread, Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[1]) / 1e6)
  } catch {
    // no such file, or a thread that has ended
  }
  return found
}

/** A clock that stands still in so far as others have the CPUs. `tell()`: milliseconds since then, and those without the others. */
export function startFairClock(): { tell(): { elapsedMs: number; fairMs: number } } {
  const [since, before] = [performance.now(), othersMs()]
  return {
    tell() {
      const elapsedMs = performance.now() - since
      const others = Math.max(0, othersMs() - before) / availableParallelism()
      return { elapsedMs, fairMs: elapsedMs - others }
    },
  }
}

/** CPU time of all CPUs (user, nice, system, stolen), without that of this process and of its children that have ended. */
function othersMs(): number {
  const [user, nice, system, , , , , stolen] = readFileSync('/proc/stat', 'utf8')
    .split('\n')[0]!
    .match(/\d+/g)!
    .map(Number)
  const stat = readFileSync('/proc/self/stat', 'latin1')
  const own = stat
    .slice(stat.lastIndexOf(') ') + 2)
    .split(' ')
    .slice(11, 15)
  return TICK_MS * (user! + nice! + system! + stolen! - own.reduce((all, ticks) => all + Number(ticks), 0))
}
