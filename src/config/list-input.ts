/** Names and rules as a library user writes them, or as they are already, checked. */
import { resolve } from 'node:path'
import { ConfigError } from '../errors.ts'
import type { DnsInput, GatewayInput, GatewayOptions, ResolverAddress, RulesOptions, WrittenRule } from '../options.ts'
import { FormatError } from './format-error.ts'
import { parseDirectResolver, parseResolver, parseSuffix, resolverText } from './resolver-address.ts'

/** What is given of it. Throws ConfigError for resolvers and suffixes. */
export function dnsFromInput({ resolver, split, ...rest }: DnsInput): Partial<GatewayOptions['dns']> {
  const isList = resolver === undefined || Array.isArray(resolver)
  if (!isList) throw wrong('dns.resolver', 'no list', 'a list of resolvers')
  const entries = Object.entries(split ?? {}).filter(([, value]) => value !== undefined)
  return {
    ...rest,
    ...(resolver === undefined ? {} : { resolver: resolver.map(each => address('dns.resolver', each, parseResolver)) }),
    ...(split === undefined
      ? {}
      : {
          split: Object.fromEntries(
            entries.map(([suffix, value]) => {
              const normal = told('dns.split', () => (suffix === '' ? '' : parseSuffix(suffix)))
              return [normal, address(`dns.split.${normal}`, value, parseDirectResolver)]
            }),
          ),
        }),
  }
}

/** What is complete is read again as a text, and so checked. */
function address(path: string, given: string | ResolverAddress, parse: (text: string) => ResolverAddress) {
  return told(path, () => {
    if (typeof given === 'string') return parse(given)
    if (typeof given === 'object' && given !== null && typeof given.host === 'string') return parse(resolverText(given))
    throw new FormatError('what is no resolver', 'a text as udp://192.0.2.53')
  })
}

/** A list of rules, the path of a file, or what is complete. Throws ConfigError. */
export function rulesFromInput(rules: NonNullable<GatewayInput['rules']>): RulesOptions {
  const none = { written: [], place: 'rules', folder: resolve(), file: '' }
  if (typeof rules === 'string') return { ...none, file: rules === '' ? '' : resolve(rules) }
  if (typeof rules === 'object' && 'written' in rules) return rules
  if (!Array.isArray(rules)) throw wrong('rules', 'no list', 'a list of rules, or the path of a file')
  return { ...none, written: rules.map((rule: unknown, at) => writtenRule(rule, `rules: rule ${at + 1}`)) }
}

function writtenRule(rule: unknown, place: string): WrittenRule {
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule))
    throw wrong(place, 'no object', '{ to: TARGET } and conditions')
  const given = Object.entries(rule).filter(([, value]) => value !== undefined)
  const keys = given.map(([key, value]) => {
    const values: unknown[] = Array.isArray(value) ? value : [value]
    if (!values.every(each => ['string', 'number', 'boolean'].includes(typeof each)))
      throw wrong(`${place}: ${key.slice(0, 40)}`, 'no text', 'a value or a list of values')
    return { key, line: 0, values: values.map(each => ({ text: String(each), line: 0 })) }
  })
  return { line: 0, keys }
}

function told<T>(path: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw error instanceof FormatError ? wrong(path, error.found, error.allowed) : error
  }
}

function wrong(path: string, found: string, allowed: string): ConfigError {
  return new ConfigError('CONFIG_VALUE', `${path}: found ${found}, allowed: ${allowed}`)
}
