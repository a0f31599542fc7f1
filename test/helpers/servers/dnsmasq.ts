/** dnsmasq: the authority for a few names, and the resolver of a namespace. It knows nobody else to ask. */
import type { Place, RealServer } from '../servers.ts'
import { startProgram } from '../servers.ts'

export interface DnsmasqOptions {
  /** Addresses to listen on, UDP and TCP. Default: 127.0.0.1. */
  readonly hosts?: readonly string[]
  /** Default: 53. */
  readonly port?: number
  /** Addresses of each name, of both families. */
  readonly names: Readonly<Record<string, readonly string[]>>
  /** Further arguments. */
  readonly args?: readonly string[]
}

export function startDnsmasq(place: Place, options: DnsmasqOptions): Promise<RealServer> {
  const { hosts = ['127.0.0.1'], port = 53, names } = options
  const listen = ['--bind-interfaces', ...hosts.map(host => `--listen-address=${host}`), `--port=${port}`]
  const alone = ['--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--pid-file=', '--user=', '--group=']
  const records = Object.entries(names).map(([name, addresses]) => `--host-record=${name},${addresses.join(',')},300`)
  const rest = [...records, '--local=/#/', '--log-facility=-', ...(options.args ?? [])]
  return startProgram(place, port, 'dnsmasq', ['--keep-in-foreground', ...alone, ...listen, ...rest])
}
