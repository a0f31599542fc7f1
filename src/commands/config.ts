/** `tungate config check` and `tungate config show`. */

import { KEYS } from '../config/keys.ts'
import type { Config, Loaded } from '../config.ts'
import { readPem, tlsOptions, underKey } from '../upstream/transport/tls-options.ts'

export function configCheck({ origins }: Loaded): string {
  const places = new Set([...origins.values()].map(origin => origin.replace(/:\d+$/, '')))
  const keys = `${origins.size} key${origins.size === 1 ? '' : 's'} set`
  return `the configuration is right: ${keys}${origins.size === 0 ? '' : ` by ${[...places].join(', ')}`}\n`
}

/** Files of TLS. Throws ConfigError. */
export function checkUpstreams(config: Config): void {
  for (const [name, upstream] of Object.entries(config.upstreams)) {
    if (upstream.kind === 'group') continue
    for (const hop of upstream.hops)
      if ('tls' in hop && hop.tls !== undefined && 'host' in hop.server) {
        const { tls, server } = hop
        underKey(name, () => tlsOptions(tls, server.host, readPem))
      }
  }
}

/** YAML, each line with its origin. */
export function configShow({ shown, origins }: Loaded): string {
  const lines: { text: string; origin: string | undefined }[] = []
  let section = ''
  for (const { path, format } of KEYS) {
    const [first, name] = path.split('.') as [string, string | undefined]
    if (name !== undefined && first !== section) {
      section = first
      lines.push({ text: `${section}:`, origin: undefined })
    }
    const text = shown.get(path)!
    const value = format.isStructured && /^[[{]/.test(text) ? text : yamlText(text)
    lines.push({
      text: `${name === undefined ? first : `  ${name}`}: ${value}`,
      origin: origins.get(path) ?? 'default',
    })
  }
  const width = Math.min(50, Math.max(...lines.map(line => line.text.length)))
  return lines
    .map(({ text, origin }) => (origin === undefined ? `${text}\n` : `${text.padEnd(width)}  # ${origin}\n`))
    .join('')
}

function yamlText(text: string): string {
  return /^[\w./]([\w.:/@*[\]%-]*[\w./\]])?$/.test(text) ? text : `'${text.replaceAll("'", "''")}'`
}
