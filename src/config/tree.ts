/** Values with parts, as they stand in a file or are given by a flag: lists and mappings with their lines. */
import { quote } from '../redact.ts'

export type Tree = string | boolean | null | TreeList | TreeMap

/** 1 for the first line; 0 where there are no lines. */
export interface TreeItem {
  readonly line: number
  readonly value: Tree
}

export interface TreeList {
  readonly items: readonly TreeItem[]
}

export interface TreeMap {
  /** No key is in it twice. */
  readonly entries: readonly (TreeItem & { readonly key: string })[]
}

export const isTreeList = (value: unknown): value is TreeList =>
  typeof value === 'object' && value !== null && 'items' in value
export const isTreeMap = (value: unknown): value is TreeMap =>
  typeof value === 'object' && value !== null && 'entries' in value

export function keyText(key: string): string {
  return /^[\w.-]{1,60}$/.test(key) ? key : quote(key)
}

/** A text for a list or a mapping of flow style, quoted where it must be. */
export function flowText(text: string): string {
  const isPlain = /^[A-Za-z][\w.-]*$/.test(text) && !/^(null|true|false)$/i.test(text)
  return isPlain ? text : `'${text.replaceAll("'", "''")}'`
}
