/** One thread with a rules file, from its start to its end, which comes once: it fails to load, hangs, ends, or is closed. */
import { Worker } from 'node:worker_threads'
import { escapeControls } from '../redact.ts'
import type { ScriptFlow } from './define-rules.ts'
import type { ScriptAnswer, ScriptReport, ScriptRequest, ScriptStart } from './script-messages.ts'

export interface ThreadOptions {
  readonly file: string
  readonly loadMs: number
  /** How long it may not answer a ping. */
  readonly hangMs: number
  readonly heapMb: number
  readonly onLoaded: () => void
  readonly onAnswer: (answer: ScriptAnswer) => void
  /** Not after `close()`. `isHang`: it did not answer; else `reason` is of the file or of Node.js. */
  readonly onEnd: (reason: string, isHang: boolean) => void
}

// As seen from here, and from the bundle beside this folder.
const WORKER_ENTRY = new URL('../rules/script-worker.js', import.meta.url)

export class ScriptThread {
  readonly #options: ThreadOptions
  readonly #worker: Worker
  readonly #loading: NodeJS.Timeout
  #silence: NodeJS.Timeout | undefined
  #isLoaded = false
  #isOver = false

  constructor(options: ThreadOptions) {
    this.#options = options
    const workerData: ScriptStart = { file: options.file }
    const resourceLimits = { maxOldGenerationSizeMb: options.heapMb }
    this.#worker = new Worker(WORKER_ENTRY, { workerData, resourceLimits, execArgv: [] })
    this.#loading = setTimeout(() => this.#end(`not loaded within ${options.loadMs} ms`), options.loadMs)
    this.#worker.on('message', (report: ScriptReport) => this.#onReport(report))
    this.#worker.on('error', error => this.#end(`ended by ${error.name}: ${error.message}`))
    this.#worker.on('exit', code => this.#end(`ended by itself, with code ${code}`))
  }

  /** Whether it may be asked: loaded, and no ping without an answer. */
  get answers(): boolean {
    return this.#isLoaded && !this.#isOver && this.#silence === undefined
  }

  ask(id: number, flow: ScriptFlow): void {
    this.#send({ id, flow })
  }

  /** Asks whether it still turns; it ends when no answer comes in time. */
  ping(): void {
    if (this.#isOver || this.#silence !== undefined) return
    const { hangMs } = this.#options
    this.#silence = setTimeout(() => this.#end(`did not answer for ${hangMs} ms`, true), hangMs)
    this.#send({ ping: true })
  }

  /** Idempotent; resolves when the thread is gone. */
  async close(): Promise<void> {
    this.#isOver = true
    clearTimeout(this.#loading)
    clearTimeout(this.#silence)
    await this.#worker.terminate()
  }

  /** As if it had ended by itself. */
  end(reason: string): void {
    this.#end(reason)
  }

  #send(request: ScriptRequest): void {
    if (!this.#isOver) this.#worker.postMessage(request)
  }

  #onReport(report: ScriptReport): void {
    if (this.#isOver) return
    if ('failed' in report) this.#end(report.failed)
    else if ('pong' in report) {
      clearTimeout(this.#silence)
      this.#silence = undefined
    } else if ('loaded' in report) {
      clearTimeout(this.#loading)
      this.#isLoaded = true
      // what waits for a verdict has a timer of its own
      this.#worker.unref()
      this.#options.onLoaded()
    } else this.#options.onAnswer(report)
  }

  #end(reason: string, isHang = false): void {
    if (this.#isOver) return
    this.close()
    this.#options.onEnd(escapeControls(reason), isHang)
  }
}
