/**
 * Network namespaces without names: each is kept by a *holder*, a shell in it that waits for the end of its standard
 * input. The kernel closes that pipe when this process ends, in whatever way; the holder then kills every process that
 * is left in its network namespace and ends, and with the last process the kernel takes back devices, routes and mounts.
 *
 * A namespace is made with the rights of root where there are some, or rootless: inside a user namespace in which the
 * caller is root. Nothing of the machine's own network, mounts or files is touched.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { SystemError } from '../errors.ts'

export interface NamespaceOptions {
  /**
   * `root`: needs CAP_SYS_ADMIN. `rootless`: needs user namespaces. `auto` (default): rootless if that works, else root.
   */
  readonly rights?: 'auto' | 'root' | 'rootless'
  /** Make it inside the user namespace of another, which alone may then connect both by a veth pair. */
  readonly within?: Namespace
}

export interface RunOptions {
  /** Written to standard input, which is then closed. */
  readonly input?: string | Uint8Array
  /** Milliseconds until SIGKILL. Default: 30,000. */
  readonly timeoutMs?: number
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

export interface RunResult {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Output beyond is a mistake of the caller's command, which is ended. */
const MAX_OUTPUT_BYTES = 64 << 20

/**
 * `-ef` compares the namespaces themselves. A scan may come between the fork and the setns of a process that is just
 * being started from outside, so the end is three scans that found nobody, or two seconds.
 */
const HOLDER = `
trap '' HUP INT TERM
ip link set lo up && echo ready || exit 1
while read -r line; do :; done
quiet=0 round=0
while [ $quiet -lt 3 ] && [ $round -lt 100 ]; do
  found=0
  for process in /proc/[0-9]*; do
    if [ "$process/ns/net" -ef /proc/$$/ns/net ] && [ "$process" != /proc/$$ ]; then
      kill -9 "\${process#/proc/}" 2>/dev/null && found=1
    fi
  done
  [ $found = 0 ] && quiet=$((quiet + 1)) || quiet=0
  round=$((round + 1))
  sleep 0.02
done
`

/** A network and mount namespace. Made by `createNamespace`. */
export class Namespace {
  readonly #holder: ChildProcess
  readonly #enter: readonly string[]
  #closing: Promise<void> | undefined
  /** One bind at a time: each needs /tmp for a moment. */
  #bound: Promise<unknown> = Promise.resolve()
  /** What keeps it, in the numbers of the caller: /proc/PID/ns/net is the namespace. */
  readonly pid: number
  readonly rootless: boolean

  constructor(holder: ChildProcess, pid: number, rootless: boolean) {
    this.#holder = holder
    this.pid = pid
    this.rootless = rootless
    const user = rootless ? ['-U', '--preserve-credentials'] : []
    this.#enter = ['-t', String(pid), ...user, '-n', '-m']
  }

  /** argv of a command inside: for callers that start processes by themselves. The process is the command itself. */
  argv(command: string, args: readonly string[] = []): [string, ...string[]] {
    return ['nsenter', ...this.#enter, '--', command, ...args]
  }

  /** Starts a command inside. It ends at the latest with the namespace. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const [file, ...rest] = this.argv(command, args)
    return spawn(file, rest, options)
  }

  /** Runs a command inside to its end, whatever its exit code. Rejects only when it could not be started. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    const [file, ...rest] = this.argv(command, args)
    return runToEnd(file, rest, options)
  }

  /** Runs a command that must succeed; its standard output. Throws SystemError with its standard error. */
  async mustRun(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, args, options)
    if (code === 0) return stdout
    const what = [command, ...args].join(' ')
    throw new SystemError('NAMESPACE_COMMAND', `${what}: exit ${code}: ${stderr.trim() || stdout.trim()}`, command, 0)
  }

  /** One `ip -batch`: all lines or an error that names the first wrong one. */
  async ip(lines: readonly string[]): Promise<void> {
    await this.mustRun('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
  }

  /**
   * Puts a file of this content over an existing one, for the processes of this namespace alone. `mode` is octal text.
   * The file exists in no directory of the machine.
   */
  bindFile(path: string, content: string, mode = '644'): Promise<void> {
    const done = this.#bound.then(() => this.#bind(path, content, mode))
    this.#bound = done.catch(() => undefined)
    return done
  }

  async #bind(path: string, content: string, mode: string): Promise<void> {
    const script = [
      'set -e',
      'mount -t tmpfs -o size=1m tmpfs /tmp',
      'trap "umount -l /tmp" EXIT',
      'cat > /tmp/file',
      'chmod "$2" /tmp/file',
      'mount --bind /tmp/file "$1"',
    ]
    await this.mustRun('sh', ['-c', script.join('\n'), 'sh', path, mode], { input: content })
  }

  /** Makes the processes of this namespace ask these servers for names, and /etc/hosts before, as usual. */
  async useResolver(servers: readonly string[]): Promise<void> {
    await this.bindFile('/etc/resolv.conf', servers.map(server => `nameserver ${server}\n`).join(''))
  }

  /** Default routes of both families into a device; `lo` and the networks of other devices stay as they are. */
  async routeAllInto(device: string): Promise<void> {
    await this.ip([`route replace 0.0.0.0/0 dev ${device}`, `route replace ::/0 dev ${device}`])
  }

  /** Kills what runs inside and waits until the namespace is gone. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= endHolder(this.#holder)
    return this.#closing
  }
}

/** Throws SystemError (`NAMESPACE_DENIED`) when the machine allows none to this user. */
export async function createNamespace(options: NamespaceOptions = {}): Promise<Namespace> {
  const rights = options.rights ?? 'auto'
  const { within } = options
  if (within) return hold(within.argv('unshare', ['-n', '-m', 'sh', '-c', HOLDER]), within.rootless)
  const failures: string[] = []
  const denied = (error: unknown) => failures.push(error instanceof Error ? error.message : String(error))
  if (rights !== 'root') {
    try {
      return await hold(['unshare', '-U', '-r', '-n', '-m', 'sh', '-c', HOLDER], true)
    } catch (error) {
      denied(error)
    }
  }
  if (rights !== 'rootless') {
    try {
      return await hold(['unshare', '-n', '-m', 'sh', '-c', HOLDER], false)
    } catch (error) {
      denied(error)
    }
  }
  const advice =
    'run it as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)'
  throw new SystemError(
    'NAMESPACE_DENIED',
    `cannot make a network namespace (${failures.join('; ')}): ${advice}`,
    'unshare',
    0,
  )
}

async function hold([file, ...args]: [string, ...string[]], rootless: boolean): Promise<Namespace> {
  // Detached: a Ctrl-C at the terminal is for its programs; the holder must outlive them to clean up.
  const holder = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  let said = ''
  let complaint = ''
  holder.stderr?.on('data', chunk => {
    complaint += chunk
  })
  holder.stdin?.on('error', () => undefined)
  await new Promise<void>((resolve, reject) => {
    const give = (reason: string) => {
      clearTimeout(timer)
      reject(new SystemError('NAMESPACE_DENIED', reason, 'unshare', 0))
    }
    const timer = setTimeout(() => {
      holder.kill('SIGKILL')
      give(`${file} did not answer within 10 s`)
    }, 10_000)
    holder.once('error', error => give(error.message))
    holder.once('close', code => give(complaint.trim() || `${file} ended with ${code}`))
    holder.stdout?.on('data', chunk => {
      said += chunk
      if (!said.includes('ready')) return
      clearTimeout(timer)
      resolve()
    })
  })
  // A forgotten namespace must not keep this process alive: it ends with it.
  holder.unref()
  for (const stream of [holder.stdin, holder.stdout, holder.stderr])
    (stream as { unref?: () => void } | null)?.unref?.()
  return new Namespace(holder, holder.pid!, rootless)
}

async function endHolder(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return
  holder.ref()
  const ended = once(holder, 'exit')
  holder.stdin?.end()
  const timer = setTimeout(() => holder.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(timer)
}

/** Runs a command to its end. Rejects when it cannot be started; with a time-out its signal is SIGKILL. */
export async function runToEnd(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { env, cwd } = options
  const child = spawn(file, args, { stdio: 'pipe', ...(env && { env }), ...(cwd && { cwd }) })
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 30_000)
  const output: [Buffer[], Buffer[]] = [[], []]
  let bytes = 0
  const collect = (into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk)
    bytes += chunk.length
    if (bytes > MAX_OUTPUT_BYTES) child.kill('SIGKILL')
  }
  child.stdout.on('data', collect(output[0]))
  child.stderr.on('data', collect(output[1]))
  // A command that does not read its input says so by its exit code.
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input)
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    return { code, signal, stdout: Buffer.concat(output[0]).toString(), stderr: Buffer.concat(output[1]).toString() }
  } finally {
    clearTimeout(timer)
  }
}
