/** The two halves of a process in a namespace that calls functions of the modules of `Ends` for a test. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Namespace } from '../helpers/namespaces.ts'
import type * as servers from './server-ends.ts'
import type * as tcp from './tcp-ends.ts'
import type * as fronts from './tls-front.ts'
import type * as udp from './udp-ends.ts'

type Ends = typeof tcp & typeof udp & typeof servers & typeof fronts

interface Call {
  readonly id: number
  readonly name: keyof Ends
  readonly args: unknown[]
}

interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly error?: string
}

const CALL_TIMEOUT_MS = 90_000

export class Agent {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #calls = 0

  constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', answer => this.#waiting.get((answer as Answer).id)?.(answer as Answer))
    child.on('exit', code => {
      for (const [id, settle] of this.#waiting) settle({ id, error: `the agent ended with ${code}` })
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** Its end, by a signal that ends it. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill(signal)
    await ended
  }

  static async start(namespace: Namespace): Promise<Agent> {
    const child = namespace.spawn(process.execPath, [fileURLToPath(import.meta.url)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    await once(child, 'message')
    return new Agent(child)
  }

  async call<Name extends keyof Ends>(
    name: Name,
    ...args: Parameters<Ends[Name]>
  ): Promise<Awaited<ReturnType<Ends[Name]>>> {
    const id = this.#calls++
    const answer = await new Promise<Answer>(resolve => {
      const timer = setTimeout(() => resolve({ id, error: `no answer within ${CALL_TIMEOUT_MS} ms` }), CALL_TIMEOUT_MS)
      this.#waiting.set(id, got => {
        clearTimeout(timer)
        resolve(got)
      })
      this.#child.send({ id, name, args } satisfies Call)
    })
    this.#waiting.delete(id)
    if (answer.error !== undefined) throw new Error(`${name}: ${answer.error}`)
    return answer.result as Awaited<ReturnType<Ends[Name]>>
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  const ends = await Promise.all([
    import('./tcp-ends.ts'),
    import('./udp-ends.ts'),
    import('./server-ends.ts'),
    import('./tls-front.ts'),
  ])
  const functions: Record<string, (...args: unknown[]) => Promise<unknown>> = Object.assign({}, ...ends)
  process.on('message', async message => {
    const { id, name, args } = message as Call
    try {
      process.send!({ id, result: await functions[name]!(...args) } satisfies Answer)
    } catch (error) {
      process.send!({ id, error: (error as Error).stack ?? String(error) } satisfies Answer)
    }
  })
  process.on('disconnect', () => process.exit())
  process.send({ id: -1 })
}
