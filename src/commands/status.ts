/** `tungate status`: a running gateway as a table, or as its JSON document. */
import { escapeControls } from '../redact.ts'
import { readStatus, type StatusDocument } from '../status.ts'

const MAX_ROWS = 50
/** Counters that tell how much of a limit is in use; the limit itself is the counter `limit_…`. */
const IN_USE: Readonly<Record<string, string>> = {
  flows: 'flow_slots',
  dials: 'dials_in_flight',
  associations: 'udp_flows',
  descriptors: 'open_descriptors',
  stack_memory_bytes: 'stack_memory_bytes',
}

/** The text to print. Throws GatewayError when no gateway answers. */
export async function status(path: string, json: boolean): Promise<string> {
  const document = await readStatus(path)
  return json ? `${JSON.stringify(document, null, 2)}\n` : statusTable(document)
}

export function statusTable(document: StatusDocument): string {
  const { tun, pid, version, uptimeMs, proxy, counters, flows } = document
  const head = [
    `gateway  ${tun}, pid ${pid}, version ${version}, up ${printAge(uptimeMs)}`,
    `proxy    ${proxy}`,
    `flows    ${flows.length}`,
  ]
  const print = (name: string, value: number) => (/bytes/i.test(name) ? printBytes(value) : String(value))
  const counted = Object.entries(counters)
    .filter(([name]) => !name.startsWith('limit_'))
    .map(([name, value]) => [name, print(name, value)])
  const limits = Object.entries(IN_USE).flatMap(([name, counter]) => {
    const limit = counters[`limit_${name}`]
    if (limit === undefined) return []
    const used = counters[counter] ?? 0
    return [[name, print(name, used), print(name, limit), `${Math.round((100 * used) / limit)} %`]]
  })
  const busiest = [...flows].sort((a, b) => b.bytesUp + b.bytesDown - a.bytesUp - a.bytesDown).slice(0, MAX_ROWS)
  const rows = busiest.map(flow => [
    flow.protocol,
    flow.client,
    flow.destination,
    flow.state,
    printAge(flow.ageMs),
    printBytes(flow.bytesUp),
    printBytes(flow.bytesDown),
  ])
  const parts = [head.join('\n'), columns([['COUNTER', 'VALUE'], ...counted], [1])]
  if (limits.length > 0) parts.splice(1, 0, columns([['LIMIT', 'IN USE', 'OF', ''], ...limits], [1, 2, 3]))
  if (rows.length > 0) {
    parts.push(columns([['PROTO', 'CLIENT', 'DESTINATION', 'STATE', 'AGE', 'UP', 'DOWN'], ...rows], [4, 5, 6]))
  }
  if (flows.length > rows.length) parts.push(`… and ${flows.length - rows.length} more flows (--json has all)`)
  return `${parts.join('\n\n')}\n`
}

/** `999 B`, `1.2 MiB`. */
export function printBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  // 1023.95 would be rounded to 1024.0 of a unit.
  if (unit > 0 && unit < units.length - 1 && value >= 1023.95) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** The two largest of d, h, m, s; `0s` for less than a second. */
export function printAge(ms: number): string {
  let rest = Math.floor(ms / 1000)
  const parts: string[] = []
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) parts.push(`${count}${unit}`)
    else if (parts.length > 0) break
  }
  return parts.length === 0 ? '0s' : parts.slice(0, 2).join(' ')
}

function columns(rows: readonly (readonly string[])[], right: readonly number[]): string {
  const safe = rows.map(row => row.map(escapeControls))
  const widths = safe[0]!.map((_, at) => Math.max(...safe.map(row => row[at]!.length)))
  const line = (row: readonly string[]) =>
    row.map((text, at) => (right.includes(at) ? text.padStart(widths[at]!) : text.padEnd(widths[at]!))).join('  ')
  return safe.map(row => line(row).trimEnd()).join('\n')
}
