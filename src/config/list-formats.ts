/** Lists and mappings of resolvers and rules, as they are written. */
import type { ResolverAddress, WrittenRule } from '../options.ts'
import { atPlace, FormatError } from './format-error.ts'
import { describe, type Format } from './formats.ts'
import { parseDirectResolver, parseResolver, parseSuffix, resolverText } from './resolver-address.ts'
import { flowText, isTreeList, isTreeMap, keyText, type Tree } from './tree.ts'
import { treeFrom } from './yaml-tree.ts'

const MAX_RESOLVERS = 16
const MAX_SUFFIXES = 1_024

const RESOLVERS_ALLOWED = "a list of resolvers (udp://, tcp://, tls://, https://), or '' (none)"

export const resolvers: Format<readonly ResolverAddress[]> = {
  allowed: RESOLVERS_ALLOWED,
  isStructured: true,
  parse: raw => {
    const tree = treeFrom(raw, RESOLVERS_ALLOWED)
    if (tree === '') return []
    if (typeof tree === 'string') return checkCount(tree.split(/ +/).map(parseResolver), MAX_RESOLVERS)
    if (!isTreeList(tree)) throw new FormatError(describe(tree), RESOLVERS_ALLOWED)
    const all = tree.items.map(({ value, line }, index) =>
      atPlace({ line, within: ` ${index + 1}` }, () => parseResolver(textOf(value))),
    )
    return checkCount(all, MAX_RESOLVERS)
  },
  print: all => `[${all.map(each => flowText(resolverText(each))).join(', ')}]`,
}

export interface Split {
  readonly suffix: string
  readonly resolver: ResolverAddress
}

const SPLIT_ALLOWED = 'a mapping of suffixes to addresses, as {cluster.local: 10.96.0.10}'

export const splits: Format<readonly Split[]> = {
  allowed: SPLIT_ALLOWED,
  isStructured: true,
  parse: raw => {
    const tree = treeFrom(raw, SPLIT_ALLOWED)
    if (!isTreeMap(tree)) throw new FormatError(describe(tree), SPLIT_ALLOWED)
    const all = tree.entries.map(({ key, line, value }) =>
      atPlace({ line, within: `.${keyText(key)}` }, () => ({
        suffix: parseSuffix(key),
        resolver: parseDirectResolver(textOf(value)),
      })),
    )
    const twice = all.findIndex(({ suffix }, at) => all.findIndex(each => each.suffix === suffix) < at)
    if (twice >= 0) {
      const { key, line } = tree.entries[twice]!
      throw new FormatError('the suffix twice', 'each once', { line, within: `.${keyText(key)}` })
    }
    return checkCount(all, MAX_SUFFIXES)
  },
  print: all => {
    const texts = all.map(({ suffix, resolver }) => `${flowText(suffix || '.')}: ${flowText(resolverText(resolver))}`)
    return all.length === 0 ? '{}' : `{ ${texts.join(', ')} }`
  },
}

const RULES_ALLOWED = 'a list of rules, each a mapping as {to: office, domainSuffix: example.org}'

/** What a rule may say is seen where all names of upstreams are known. */
export const rules: Format<readonly WrittenRule[]> = {
  allowed: RULES_ALLOWED,
  isStructured: true,
  parse: raw => {
    const tree = treeFrom(raw, RULES_ALLOWED)
    if (!isTreeList(tree)) throw new FormatError(describe(tree), RULES_ALLOWED)
    return tree.items.map(({ line, value }, index) =>
      atPlace({ line, within: ` ${index + 1}` }, () => ruleOf(value, line)),
    )
  },
  print: all => (all.length === 0 ? '[]' : `[ ${all.map(ruleText).join(', ')} ]`),
}

function ruleOf(tree: Tree, line: number): WrittenRule {
  if (!isTreeMap(tree)) throw new FormatError(describe(tree), 'a mapping, "to: TARGET" and conditions')
  const keys = tree.entries.map(({ key, line: at, value }) =>
    atPlace({ line: at, within: ` ${keyText(key)}` }, () => {
      const items = isTreeList(value) ? value.items : [{ line: at, value }]
      return { key, line: at, values: items.map(item => ({ line: item.line, text: wordOf(item.value) })) }
    }),
  )
  return { line, keys }
}

function ruleText({ keys }: WrittenRule): string {
  const texts = keys.map(({ key, values }) => {
    const list = values.map(({ text }) => flowText(text))
    return `${flowText(key)}: ${list.length === 1 ? list[0] : `[${list.join(', ')}]`}`
  })
  return `{ ${texts.join(', ')} }`
}

function textOf(tree: Tree): string {
  if (typeof tree === 'string') return tree
  throw new FormatError(describe(tree), 'a text')
}

/** `sniff: true` is written bare. */
function wordOf(tree: Tree): string {
  return typeof tree === 'boolean' ? String(tree) : textOf(tree)
}

function checkCount<T>(all: readonly T[], most: number): readonly T[] {
  if (all.length > most) throw new FormatError(`${all.length} of them`, `at most ${most}`)
  return all
}
