/** The rules of a configuration, read where nothing runs: for `config check` and `explain`. */
import { dirname } from 'node:path'
import type { Config } from '../config.ts'
import { type CompiledRules, compileRaws, compileText } from '../rules/compile.ts'
import { deafRules, isScript, type RulesTargets, readRulesText } from '../rules/load-rules.ts'
import { loadScript } from '../rules/script.ts'

export function targetsOf({ upstreams, proxy = 'proxy' }: Pick<Config, 'upstreams' | 'proxy'>): RulesTargets {
  return { upstreams: Object.keys(upstreams), defaultUpstream: proxy }
}

/** Of all but scripts. Throws ConfigError. */
export function rulesOf(config: Pick<Config, 'upstreams' | 'proxy' | 'rules'>): CompiledRules {
  const { file, written, place, folder } = config.rules
  if (file === '') return compileRaws(written, { file: place, folder, ...targetsOf(config) })
  return compileText(readRulesText(file), { file, folder: dirname(file), ...targetsOf(config) })
}

/** Throws ConfigError; gives back what to be warned of. */
export async function checkRules(config: Pick<Config, 'upstreams' | 'proxy' | 'rules' | 'dns'>): Promise<string[]> {
  const { file } = config.rules
  if (isScript(file)) {
    const script = await loadScript({ file, upstreams: targetsOf(config).upstreams, onComplaint: () => {} })
    await script.close()
    return []
  }
  const deaf = deafRules(rulesOf(config))
  return deaf === undefined || config.dns.mode === 'map' ? [] : [deaf]
}
