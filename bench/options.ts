/** The command line of the benchmarks. */
import { parseArgs } from 'node:util'

export interface PeerOption {
  readonly name: string
  readonly mtu: number
  /** Shell-like words with placeholders. */
  readonly command: string
}

export interface BenchOptions {
  readonly rounds: number
  readonly seconds: number
  readonly quick: boolean
  readonly write: boolean
  readonly mtu: number
  readonly idle: number
  readonly crowd: number
  readonly only: readonly string[]
  readonly contenders: readonly string[]
  readonly reference: string
  readonly variants: readonly PeerOption[]
  readonly peers: readonly PeerOption[]
  readonly congestionControls: readonly string[]
  readonly socksServer: string
}

export const USAGE = `usage: node dist/bench/bench.js [options]

  --quick                 one round, short runs, without iperf3, UDP bulk and the crowd of idle connections
  --rounds N              rounds (3; quick: 1)
  --seconds N             length of each run (3; quick: 1)
  --only LIST             measures: upload,download,iperf,connect,http,udp-echo,udp-bulk,idle,crowd
                          (start and memory are always taken)
  --contenders LIST       of bound,tungate,tungate-plain,redsocks and the names given below (all)
  --reference NAME        ratios are also taken to this contender (the first peer)
  --mtu N                 MTU of tungate's tun (1500)
  --variant NAME[@MTU]=FLAGS
                          a further tungate with these flags; repeatable
  --peer NAME[@MTU]=COMMAND
                          another program to compare with; repeatable. In COMMAND {tun} {mtu} {proxyHost} {proxyPort}
                          are filled in, and {template:FILE} becomes the path of a copy of FILE, itself filled in. Also
                          from the environment: BENCH_PEERS, several separated by ';'
  --idle N                connections for the memory of an idle one (1000)
  --crowd N               idle connections beside the short ones (10000)
  --congestion LIST       the first that the kernel allows in a namespace (cubic,reno)
  --socks-server COMMAND  another SOCKS5 server, with {proxyHost} {proxyPort} {template:FILE}
  --write                 put the result into docs/BENCHMARKS.md and docs/benchmarks.json
`

const list = (text: string | undefined): string[] => (text ?? '').split(',').filter(word => word !== '')

function positive(name: string, text: string | undefined, byDefault: number): number {
  if (text === undefined) return byDefault
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text) || Number(text) <= 0) throw new Error(`--${name}: a number above 0 is wanted`)
  return Number(text)
}

function parsePeer(text: string, mtu: number): PeerOption {
  const match = /^([\w.-]+)(?:@(\d+))?=(.*)$/s.exec(text.trim())
  if (match === null) throw new Error(`${text}: NAME=COMMAND or NAME@MTU=COMMAND is wanted`)
  return { name: match[1]!, mtu: match[2] === undefined ? mtu : Number(match[2]), command: match[3]! }
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
      contenders: text,
      reference: text,
      mtu: text,
      idle: text,
      crowd: text,
      congestion: text,
      'socks-server': text,
      variant: texts,
      peer: texts,
    },
  })
  const quick = values.quick === true
  const mtu = positive('mtu', values.mtu, 1500)
  const fromEnvironment = (environment.BENCH_PEERS ?? '').split(';').filter(entry => entry.trim() !== '')
  const peers = [...fromEnvironment, ...(values.peer ?? [])].map(peer => parsePeer(peer, 1500))
  return {
    quick,
    write: values.write === true,
    rounds: positive('rounds', values.rounds, quick ? 1 : 3),
    seconds: positive('seconds', values.seconds, quick ? 1 : 3),
    mtu,
    idle: positive('idle', values.idle, 1000),
    crowd: positive('crowd', values.crowd, 10_000),
    only: list(values.only),
    contenders: list(values.contenders),
    reference: values.reference ?? peers[0]?.name ?? '',
    variants: (values.variant ?? []).map(variant => parsePeer(variant, mtu)),
    peers,
    congestionControls: values.congestion === undefined ? ['cubic', 'reno'] : list(values.congestion),
    socksServer: values['socks-server'] ?? '',
  }
}
