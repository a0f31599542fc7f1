/** `tungate explain`: which rule, name and upstream a flow would meet, and why. Nothing is opened, nobody is asked. */
import { usageError } from '../config/flags.ts'
import type { Config } from '../config.ts'
import { formatAddress, parseAddress } from '../endpoint.ts'
import type { UpstreamOptions } from '../options.ts'
import { quote } from '../redact.ts'
import type { CompiledRules } from '../rules/compile.ts'
import { canonicalDomain } from '../rules/domain-name.ts'
import { askedText, type Explanation, explain, outcomeText, stepLines } from '../rules/explain.ts'
import { isScript, type RulesTargets } from '../rules/load-rules.ts'
import { type Protocol, type RuleFlow, targetText } from '../rules/rule.ts'
import { loadScript } from '../rules/script.ts'
import { rulesOf, targetsOf } from './rules-of.ts'

export interface ExplainRequest {
  /** `tcp example.org:443`. */
  readonly words: readonly string[]
  /** --source, --domain. */
  readonly values: ReadonlyMap<string, string>
  readonly json: boolean
}

/** What was asked, as the user wrote it: of a name nobody knows the address. */
interface Asked {
  readonly flow: RuleFlow
  /** Where the first bytes say it, if they are looked at. */
  readonly sniffed: string | undefined
}

interface Found extends Explanation {
  readonly flow: RuleFlow
  /** Other things to know. */
  readonly notes: readonly string[]
  /** A script has decided. */
  readonly script?: string
  /** No rule is asked: why. */
  readonly instead?: string
  /** It should have, and what it said or did was no verdict. */
  readonly isFailed?: boolean
}

/** Throws ConfigError: wrong words, and rules that are wrong. */
export async function explainFlow(config: Config, request: ExplainRequest): Promise<string> {
  const asked = readAsked(config, request)
  const { file } = config.rules
  const found =
    beforeRules(config, asked) ??
    (isScript(file) ? await judge(asked, file, targetsOf(config)) : decide(config, asked, rulesOf(config)))
  return request.json ? `${JSON.stringify(document(config, found), undefined, 2)}\n` : text(config, found)
}

// ---- what is asked ----

const USAGE = 'tungate explain tcp example.org:443 --source 10.0.0.2'

function readAsked(config: Config, { words, values }: ExplainRequest): Asked {
  const [protocol, target, extra] = words
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw usageError(
      `explain: found ${protocol === undefined ? 'nothing' : quote(protocol)}, allowed tcp or udp (${USAGE})`,
    )
  if (target === undefined) throw usageError(`explain: found no destination, allowed HOST:PORT (${USAGE})`)
  if (extra !== undefined) throw usageError(`explain: found ${quote(extra)} too many (${USAGE})`)
  const { host, port } = hostAndPort(target)
  const address = parseAddress(host)
  const sniffed = domainOf(values.get('--domain'))
  const source = sourceOf(config, values.get('--source'), address)
  if (address !== undefined) return { flow: { protocol, source, destination: { address, port } }, sniffed }
  const name = canonicalDomain(host)
  if (name === undefined) throw usageError(`explain: found ${quote(host)}, allowed an address or a domain name`)
  if (config.dns.mode === 'map')
    return { flow: { protocol, source, destination: { name, port }, domain: name }, sniffed }
  return { flow: { protocol, source, destination: { port } }, sniffed: sniffed ?? name }
}

/** `name:443`, `192.0.2.1:443`, `[2001:db8::1]:443`. */
function hostAndPort(target: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([1-9][0-9]{0,4})$/.exec(target)
  const port = Number(match?.[3])
  if (match === null || port > 65_535)
    throw usageError(`explain: found ${quote(target)}, allowed HOST:PORT, of IPv6 [ADDRESS]:PORT (${USAGE})`)
  return { host: (match[1] ?? match[2])!, port }
}

function domainOf(given: string | undefined): string | undefined {
  if (given === undefined) return undefined
  const name = canonicalDomain(given)
  if (name === undefined) throw usageError(`--domain: found ${quote(given)}, allowed a domain name`)
  return name
}

/** By default the device's own address, from which programs of this machine send. */
function sourceOf({ tun }: Config, given: string | undefined, destination: Uint8Array | undefined) {
  const own = (destination?.length === 16 ? tun.address6 : tun.address4) || tun.address4 || tun.address6
  const address = parseAddress(given ?? own.replace(/\/.*/, ''))
  if (address === undefined) throw usageError(`--source: found ${quote(given ?? '')}, allowed an address`)
  return { address, port: 0 }
}

// ---- what is decided ----

/** As src/flow has them (dns-stream.ts, quic-refusal.ts). */
const DNS_PORT = 53
const QUIC_PORT = 443

/** What the gateway does whatever the rules say. */
function beforeRules({ dns, udp }: Config, { flow }: Asked): Found | undefined {
  const { protocol, destination } = flow
  const found = { rule: 0, name: '', needsLook: false, steps: [], flow, notes: [] }
  if (destination.port === DNS_PORT && dns.mode !== 'forward')
    return { ...found, target: '', instead: `the gateway itself answers questions for names (dns.mode ${dns.mode})` }
  if (protocol === 'udp' && destination.port === QUIC_PORT && udp.quic === 'reject')
    return { ...found, target: 'reject', instead: 'udp.quic says so' }
  return undefined
}

function decide({ dns }: Config, { flow, sniffed }: Asked, rules: CompiledRules): Found {
  const before = explain(rules, flow)
  const notes: string[] = []
  const isAddressless = !('address' in flow.destination) && !('name' in flow.destination)
  if (isAddressless && before.steps.some(({ condition }) => condition === 'destination'))
    notes.push(`which address ${sniffed} has is not known here: give it as HOST, and the name as --domain`)
  if (before.needsLook) {
    notes.push('the client is answered before the dial, and its first bytes are looked at for a name')
    if (sniffed === undefined) return { ...before, flow, notes }
    const looked = { ...flow, domain: sniffed }
    return { ...explain(rules, looked), flow: looked, notes }
  }
  if (sniffed !== undefined)
    notes.push(
      before.steps.some(({ result }) => result === 'unknown')
        ? `the name ${sniffed} is not looked for in the first bytes: the flow goes to the same place with any name`
        : `the name ${sniffed} is not known to the gateway: no rule asks for it in the first bytes (sniff: true), and dns.mode is ${dns.mode}`,
    )
  return { ...before, flow, notes }
}

async function judge({ flow, sniffed }: Asked, file: string, targets: RulesTargets): Promise<Found> {
  const notes: string[] = []
  const script = await loadScript({ file, upstreams: targets.upstreams, onComplaint: line => notes.push(line) })
  try {
    const verdict = await script.verdict(flow)
    const isFailed = notes.length > 0
    if (sniffed !== undefined)
      notes.push(`the name ${sniffed} is not known to a script, which is asked before the first bytes`)
    const target = verdict === undefined ? targets.defaultUpstream : targetText(verdict)
    return { rule: 0, name: '', target, needsLook: false, steps: [], flow, notes, script: file, isFailed }
  } finally {
    await script.close()
  }
}

// ---- what is told ----

function text(config: Config, found: Found): string {
  const lines = [
    askedText(found.flow),
    ...stepLines(found),
    ...found.notes,
    outcomeOf(found),
    ...upstreamLines(config, found.target),
  ]
  return `${lines.join('\n')}\n`
}

function outcomeOf(found: Found): string {
  const verdict = found.isFailed ? 'the default, for the script gave no verdict' : `the script ${found.script} says so`
  const reason = found.script === undefined ? found.instead : verdict
  return reason === undefined ? outcomeText(found) : `goes to ${found.target || 'no upstream'}: ${reason}`
}

/** A target, and where it leads: of a group the members, each once. */
function upstreamLines({ upstreams }: Config, target: string, told = new Set<string>()): string[] {
  const upstream = upstreams[target]
  if (told.has(target) || upstream === undefined || target === 'direct') return []
  told.add(target)
  const line = `${target}: ${upstreamText(upstream)}`
  const members = upstream.kind === 'group' ? upstream.members : []
  return [line, ...members.flatMap(member => upstreamLines({ upstreams } as Config, member, told))]
}

function upstreamText(upstream: UpstreamOptions): string {
  return upstream.kind === 'chain' ? upstream.text : `${upstream.policy} of ${upstream.members.join(', ')}`
}

function document(config: Config, found: Found) {
  const { flow, notes, script, instead, rule, name, target, needsLook, steps } = found
  const { destination } = flow
  const upstream = config.upstreams[target]
  return {
    protocol: flow.protocol satisfies Protocol,
    source: formatAddress(flow.source.address),
    destination: 'address' in destination ? formatAddress(destination.address) : '',
    port: destination.port,
    domain: flow.domain ?? '',
    rule,
    name,
    target,
    upstream: upstream === undefined ? '' : upstreamText(upstream),
    needsLook,
    ...(script === undefined ? {} : { script }),
    ...(instead === undefined ? {} : { instead }),
    notes,
    steps,
  }
}
