/** `tungate demo`: all of it on this machine, without proxy, configuration or root. */
import { usageError } from '../config/flags.ts'
import { type Config, gatewayOptions, loadConfig } from '../config.ts'
import { type DemoNetwork, openNetwork } from '../demo/network.ts'
import { missingPrograms } from '../demo/programs.ts'
import { formatBytes, formatRate, formatTable, Screen } from '../demo/screen.ts'
import { listSteps, type Proof, type Step } from '../demo/steps.ts'
import type { Gateway } from '../gateway.ts'
import { quote } from '../redact.ts'

/** Of each download and each upload: with two address families over 1 GB each way. */
const TRANSFER_BYTES = 512 << 20
const ALL = { IPv4: '0.0.0.0/0', IPv6: '::/0' } as const
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/** What a step moved, and how long it took. */
interface Row {
  readonly step: Step
  readonly proof: Proof
  readonly seconds: number
  readonly moved: Figures
}

interface Figures {
  readonly tcp: number
  readonly udp: number
  readonly up: number
  readonly down: number
  readonly packets: number
}

/**
 * Exit code: 0 when all was proven, 1 when not, 3 when programs are missing, 128 + number after a signal. Throws
 * ConfigError, and SystemError when the machine refuses a namespace or the device.
 */
export async function demo(args: readonly string[]): Promise<number> {
  if (args.length > 0) throw usageError(`${quote(args[0]!)}: demo takes nothing but --help`)
  const missing = missingPrograms()
  if (missing) {
    const line = `apt-get install --no-install-recommends ${missing.packages.join(' ')}`
    process.stderr.write(`tungate: not installed: ${missing.programs.join(', ')}. As root:\n  ${line}\n`)
    return 3
  }
  const screen = new Screen(process.stdout)
  const ends = watchEnds()
  const opened: { close(): Promise<void> }[] = []
  try {
    return await show(screen, ends, opened)
  } catch (error) {
    if (ends.code === undefined) throw error
    return ends.code
  } finally {
    screen.stop()
    await Promise.all(opened.map(one => one.close()))
    ends.forget()
  }
}

/** Whatever was opened is in `opened`, also when it throws. */
async function show(screen: Screen, ends: Ends, opened: { close(): Promise<void> }[]): Promise<number> {
  screen.begin('setting up', () => '')
  // Not given up half-way: what it opens must be known here to be closed.
  const network = await openNetwork(TRANSFER_BYTES)
  opened.push(network)
  const { createGateway } = await import('../gateway.ts')
  const gateway = createGateway(optionsFor(network))
  opened.push(gateway)
  gateway.on('error', ends.fail)
  await Promise.race([gateway.start(), ends.first])
  await network.namespace.ip(network.families.map(family => `route add ${ALL[family]} dev ${gateway.tunName}`))
  screen.stop()
  screen.line(introduction(network, gateway))
  const rows: Row[] = []
  let failures = 0
  for (const step of listSteps(network, TRANSFER_BYTES)) {
    const row = await Promise.race([take(step, screen, network, gateway, ends), ends.first])
    if (row === undefined) failures++
    else rows.push(row)
  }
  screen.line(`\n${tableOf(rows)}\n\n${conclusion(gateway, failures)}`)
  return failures === 0 ? 0 : 1
}

/** The defaults, and a device in the client's namespace. */
function optionsFor({ namespace, socks, families }: DemoNetwork) {
  const proxy = { flag: 'demo', path: 'proxy', raw: `socks5://${socks.host}:${socks.port}` }
  const { config }: { config: Config } = loadConfig({ environment: {}, flags: [proxy], uid: 0, requireProxy: true })
  const options = gatewayOptions(config)
  const address6 = families.includes('IPv6') ? options.tun.address6 : ''
  return { ...options, tun: { ...options.tun, address6, pid: namespace.pid } }
}

function introduction({ namespace, socks, families }: DemoNetwork, gateway: Gateway): string {
  const rights = namespace.rootless ? 'rootless' : 'made by root'
  return `client (a network namespace, ${rights}, ${families.join(' and ')}) → ${gateway.tunName} → lwIP → SOCKS5 on ${socks.host}:${socks.port} → origin\n`
}

/** undefined when it could not be proven; why is on the screen. */
async function take(
  step: Step,
  screen: Screen,
  network: DemoNetwork,
  gateway: Gateway,
  ends: Ends,
): Promise<Row | undefined> {
  const before = figures(network, gateway)
  const startedAt = performance.now()
  const seconds = () => (performance.now() - startedAt) / 1000
  const progress = () => {
    const { up, down } = difference(figures(network, gateway), before)
    return step.isTransfer ? `${formatBytes(up + down)}, ${formatRate(up + down, seconds())}` : ''
  }
  screen.begin(step.title, progress)
  try {
    const proof = await step.run()
    const row = { step, proof, seconds: seconds(), moved: difference(figures(network, gateway), before) }
    screen.end(
      '✓',
      step.title,
      [step.isTransfer ? progress() : '', proof.proven, proof.detail ?? ''].filter(Boolean).join(', '),
    )
    return row
  } catch (error) {
    // What fails while everything is being closed proves nothing.
    if (!ends.over) screen.end('✗', step.title, error instanceof Error ? error.message : String(error))
    return undefined
  }
}

function figures({ socks }: DemoNetwork, gateway: Gateway): Figures {
  const { connections, associates, bytesUp, bytesDown } = socks.counters
  const { packets_in = 0, packets_out = 0 } = gateway.counters()
  return {
    tcp: connections - associates,
    udp: associates,
    up: bytesUp,
    down: bytesDown,
    packets: packets_in + packets_out,
  }
}

function difference(now: Figures, before: Figures): Figures {
  return {
    tcp: now.tcp - before.tcp,
    udp: now.udp - before.udp,
    up: now.up - before.up,
    down: now.down - before.down,
    packets: now.packets - before.packets,
  }
}

function tableOf(rows: readonly Row[]): string {
  const count = (value: number) => value.toLocaleString('en')
  const cells = (title: string, { tcp, udp, up, down, packets }: Figures, rate: string, proven: string) => [
    title,
    count(tcp),
    count(udp),
    formatBytes(up),
    formatBytes(down),
    count(packets),
    rate,
    proven,
  ]
  const zero: Figures = { tcp: 0, udp: 0, up: 0, down: 0, packets: 0 }
  const all = rows.reduce((sum, { moved }) => difference(sum, difference(zero, moved)), zero)
  return formatTable([
    ['', 'TCP', 'UDP', 'up', 'down', 'packets', 'rate', 'proven'],
    ...rows.map(({ step, moved, seconds, proof }) =>
      cells(step.title, moved, step.isTransfer ? formatRate(moved.up + moved.down, seconds) : '', proof.proven),
    ),
    cells('all', all, '', ''),
  ])
}

function conclusion(gateway: Gateway, failures: number): string {
  const { packets_lost = 0, stack_restarts = 0 } = gateway.counters()
  const seconds = performance.now() / 1000
  const verdict = failures === 0 ? 'All proven' : `${failures} not proven`
  return `${verdict} in ${seconds.toFixed(1)} s; ${packets_lost} packets lost by the device, ${stack_restarts} restarts of the stack.`
}

interface Ends {
  /** Rejects at the first signal and when the gateway fails. */
  readonly first: Promise<never>
  readonly over: boolean
  /** The exit code of a signal that came. */
  readonly code: number | undefined
  fail(error: unknown): void
  forget(): void
}

/** A second signal ends the process at once: the kernel and the namespace's holder then clean up. */
function watchEnds(): Ends {
  let code: number | undefined
  let over = false
  let reject: (error: unknown) => void = () => undefined
  const first = new Promise<never>((_, fail) => {
    reject = error => {
      over = true
      fail(error)
    }
  })
  // Before the first step nobody listens to it.
  first.catch(() => undefined)
  const onSignal = (signal: NodeJS.Signals) => {
    if (code !== undefined) process.exit(code)
    code = 128 + SIGNALS[signal as keyof typeof SIGNALS]
    reject(new Error(signal))
  }
  for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal)
  return {
    first,
    get over() {
      return over
    },
    get code() {
      return code
    },
    fail: error => reject(error),
    forget() {
      for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal)
    },
  }
}
