/** What the main thread and a worker with a data plane say to each other. */
import type { MessagePort } from 'node:worker_threads'

import { asGatewayError, ConfigError, GatewayError, SystemError } from '../errors.ts'
import type { TunInfo } from '../io/addon.ts'
import type { FlowView, GatewayOptions } from '../options.ts'
import type { LoadedRules } from '../rules/load-rules.ts'
import type { Module } from '../stack/webassembly.ts'
import type { UpstreamCells } from '../upstream/upstreams.ts'

/** What a worker is started with. */
export interface WorkerStart {
  /** Its part of the limits. */
  readonly options: GatewayOptions
  readonly queue: TunInfo
  readonly rules: LoadedRules | undefined
  readonly module: Module
  /** See PlaneSetup. */
  readonly sockets: number
  readonly debugEnabled: boolean
  /** One for all workers: what is known of the proxy is one truth, and told once. */
  readonly known: UpstreamCells
  /** See PlaneSetup. */
  readonly names: SharedArrayBuffer | undefined
  /** Log lines on their way (worker-log.ts). */
  readonly pendingLines: Int32Array
  /** The number of the last request that was answered: a shared Int32Array of one, which the asker waits on. */
  readonly answered: Int32Array
  /** Where answers go: read by the asker while it waits, so that no event loop is needed. */
  readonly answers: MessagePort
}

/** To the worker. */
export type Request =
  | { readonly ask: keyof Answers; readonly number: number }
  | { readonly rules: LoadedRules }
  | { readonly close: true }

export interface Answers {
  readonly counters: Record<string, number>
  readonly flows: FlowView[]
}

/** A part of Answers: the one that was asked for. */
export type Answer = Partial<Answers>

export type LogLevel = 'error' | 'warn' | 'info' | 'debug'

export interface LogLine {
  /** Of the proxy's state, or of the packets: the former each worker tells only where no other has. */
  readonly from: 'upstream' | 'plane'
  readonly level: LogLevel
  readonly message: string
  readonly fields: Record<string, unknown> | undefined
}

/** From the worker. */
export type Report =
  | { readonly started: true }
  | { readonly failed: PlainError }
  | { readonly trapped: PlainError }
  | { readonly log: LogLine }

/** An error of the project: structured cloning keeps neither class nor code. */
export interface PlainError {
  readonly kind: 'config' | 'system' | 'gateway'
  readonly code: string
  readonly message: string
  readonly stack: string | undefined
  readonly syscall: string
  readonly errno: number
}

export function plainError(error: unknown): PlainError {
  const known = asGatewayError(error)
  const { code, message } = known
  const { stack } = error instanceof Error ? error : known
  if (known instanceof SystemError)
    return { kind: 'system', code, message, stack, syscall: known.syscall, errno: known.errno }
  return { kind: known instanceof ConfigError ? 'config' : 'gateway', code, message, stack, syscall: '', errno: 0 }
}

export function errorOf({ kind, code, message, stack, syscall, errno }: PlainError): GatewayError {
  const error =
    kind === 'system'
      ? new SystemError(code, message, syscall, errno)
      : new (kind === 'config' ? ConfigError : GatewayError)(code, message)
  if (stack !== undefined) error.stack = stack
  return error
}
