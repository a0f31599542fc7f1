/** `tungate help [COMMAND]`, `--help`, `--version`. */
import { readFileSync } from 'node:fs'
import { flagOf, KEYS, type Key, variableOf } from '../config/keys.ts'

export const COMMANDS = ['run', 'status', 'explain', 'demo', 'config', 'help'] as const
export type Command = (typeof COMMANDS)[number]

export function version(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** The text for a command, or the general one. */
export function help(command?: Command): string {
  if (command === 'run') return runHelp()
  if (command === 'status') return STATUS
  if (command === 'explain') return EXPLAIN
  if (command === 'demo') return DEMO
  if (command === 'config') return configHelp()
  return GENERAL
}

const GENERAL = `tungate: packets routed into a tun device leave through a SOCKS or HTTP proxy

Usage: tungate COMMAND [FLAGS]

  run             run the gateway in the foreground
  status          counters and live flows of a running gateway
  explain         which rule and upstream a flow would take, and why
  demo            show it all on this machine; needs no proxy and no configuration
  config check    check the configuration and set nothing up
  config show     print it, and where each value comes from
  help COMMAND    the flags of a command

  --help, -h      this text          --version       the version

Examples:
  sudo tungate run --tun tungate0 --proxy socks5://127.0.0.1:1080
  sudo tungate run --proxy 'https://user@proxy.example?passwordFile=/etc/pw'
  sudo tungate run --config /etc/tungate/gateway.yaml --log-level debug
  TUNGATE_PROXY=socks5://[2001:db8::1]:1080 tungate config check

Values come from defaults, a file, TUNGATE_… variables and flags; the later wins.
Exit codes: 0 done, 1 failure while running, 2 wrong usage or configuration,
3 the demo lacks packages.
`

const STATUS = `Usage: tungate status [--json] [--tun NAME] [--status-socket PATH] [--config FILE]

Prints the counters and live flows of a running gateway of this user, as a table
or as one JSON document. Exit code 1 when none is running.

Examples:
  sudo tungate status
  sudo tungate status --tun tun7 --json
`

const EXPLAIN = `Usage: tungate explain tcp|udp HOST:PORT [--source ADDRESS] [--domain NAME] [--json]
                       [--config FILE] [FLAGS of run]

Says which rule of the configuration a flow to HOST:PORT would meet, which upstream it
would take, and why; nothing is opened. HOST is an address (IPv6 in brackets) or a
name. --source is the client, by default the device's own address; --domain the name
that a client of an address says in its first bytes (TLS, HTTP).

Examples:
  tungate explain tcp example.org:443 --source 10.0.0.2 --config gateway.yaml
  tungate explain tcp 192.0.2.1:443 --domain ads.example.org --json
  tungate explain udp '[2001:db8::1]:443' --rules-file rules.yaml
`

const DEMO = `Usage: tungate demo

Makes a network namespace with a tun as its default route, an own SOCKS5 server and
HTTP, DNS and UDP echo servers behind it, moves data both ways and tells what was
proven. Leaves nothing behind. Exit code 3 when packages are missing.
`

function runHelp(): string {
  return `Usage: tungate run --proxy URL [FLAGS]

Attaches to the tun device, or makes it, and dials each flow through the proxy until
SIGTERM or Ctrl-C. Routes into the device are yours to set.

URL: socks5, socks4, socks4a, http, https, socks5+tls, socks5+unix, direct or reject,
then ://[user:password@]host[:port]. Several with spaces between are a chain. Further
upstreams and rules stand better in a file: see config/routing.yaml.

  ${pad('--config FILE')}YAML or JSON file (default: none)
${KEYS.map(flagLine).join('\n')}

Examples:
  sudo tungate run --tun tun7 --proxy socks5://user@proxy.lan --proxy-password-file pw
  sudo tungate run --proxy 'socks5://192.0.2.1 http://10.0.0.7:3128' --udp-quic reject
`
}

function flagLine(key: Key): string {
  const flag = key.short ?? flagOf(key)
  const initial = key.format.print(key.default)
  const text = /^([{[][}\]])?$/.test(initial) ? '' : ` [${initial}]`
  return `  ${pad(`${flag} ${key.value}`)}${key.meaning}${text}`
}

function configHelp(): string {
  const width = Math.max(...KEYS.map(key => key.path.length)) + 2
  const rows = KEYS.map(key => `  ${key.path.padEnd(width)}${variableOf(key).padEnd(32)}${flagOf(key)}`)
  return `Usage: tungate config check|show [--config FILE] [FLAGS of run]

check tells the first mistake (exit code 2), show prints all values and their
origins, without the password. The file may be named by TUNGATE_CONFIG too.

${rows.join('\n')}
`
}

function pad(flag: string): string {
  return flag.length < 29 ? flag.padEnd(30) : `${flag} `
}
