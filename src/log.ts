/**
 * The log: lines on standard error, so that standard output stays for results. winston is loaded a moment after the first
 * line, and nothing before; what is written until then waits, in order, and is written too when the process ends.
 */
import type { Writable } from 'node:stream'
import type { Logger } from 'winston'
import { LogSink } from './log-sink.ts'
import { escapeControls, redactUrls } from './redact.ts'

export type LogLevel = 'error' | 'warn' | 'info' | 'debug'
/** Texts, numbers and booleans are best; an Error gives its message, anything else its JSON. undefined is left out. */
export type LogFields = Readonly<Record<string, unknown>>

export interface Log {
  /** Make the fields of a debug line only when this is true. */
  readonly debugEnabled: boolean
  error(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  debug(message: string, fields?: LogFields): void
}

export interface LogOutput extends Log {
  /** Resolves when every line has been written, or nothing takes it. Idempotent. Lines after it are dropped. */
  close(): Promise<void>
}

export interface LogOptions {
  readonly level: LogLevel
  /** text: `TIME LEVEL message key=value …`; json: one object a line with time, level, message and the fields. */
  readonly format: 'text' | 'json'
}

const LEVELS = { error: 0, warn: 1, info: 2, debug: 3 } as const

/** For a gateway that is used as a library and given no log. */
export const silentLog: Log = { debugEnabled: false, error() {}, warn() {}, info() {}, debug() {} }

/**
 * Lines wait this long for winston: by then a gateway serves, and loading it (10 ms, 3 MB) delays no first connection.
 * A line of level error does not wait.
 */
const LOAD_DELAY_MS = 90
/** More lines than this are not kept waiting. */
const MAX_WAITING_LINES = 1000

/** `stream`: standard error when left out. Loads nothing before the first line. */
export function createLog(options: LogOptions, stream?: Writable): LogOutput {
  return new WinstonLog(options, stream)
}

class WinstonLog implements LogOutput {
  readonly debugEnabled: boolean
  readonly #options: LogOptions
  readonly #stream: Writable | undefined
  #sink: LogSink | undefined
  #logger: Logger | undefined
  #waiting: LogRecord[] = []
  #timer: NodeJS.Timeout | undefined
  #loaded: Promise<Logger> | undefined
  #closed: Promise<void> | undefined

  constructor(options: LogOptions, stream: Writable | undefined) {
    this.debugEnabled = options.level === 'debug'
    this.#options = options
    this.#stream = stream
  }

  error(message: string, fields?: LogFields): void {
    this.#write('error', message, fields)
    if (this.#timer !== undefined) this.#loadSoon()
  }

  warn(message: string, fields?: LogFields): void {
    this.#write('warn', message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.#write('info', message, fields)
  }

  debug(message: string, fields?: LogFields): void {
    this.#write('debug', message, fields)
  }

  #write(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (this.#closed !== undefined || LEVELS[level] > LEVELS[this.#options.level]) return
    const record = { level, message, fields: cleaned(fields), time: new Date().toISOString() }
    if (this.#logger !== undefined) {
      this.#logger.log(record)
      return
    }
    this.#waiting.push(record)
    if (this.#waiting.length === MAX_WAITING_LINES) this.#writeWaiting()
    if (this.#loaded !== undefined || this.#timer !== undefined) return
    if (this.#stream === undefined) process.off('exit', this.#writeWaiting).once('exit', this.#writeWaiting)
    this.#timer = setTimeout(() => this.#loadSoon(), LOAD_DELAY_MS).unref()
  }

  /** Rejects when winston cannot be read: no descriptor is free, perhaps. Its lines are written then, and it is tried again. */
  #load(): Promise<Logger> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#loaded ??= import('winston')
      .then(({ default: winston }) => {
        const line = lineOf(this.#options.format)
        const logger = winston.createLogger({
          levels: LEVELS,
          level: this.#options.level,
          format: winston.format.printf(info => line(info as unknown as LogRecord)),
          transports: [new winston.transports.Stream({ stream: this.#stream ?? this.#output().stream() })],
        })
        for (const record of this.#waiting) logger.log(record)
        this.#waiting = []
        process.off('exit', this.#writeWaiting)
        this.#logger = logger
        return logger
      })
      .catch(error => {
        this.#loaded = undefined
        this.#writeWaiting()
        throw error
      })
    return this.#loaded
  }

  #loadSoon(): void {
    this.#load().catch(() => {})
  }

  /** Without winston, whose loading takes a turn: the process ends in this one. One write, which a pipe takes at once. */
  readonly #writeWaiting = (): void => {
    const line = lineOf(this.#options.format)
    const text = this.#waiting.map(record => `${line(record)}\n`).join('')
    this.#waiting = []
    if (text === '') return
    if (this.#stream === undefined) this.#output().write(text)
    else this.#stream.write(text)
  }

  #output(): LogSink {
    this.#sink ??= new LogSink(lines => this.warn('lines of the log were lost: nothing took them', { lines }))
    return this.#sink
  }

  close(): Promise<void> {
    this.#closed ??= this.#end()
    return this.#closed
  }

  async #end(): Promise<void> {
    try {
      const logger = await this.#load()
      await new Promise<void>(resolve => {
        logger.once('finish', resolve)
        logger.end()
      })
    } catch {
      // its lines are written
    }
    await this.#sink?.flush()
  }
}

interface LogRecord {
  readonly level: LogLevel
  readonly message: string
  readonly fields: readonly Field[]
  readonly time: string
}

type Field = readonly [name: string, value: string | number | boolean]

function lineOf(format: LogOptions['format']): (record: LogRecord) => string {
  return format === 'json' ? jsonLine : textLine
}

function textLine({ level, message, fields, time }: LogRecord): string {
  let line = `${time} ${level.padEnd(5)} ${escapeControls(redactUrls(message))}`
  for (const [key, value] of fields) {
    const text = String(value)
    line += ` ${key}=${/^[^\s"=\p{C}]+$/u.test(text) ? text : escapeControls(JSON.stringify(text))}`
  }
  return line
}

function jsonLine({ level, message, fields, time }: LogRecord): string {
  return JSON.stringify({ ...Object.fromEntries(fields), time, level, message: redactUrls(message) })
}

/** The last fence before a secret is printed; the first is that nobody gives one to the log. */
function cleaned(fields: LogFields): Field[] {
  const kept: Field[] = []
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue
    if (/pass(word|wd|phrase)?$|secret|credential/i.test(key)) kept.push([key, '***'])
    else kept.push([key, typeof value === 'number' || typeof value === 'boolean' ? value : redactUrls(textOf(value))])
  }
  return kept
}

function textOf(value: unknown): string {
  if (value instanceof Error) return value.message
  return typeof value === 'string' || typeof value === 'bigint'
    ? String(value)
    : (JSON.stringify(value) ?? typeof value)
}
