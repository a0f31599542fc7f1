/** Every input that failed once, and the corpus, against what WebAssembly makes of lwIP and its glue. `make fuzz` plays them natively. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { readText } from '../../src/stack/abi.ts'
import { Instance, type Memory, Module } from '../../src/stack/webassembly.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))

interface Target {
  readonly memory: Memory
  _initialize(): void
  fuzz_buffer(): number
  fuzz_run(bytes: number): void
  tg_trap_reason(): number
}

test.before(() => {
  execFileSync('sh', ['test/fuzz/build.sh', 'wasm'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
})

function start(module: Module): Target {
  const target = new Instance(module, {}).exports as Target
  target._initialize()
  return target
}

function inputs(kind: string, target: string): { name: string; bytes: Buffer }[] {
  const folder = `${root}test/fuzz/${kind}/${target}`
  if (!existsSync(folder)) return []
  return readdirSync(folder).map(name => ({ name, bytes: readFileSync(`${folder}/${name}`) }))
}

for (const name of ['stack', 'packet', 'fragments'])
  for (const kind of ['regressions', 'corpus'])
    test(`fuzz: ${kind} of the target ${name}: no trap, nothing left, a new client is served`, t => {
      const module = new Module(readFileSync(`${root}build/fuzz/${name}.wasm`))
      const played = inputs(kind, name)
      let target: Target | undefined
      for (const input of played) {
        target ??= start(module)
        new Uint8Array(target.memory.buffer).set(input.bytes, target.fuzz_buffer())
        try {
          target.fuzz_run(input.bytes.length)
        } catch (error) {
          const reason = target.tg_trap_reason()
          t.fail(`${input.name}: ${reason === 0 ? error : readText(target.memory.buffer, reason)}`)
          target = undefined
        }
      }
      if (kind === 'corpus') t.true(played.length > 0)
      else t.pass()
    })
