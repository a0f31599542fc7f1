/** dnsperf, which asks as fast as it is answered. */
import type { Namespace } from './namespaces.ts'
import { makeFolder } from './servers/folder.ts'

export interface DnsLoad {
  /** Where it runs, and the server that it asks over UDP. */
  readonly place: Namespace
  readonly server: string
  /** `NAME TYPE`, asked one after the other, again and again. */
  readonly questions: readonly string[]
  readonly seconds: number
  /** Sockets that ask. */
  readonly clients: number
  /** Questions without an answer yet, of all clients. */
  readonly outstanding: number
}

export interface DnsResult {
  readonly sent: number
  readonly lost: number
  readonly perSecond: number
  /** Answers by their code, `NOERROR`. */
  readonly codes: Readonly<Record<string, number>>
  readonly text: string
}

export async function runDnsperf(load: DnsLoad): Promise<DnsResult> {
  const { place, server, questions, seconds, clients, outstanding } = load
  const folder = await makeFolder('dnsperf')
  const file = await folder.write('questions', `${questions.join('\n')}\n`)
  const size = ['-l', String(seconds), '-c', String(clients), '-q', String(outstanding), '-b', '1024']
  const timeoutMs = (seconds + 20) * 1000
  const text = await place.mustRun('dnsperf', ['-s', server, '-d', file, ...size], { timeoutMs }).finally(folder.remove)
  const figure = (name: string) => {
    const found = new RegExp(`${name}:\\s+([\\d.]+)`).exec(text)
    if (found === null) throw new Error(`dnsperf tells no ${name}: ${text}`)
    return Number(found[1])
  }
  const codes: Record<string, number> = {}
  for (const [, code, count] of (/Response codes:(.*)/.exec(text)?.[1] ?? '').matchAll(/([A-Z]+) (\d+)/g))
    codes[code!] = Number(count)
  return {
    sent: figure('Queries sent'),
    lost: figure('Queries lost'),
    perSecond: figure('Queries per second'),
    codes,
    text,
  }
}
