/** CPU and memory of a process and all its descendants, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of the times in /proc/PID/stat: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100
const NANOSECONDS_PER_SECOND = 1e9

interface Stat {
  readonly parent: number
  /** Of the process, its threads included, those that have ended too. */
  readonly ownTicks: number
  /** Of its children that have ended. */
  readonly childTicks: number
}

/** proc_pid_stat(5): after the name in brackets come state, ppid, …; utime, stime, cutime, cstime are fields 14 to 17. */
function readStat(pid: number): Stat | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number)
  return { parent: Number(fields[1]), ownTicks: user! + system!, childTicks: childUser! + childSystem! }
}

function processTree(roots: readonly number[]): Map<number, Stat> {
  const all = new Map<number, Stat>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    const stat = Number.isInteger(pid) ? readStat(pid) : undefined
    if (stat !== undefined) all.set(pid, stat)
  }
  const belongs = (pid: number): boolean => {
    for (let at = pid; at > 1; at = all.get(at)?.parent ?? 0) if (roots.includes(at)) return true
    return false
  }
  return new Map([...all].filter(([pid]) => belongs(pid)))
}

/** Seconds that the living threads of a process have run: /proc/PID/task/TID/schedstat, in ns; 0 where the kernel has none. */
function threadSeconds(pid: number): number {
  let nanoseconds = 0
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
  } catch {}
  return nanoseconds / NANOSECONDS_PER_SECOND
}

/**
 * Seconds of CPU, user and system, used so far by the processes, their threads and their descendants. Ticks are too coarse for
 * short runs, and the finer times forget threads that have ended: the greater of both counts.
 */
export function cpuSeconds(...roots: readonly number[]): number {
  let seconds = 0
  for (const [pid, { ownTicks, childTicks }] of processTree(roots))
    seconds += Math.max(ownTicks / TICKS_PER_SECOND, threadSeconds(pid)) + childTicks / TICKS_PER_SECOND
  return seconds
}

/** Resident memory in KiB of the process and its descendants. */
export function residentKib(root: number): number {
  let kib = 0
  for (const pid of processTree([root]).keys()) {
    try {
      kib += Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {}
  }
  return kib
}
