/**
 * argv → command → exit code, run when imported. Each command loads what it needs, when it is called: `--help` is there at
 * once, and a wrong key is told without WebAssembly, addon and log.
 */
import { COMMANDS, type Command, help, version } from './commands/help.ts'
import { type FlagSet, type Flags, parseFlags, usageError } from './config/flags.ts'
import { suggestion } from './config/suggest.ts'
import type { Sources } from './config.ts'
import { ConfigError } from './errors.ts'
import { quote, redactUrls } from './redact.ts'

const FLAG_SETS: Record<Exclude<Command, 'demo' | 'help'>, FlagSet> = {
  run: { command: 'run', paths: 'all', switches: [] },
  config: { command: 'config', paths: 'all', switches: [] },
  explain: { command: 'explain', paths: 'all', switches: ['--json'], values: ['--source', '--domain'] },
  status: { command: 'status', paths: ['tun.name', 'status.socket'], switches: ['--json'] },
}

async function main(args: readonly string[]): Promise<number> {
  const [first, ...rest] = args
  if (first === undefined) {
    complain(help())
    return 2
  }
  if (first === '--version') return print(`${version()}\n`)
  if (first === '--help' || first === '-h') return print(help())
  const command = COMMANDS.find(name => name === first)
  if (command === undefined) throw unknownCommand(first)
  if (command === 'help') return print(help(rest.length === 0 ? undefined : helpTopic(rest)))
  if (command === 'demo') {
    if (rest.includes('--help') || rest.includes('-h')) return print(help('demo'))
    const { demo } = await import('./commands/demo.ts')
    return await demo(rest)
  }
  const flags = parseFlags(rest, FLAG_SETS[command])
  if (flags.help) return print(help(command))
  if (command === 'config') return await configCommand(flags)
  if (command === 'explain') return await explainCommand(flags)
  if (flags.words.length > 0)
    throw usageError(`${quote(flags.words[0]!)}: ${command} takes flags only, see tungate ${command} --help`)
  return command === 'run' ? await runCommand(flags) : await statusCommand(flags)
}

async function runCommand(flags: Flags): Promise<number> {
  const { config } = await load(flags, true)
  const { run } = await import('./commands/run.ts')
  const { loadConfig } = await import('./config.ts')
  const sources = sourcesOf(flags, true)
  return await run({
    config,
    version: version(),
    load: () => import('./gateway.ts'),
    reread: () => loadConfig(sources).config,
    file: sources.file ?? process.env.TUNGATE_CONFIG,
  })
}

async function explainCommand(flags: Flags): Promise<number> {
  const { config } = await load(flags, false)
  const { explainFlow } = await import('./commands/explain.ts')
  return print(await explainFlow(config, { ...flags, json: flags.switches.has('--json') }))
}

async function statusCommand(flags: Flags): Promise<number> {
  const { config } = await load(flags, false)
  if (config.status.socket === '')
    throw usageError("status.socket: found '' (off), allowed the path that the gateway was given")
  const { status } = await import('./commands/status.ts')
  return print(await status(config.status.socket, flags.switches.has('--json')))
}

async function configCommand(flags: Flags): Promise<number> {
  const [action, extra] = flags.words
  const known = ['check', 'show']
  if (action === undefined) throw usageError('config: found nothing, allowed config check or config show')
  if (!known.includes(action))
    throw usageError(`config: found ${quote(action)}${suggestion(action, known)}, allowed check or show`)
  if (extra !== undefined) throw usageError(`${quote(extra)}: config ${action} takes flags only`)
  const loaded = await load(flags, action === 'check')
  const { checkUpstreams, configCheck, configShow } = await import('./commands/config.ts')
  if (action === 'show') return print(configShow(loaded))
  const { checkRules } = await import('./commands/rules-of.ts')
  checkUpstreams(loaded.config)
  for (const warning of await checkRules(loaded.config)) complain(`tungate: ${warning}\n`)
  return print(configCheck(loaded))
}

async function load(flags: Flags, requireProxy: boolean) {
  const { loadConfig } = await import('./config.ts')
  return loadConfig(sourcesOf(flags, requireProxy))
}

function sourcesOf({ file, flags }: Flags, requireProxy: boolean): Sources {
  const uid = process.getuid!()
  return { environment: process.env, flags, uid, requireProxy, ...(file === undefined ? {} : { file }) }
}

function helpTopic(words: readonly string[]): Command {
  const topic = COMMANDS.find(name => name === words[0])
  if (topic === undefined) throw unknownCommand(words[0]!)
  return topic
}

function unknownCommand(word: string): ConfigError {
  const name = word.startsWith('-') ? word.replace(/=.*/s, '') : word
  if (name.startsWith('-'))
    return usageError(`${quote(name)}: found a flag, allowed a command first, as in tungate run --tun NAME --proxy URL`)
  const near = suggestion(name, COMMANDS)
  return usageError(`${quote(name)}: unknown command${near === '' ? `, allowed ${COMMANDS.join(', ')}` : near}`)
}

function print(text: string): 0 {
  // `tungate status | head -1` ends the pipe early: no reason to fail, and nowhere to say so.
  process.stdout.on('error', () => process.exit(0)).write(text)
  return 0
}

function complain(text: string): void {
  process.stderr.on('error', () => {}).write(text)
}

/** One line, no stack (but with TUNGATE_LOG_LEVEL=debug). Returns the exit code. */
function report(error: unknown): number {
  // Our own messages are free of secrets; what else comes here may not be.
  const safe = error instanceof ConfigError ? (text: string) => text : redactUrls
  const message = error instanceof Error ? error.message : String(error)
  const isDebug = process.env.TUNGATE_LOG_LEVEL === 'debug' && error instanceof Error
  complain(`tungate: ${safe(message).replaceAll('\n', ' ')}\n${isDebug ? `${safe(error.stack ?? '')}\n` : ''}`)
  return error instanceof ConfigError ? 2 : 1
}

void main(process.argv.slice(2))
  .catch(report)
  .then(code => process.exit(code))
