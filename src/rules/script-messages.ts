/** What the gateway and the thread of a rules file say to each other. */
import type { ScriptFlow, ScriptVerdict } from './define-rules.ts'

export interface ScriptStart {
  /** The absolute path of the rules file. */
  readonly file: string
}

/** A flow to judge, or a question whether the thread still turns. */
export type ScriptRequest = { readonly id: number; readonly flow: ScriptFlow } | { readonly ping: true }

export type ScriptAnswer =
  /** `read`: the mask of the fields that were read (verdict-cache.ts). */
  | { readonly id: number; readonly read: number; readonly verdict: ScriptVerdict }
  /** The file and line, and what was thrown. */
  | { readonly id: number; readonly threw: string }

export type ScriptReport =
  | ScriptAnswer
  | { readonly loaded: true }
  /** The file, the line where it is known, and why it cannot be loaded. */
  | { readonly failed: string }
  | { readonly pong: true }
