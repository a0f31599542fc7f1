/**
 * How upstreams are written, by themselves: whether the names that they use exist is seen when all is together (upstreams.ts).
 *
 *     proxy: URL | NAME | [URL or NAME, …]        a text may hold several URLs, with spaces between: a chain
 *     upstreams: { NAME: URL | [URL or NAME, …] | { group: failover, members: [NAME, …], probe: 10s } }
 */
import type { GroupPolicy } from '../options.ts'
import { atPlace, FormatError } from './format-error.ts'
import { describe, duration, type Format, oneOf } from './formats.ts'
import { suggestion } from './suggest.ts'
import { flowText, isTreeList, isTreeMap, keyText, type Tree, type TreeItem, type TreeMap } from './tree.ts'
import {
  checkHops,
  checkName,
  DEFAULT_PROBE_MS,
  hopsFromText,
  hopText,
  isName,
  MAX_MEMBERS,
  MAX_UPSTREAMS,
  POLICIES,
  type WrittenChain,
  type WrittenGroup,
  type WrittenHop,
} from './written-upstream.ts'
import { treeFrom } from './yaml-tree.ts'

const PROXY_ALLOWED =
  "a URL as socks5://[user:password@]host[:port], the name of an upstream, a list of both, or '' (not set)"
const UPSTREAMS_ALLOWED = 'a mapping of names to a URL, a list of URLs, or { group, members, probe }'
const GROUP_ALLOWED = '{ group: failover, members: [NAME, …], probe: 10s }'
export const policyFormat = oneOf(...POLICIES)
export const probeFormat = duration(500, 3_600_000)

export const proxyFormat: Format<readonly WrittenHop[]> = {
  allowed: PROXY_ALLOWED,
  isStructured: true,
  parse: raw => (raw === '' ? [] : hopsOf(treeFrom(raw, PROXY_ALLOWED), 0, PROXY_ALLOWED)),
  print: printChain,
}

export const upstreamsFormat: Format<readonly (WrittenChain | WrittenGroup)[]> = {
  allowed: UPSTREAMS_ALLOWED,
  isStructured: true,
  parse: raw => upstreamsOf(treeFrom(raw, UPSTREAMS_ALLOWED)),
  print: all => {
    if (all.length === 0) return '{}'
    const texts = all.map(
      each => `${flowText(each.name)}: ${each.kind === 'chain' ? chainFlow(each.hops) : groupFlow(each)}`,
    )
    return `{ ${texts.join(', ')} }`
  },
}

/** What it is, and nothing of it: a password may be anywhere. */
function kindOf(tree: Tree | undefined): string {
  return typeof tree === 'string' && tree !== '' ? 'a text' : describe(tree)
}

function hopsOf(tree: Tree, line: number, allowed: string): WrittenHop[] {
  if (typeof tree === 'string') return checkHops(hopsFromText(tree, line))
  if (!isTreeList(tree)) throw new FormatError(kindOf(tree), allowed)
  if (tree.items.length === 0) throw new FormatError('an empty list', allowed)
  const hops = tree.items.map((item, index) =>
    atPlace({ line: item.line, within: ` hop ${index + 1}` }, () => {
      if (typeof item.value !== 'string') throw new FormatError(kindOf(item.value), 'a URL, or the name of an upstream')
      return hopsFromText(item.value, item.line)
    }),
  )
  return checkHops(hops.flat())
}

function upstreamsOf(tree: Tree): (WrittenChain | WrittenGroup)[] {
  if (!isTreeMap(tree)) throw new FormatError(kindOf(tree), UPSTREAMS_ALLOWED)
  if (tree.entries.length > MAX_UPSTREAMS)
    throw new FormatError(`${tree.entries.length} upstreams`, `at most ${MAX_UPSTREAMS}`)
  return tree.entries.map(({ key, line, value }) =>
    atPlace({ line, within: `.${keyText(key)}` }, () => {
      const name = checkName(key)
      if (isTreeMap(value)) return groupOf(name, line, value)
      return { kind: 'chain', name, line, hops: hopsOf(value, line, `a URL, a list of URLs, or ${GROUP_ALLOWED}`) }
    }),
  )
}

const GROUP_KEYS = ['group', 'members', 'probe']

function groupOf(name: string, line: number, tree: TreeMap): WrittenGroup {
  for (const { key, line: at } of tree.entries) {
    if (GROUP_KEYS.includes(key)) continue
    const found = `an unknown key${suggestion(key, GROUP_KEYS)}`
    throw new FormatError(found, GROUP_KEYS.join(', '), { line: at, within: `.${keyText(key)}` })
  }
  const part = <T>(key: string, parse: (item: TreeItem | undefined) => T): T => {
    const item = tree.entries.find(entry => entry.key === key)
    return atPlace({ line: item?.line ?? line, within: `.${key}` }, () => parse(item))
  }
  const policy = part('group', item => policyFormat.parse(item?.value) as GroupPolicy)
  const probeMs = part('probe', item => (item === undefined ? DEFAULT_PROBE_MS : Number(probeFormat.parse(item.value))))
  const members = part('members', item => {
    if (!isTreeList(item?.value)) throw new FormatError(kindOf(item?.value), 'a list of names')
    const list = item.value.items.map(each => {
      if (typeof each.value === 'string' && isName(each.value)) return { line: each.line, name: each.value }
      const hint = 'names of upstreams (a URL has a name of its own first)'
      throw new FormatError(typeof each.value === 'string' ? 'what is no name' : kindOf(each.value), hint, {
        line: each.line,
        within: '',
      })
    })
    if (list.length === 0 || list.length > MAX_MEMBERS)
      throw new FormatError(`${list.length} members`, `1 to ${MAX_MEMBERS}`)
    return list
  })
  return { kind: 'group', name, line, policy, members, probeMs }
}

function printChain(hops: readonly WrittenHop[]): string {
  return hops.length > 1 ? chainFlow(hops) : hops.map(hopText).join('')
}

function chainFlow(hops: readonly WrittenHop[]): string {
  const texts = hops.map(hop => flowText(hopText(hop)))
  return texts.length === 1 ? texts[0]! : `[${texts.join(', ')}]`
}

function groupFlow({ policy, members, probeMs }: WrittenGroup): string {
  return `{ group: ${policy}, members: [${members.map(({ name }) => flowText(name)).join(', ')}], probe: ${probeFormat.print(probeMs)} }`
}
