/** CPU and memory of a process and all its descendants, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of the times in /proc/PID/stat: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100

interface Stat {
  readonly parent: number
  readonly ticks: number
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
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
  return { parent: Number(fields[1]), ticks }
}

function processTree(root: number): Map<number, Stat> {
  const all = new Map<number, Stat>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    const stat = Number.isInteger(pid) ? readStat(pid) : undefined
    if (stat !== undefined) all.set(pid, stat)
  }
  const belongs = (pid: number): boolean => {
    for (let at = pid; at > 1; at = all.get(at)?.parent ?? 0) if (at === root) return true
    return false
  }
  return new Map([...all].filter(([pid]) => belongs(pid)))
}

/** Seconds of CPU, user and system, used so far by the process, its threads and its descendants. */
export function cpuSeconds(root: number): number {
  let ticks = 0
  for (const stat of processTree(root).values()) ticks += stat.ticks
  return ticks / TICKS_PER_SECOND
}

/** Resident memory in KiB of the process and its descendants. */
export function residentKib(root: number): number {
  let kib = 0
  for (const pid of processTree(root).keys()) {
    try {
      kib += Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {}
  }
  return kib
}
