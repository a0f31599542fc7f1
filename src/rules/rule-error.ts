import { ConfigError } from '../errors.ts'

/** A mistake in the form. `rule` 0: none of them. */
export function ruleError(file: string, line: number, rule: number, message: string): ConfigError {
  const place = line === 0 ? file : `${file}:${line}`
  return new ConfigError('CONFIG_FILE', `${place}: ${rule === 0 ? '' : `rule ${rule}: `}${message}`)
}
