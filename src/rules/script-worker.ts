/** The thread that a rules file runs in: loads it, and answers for each flow with its verdict and what was read for it. */
import { execFile } from 'node:child_process'
import { pathToFileURL } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { defineRules, type ScriptFlow, type ScriptRules } from './define-rules.ts'
import type { ScriptReport, ScriptRequest, ScriptStart } from './script-messages.ts'
import { FLOW_FIELDS } from './verdict-cache.ts'

const { file } = workerData as ScriptStart
const port = parentPort!
const tell = (report: ScriptReport) => port.postMessage(report)

/** So that a file that stands alone, beside no installed package, needs no import. */
Object.assign(globalThis, { defineRules })

/** A flow that notes which of its fields are read. */
class WatchedFlow {
  readonly #flow: ScriptFlow
  #read = 0

  constructor(flow: ScriptFlow) {
    this.#flow = flow
    for (const [at, field] of FLOW_FIELDS.entries()) {
      const get = () => {
        this.#read |= 1 << at
        return this.#flow[field]
      }
      Object.defineProperty(this, field, { get, enumerable: true })
    }
    Object.freeze(this)
  }

  static readOf(flow: WatchedFlow): number {
    return flow.#read
  }
}

async function judge(rules: ScriptRules, id: number, flow: ScriptFlow): Promise<void> {
  const watched = new WatchedFlow(flow)
  try {
    const verdict: unknown = await rules(watched as unknown as ScriptFlow)
    if (verdict !== undefined && typeof verdict !== 'string') {
      tell({ id, threw: `${file}: gave ${describe(verdict)}, allowed a text or undefined` })
    } else tell({ id, read: WatchedFlow.readOf(watched), verdict })
  } catch (error) {
    tell({ id, threw: placed(error) })
  }
}

function describe(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`
}

/** `FILE:LINE: message`: the first line of the stack in a file that is not ours. */
function placed(error: unknown): string {
  if (!(error instanceof Error)) return `${file}: threw what is no Error: ${String(error)}`
  const frame = /(?:file:\/\/|[( ])(\/[^\n()]*?):(\d+):\d+\)?$/m.exec(
    error.stack?.replaceAll(import.meta.url, '') ?? '',
  )
  return `${frame === null ? file : `${decodeURI(frame[1]!)}:${frame[2]}`}: ${error.name}: ${error.message}`
}

/** An import that fails for a mistake in the syntax does not say where; a check by another process does. */
async function placedImport(error: unknown): Promise<string> {
  if (!(error instanceof SyntaxError)) return placed(error)
  const output = await new Promise<string>(resolve => {
    const limits = { timeout: 5_000, maxBuffer: 65_536 }
    execFile(process.execPath, ['--check', file], limits, (_error, _output, errors) => resolve(errors))
  })
  // a .js may be taken for a script by one and for a module by the other, which then tells of another mistake
  const line = output.includes(error.message) ? /^(?:file:\/\/)?\/.*:(\d+)$/m.exec(output)?.[1] : undefined
  return line === undefined ? placed(error) : `${file}:${line}: ${error.name}: ${error.message}`
}

try {
  const { default: rules } = (await import(pathToFileURL(file).href)) as { default: unknown }
  if (typeof rules !== 'function') {
    tell({ failed: `${file}: has no function as its default export (export default defineRules(flow => …))` })
  } else {
    port.on('message', (request: ScriptRequest) => {
      if ('ping' in request) tell({ pong: true })
      else judge(rules as ScriptRules, request.id, request.flow)
    })
    tell({ loaded: true })
  }
} catch (error) {
  tell({ failed: await placedImport(error) })
}
