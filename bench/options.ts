/** The command line of the benchmarks. */
import { parseArgs } from 'node:util'

/** A rival, or a further tungate. */
export interface NamedCommand {
  /** As given, with the MTU if that was given: unique. */
  readonly name: string
  readonly label: string
  readonly mtu: number
  /** Shell-like words with placeholders. */
  readonly command: string
}

export interface BenchOptions {
  readonly rounds: number
  readonly seconds: number
  readonly quick: boolean
  readonly write: boolean
  /** A folder for the result of any run; empty for none. */
  readonly out: string
  readonly mtu: number
  readonly idle: number
  readonly crowd: number
  readonly only: readonly string[]
  readonly contenders: readonly string[]
  readonly also: readonly string[]
  readonly variants: readonly NamedCommand[]
  readonly rivals: readonly NamedCommand[]
  readonly congestionControls: readonly string[]
  readonly socksServer: string
}

export const USAGE = `usage: node dist/bench/bench.js [options]

  --quick                 one round, short runs, without UDP bulk and the charts
  --rounds N              rounds (3; quick: 1)
  --seconds N             length of each run (2; quick: 1); a quarter of it for a point of a chart
  --only LIST             measures: upload,download,forwarded,connect,http,udp-echo,udp-cost,udp-bulk,idle,crowd,
                          and for charts beside,streams,payload; iperf is taken only if named here
                          (start and memory are always taken)
  --contenders LIST       who takes part (tungate,bound and all that are named below)
  --also LIST             beside them: tungate-plain (without offload), redsocks
  --mtu N                 MTU of tungate's tun (1500)
  --variant NAME[@MTU]=FLAGS
                          a further tungate with these flags; repeatable
  --rival NAME[@MTU]=COMMAND
                          another program to compare with; repeatable, the same one also with several MTUs (1500). In
                          COMMAND {tun} {mtu} {proxyHost} {proxyPort} are filled in, and {template:FILE} becomes the
                          path of a copy of FILE, itself filled in. Also from the environment: BENCH_RIVAL, several
                          separated by ';'. The goals are compared with the first one
  --idle N                connections for the memory of an idle one (3000)
  --crowd N               idle connections beside the short ones (10000)
  --congestion LIST       the first that the kernel allows in a namespace (cubic,reno)
  --socks-server COMMAND  another SOCKS5 server, with {proxyHost} {proxyPort} {template:FILE}
  --write                 put the result of a whole run into docs/BENCHMARKS.md, docs/benchmarks.json and docs/charts
  --out FOLDER            put the same files of any run into FOLDER
`

const list = (text: string | undefined): string[] => (text ?? '').split(',').filter(word => word !== '')

function positive(name: string, text: string | undefined, byDefault: number): number {
  if (text === undefined) return byDefault
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text) || Number(text) <= 0) throw new Error(`--${name}: a number above 0 is wanted`)
  return Number(text)
}

function parseNamed(text: string, mtu: number): NamedCommand {
  const match = /^([\w.-]+)(?:@(\d+))?=(.*)$/s.exec(text.trim())
  if (match === null) throw new Error(`${text}: NAME=COMMAND or NAME@MTU=COMMAND is wanted`)
  const [, name, ownMtu, command] = match
  const label = `${name}, MTU ${ownMtu ?? mtu}`
  return {
    name: ownMtu === undefined ? name! : `${name}@${ownMtu}`,
    label,
    mtu: Number(ownMtu ?? mtu),
    command: command!,
  }
}

/** @throws Error for anything that is not understood. */
export function parseOptions(argv: readonly string[], environment: NodeJS.ProcessEnv): BenchOptions {
  const text = { type: 'string' } as const
  const texts = { type: 'string', multiple: true } as const
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean' },
      write: { type: 'boolean' },
      rounds: text,
      seconds: text,
      only: text,
      out: text,
      contenders: text,
      also: text,
      mtu: text,
      idle: text,
      crowd: text,
      congestion: text,
      'socks-server': text,
      variant: texts,
      rival: texts,
    },
  })
  const quick = values.quick === true
  const mtu = positive('mtu', values.mtu, 1500)
  const fromEnvironment = (environment.BENCH_RIVAL ?? '').split(';').filter(entry => entry.trim() !== '')
  const rivals = [...fromEnvironment, ...(values.rival ?? [])].map(rival => parseNamed(rival, 1500))
  return {
    quick,
    write: values.write === true,
    out: values.out ?? '',
    rounds: positive('rounds', values.rounds, quick ? 1 : 3),
    seconds: positive('seconds', values.seconds, quick ? 1 : 2),
    mtu,
    idle: positive('idle', values.idle, 3000),
    crowd: positive('crowd', values.crowd, 10_000),
    only: list(values.only),
    contenders: list(values.contenders),
    also: list(values.also),
    variants: (values.variant ?? []).map(variant => parseNamed(variant, mtu)),
    rivals,
    congestionControls: values.congestion === undefined ? ['cubic', 'reno'] : list(values.congestion),
    socksServer: values['socks-server'] ?? '',
  }
}
