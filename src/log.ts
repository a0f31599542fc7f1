/**
 * The log: lines on standard error, so that standard output stays for results. winston is loaded when the first log is
 * made and not before (it costs 100 ms and 20 MB); who only needs the type, or no log, loads nothing.
 */
import type { Writable } from 'node:stream'
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
  /** Resolves when every line has been handed to the stream. Idempotent. Lines after it are dropped. */
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

export async function createLog(options: LogOptions, stream: Writable = process.stderr): Promise<LogOutput> {
  const { default: winston } = await import('winston')
  const line = options.format === 'json' ? jsonLine : textLine
  const logger = winston.createLogger({
    levels: LEVELS,
    level: options.level,
    format: winston.format.printf(info => line(info as unknown as LogRecord)),
    transports: [new winston.transports.Stream({ stream })],
  })
  let closed: Promise<void> | undefined
  const write =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (closed === undefined) logger.log({ level, message, fields, time: new Date().toISOString() })
    }
  return {
    debugEnabled: options.level === 'debug',
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
    close() {
      closed ??= new Promise<void>(resolve => {
        logger.once('finish', resolve)
        logger.end()
      })
      return closed
    },
  }
}

interface LogRecord {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
  readonly time: string
}

function textLine({ level, message, fields, time }: LogRecord): string {
  let line = `${time} ${level.padEnd(5)} ${escapeControls(redactUrls(message))}`
  for (const [key, value] of cleaned(fields)) {
    const text = String(value)
    line += ` ${key}=${/^[^\s"=\p{C}]+$/u.test(text) ? text : escapeControls(JSON.stringify(text))}`
  }
  return line
}

function jsonLine({ level, message, fields, time }: LogRecord): string {
  return JSON.stringify({ ...Object.fromEntries(cleaned(fields)), time, level, message: redactUrls(message) })
}

/** The last fence before a secret is printed; the first is that nobody gives one to the log. */
function cleaned(fields: LogFields): [string, string | number | boolean][] {
  const kept: [string, string | number | boolean][] = []
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
