import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { startHttpServer } from '../../src/demo/http-server.ts'
import { createNamespace } from '../../src/demo/namespace.ts'
import { startSocksServer } from '../../src/demo/socks-server.ts'
import { temporaryFolder } from '../commands/tungate.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../../', import.meta.url))
const modules = join(root, 'node_modules')

/** A user's program: typed against the package's own declarations. */
const PROGRAM = `
import { createGateway, type Gateway, GatewayError, type GatewayInput } from 'tungate'

const [pid, port, workers] = process.argv.slice(2).map(Number) as [number, number, number]
const options: GatewayInput = {
  tun: { name: 'tun7', pid, mtu: 1500, address4: '198.18.0.1/15', address6: '', offload: 'auto' },
  proxy: { host: '127.0.0.1', port },
  upstream: { handshake: 'auto', pool: 16 },
  bind: { interface: '', mark: 0 },
  tcp: { connectTimeoutMs: 5000, halfCloseTimeoutMs: 60_000, idleTimeoutMs: 60_000, keepAliveMs: 0 },
  udp: { idleTimeoutMs: 60_000, maxAssociations: 16 },
  limits: { flows: 100, dials: 10, dialsPerSource: 10 },
  icmp: { echo: 'off' },
  workers,
}
const gateway: Gateway = createGateway(options)
gateway.on('error', (error: GatewayError) => console.error(error.code))
await gateway.start()
console.log('started', gateway.tunName)
process.stdin.resume().on('end', async () => {
  // The last segments of a flow come after curl has its bytes.
  while (gateway.flows().length > 0) await new Promise(resolve => setTimeout(resolve, 10))
  const opened: number | undefined = gateway.counters().tcp_opened
  console.log('opened', opened)
  await gateway.close()
})
`
/** Must be refused by the compiler: the declarations are those of the package, not \`any\`. */
const WRONG = `
import { createGateway } from 'tungate'
createGateway({ proxy: { host: 1 } })
`
const TSCONFIG = {
  compilerOptions: { module: 'nodenext', target: 'es2022', strict: true, types: ['node'], outDir: 'out', rootDir: '.' },
}

/** Packed by npm as it is built (`prepack` may have to write into the tree), unpacked into node_modules of a new project beside its dependencies. */
async function install(project: string): Promise<string[]> {
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', project, '--cache', join(project, 'cache')], {
    cwd: root,
  })
  const tarball = readdirSync(project).find(name => name.endsWith('.tgz'))!
  const { stdout } = await run('tar', ['-tzf', join(project, tarball)])
  const target = join(project, 'node_modules/tungate')
  mkdirSync(target, { recursive: true })
  await run('tar', ['-xzf', join(project, tarball), '-C', target, '--strip-components=1'])
  const { dependencies } = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8'))
  for (const name of [...Object.keys(dependencies), '@types'])
    symlinkSync(join(modules, name), join(project, 'node_modules', name))
  writeFileSync(join(project, 'package.json'), '{"type": "module"}\n')
  return stdout
    .trim()
    .split('\n')
    .map(path => path.replace('package/', ''))
    .sort()
}

test('package: the tarball has what is needed to run, and nothing else', async t => {
  const project = temporaryFolder(t)
  const files = await install(project)
  for (const needed of [
    'package.json',
    'dist/src/tungate.cjs',
    'dist/src/bundle/cli.cjs',
    `dist/src/bundle/cli-${process.version}-${process.arch}.cache`,
    'dist/src/bundle/names-service.cjs',
    'dist/src/bundle/yaml.cjs',
    'dist/src/bundle/NOTICE',
    'dist/src/cli.js',
    'dist/src/gateway.js',
    'dist/src/gateway.d.ts',
    'dist/src/demo/client-program.js',
    'dist/src/demo/origin-thread.js',
    'wasm/lwip.wasm',
    'wasm/NOTICE.lwip',
    'native/tungate.node',
    'config/default.yaml',
    'docs/configuration.md',
  ])
    t.true(files.includes(needed), needed)
  // npm adds these by itself wherever they are.
  const usual = /^(README|LICENSE|CHANGELOG|ARCHITECTURE|package\.json)/
  const places = /^(dist\/src|config|docs)\/|^(wasm\/lwip\.wasm|wasm\/NOTICE\.lwip|native\/tungate\.node)$/
  t.deepEqual(
    files.filter(file => !places.test(file) && !usual.test(file)),
    [],
  )
  const { version, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const command = join(project, 'node_modules/tungate', bin.tungate)
  t.is((await run(process.execPath, [command, '--version'])).stdout.trim(), version)
})

test('package: a typed program imports tungate by its name and carries a download, where there is no compiler', async t => {
  const project = temporaryFolder(t)
  await install(project)
  writeFileSync(join(project, 'program.ts'), PROGRAM)
  writeFileSync(join(project, 'wrong.ts'), WRONG)
  const compile = async (file: string) => {
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ ...TSCONFIG, files: [file] }))
    const result = await run(join(modules, '.bin/tsc'), ['-p', project]).catch(error => error)
    return result.stdout as string
  }
  t.regex(await compile('wrong.ts'), /wrong\.ts.*error TS/)
  t.is(await compile('program.ts'), '')

  const namespace = await createNamespace()
  t.teardown(() => namespace.close())
  const http = await startHttpServer()
  t.teardown(() => http.close())
  const socks = await startSocksServer({ rewrite: () => ({ address: Uint8Array.of(127, 0, 0, 1), port: http.port }) })
  t.teardown(() => socks.close())

  // No program at all on PATH: neither a compiler nor anything that could fetch one.
  const empty = join(project, 'empty')
  mkdirSync(empty)
  for (const workers of [1, 2]) {
    const child = execFile(
      process.execPath,
      [join(project, 'out/program.js'), ...[namespace.pid, socks.port, workers].map(String)],
      { cwd: project, env: { PATH: empty }, timeout: 30_000 },
    )
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    child.stderr?.on('data', text => {
      said += text
    })
    const ended = new Promise(resolve => child.once('exit', resolve))
    await new Promise<void>((resolve, reject) => {
      ended.then(code => reject(new Error(`exit ${code}: ${said}`)))
      child.stdout?.on('data', text => {
        said += text
        if (said.includes('started')) resolve()
      })
    })
    await namespace.ip(['route add 0.0.0.0/0 dev tun7'])
    const curl = ['-q', '--noproxy', '*', '-sS', '-o', '/dev/null', '-w', '%{http_code} %{size_download}']
    const shown = await namespace.mustRun('curl', [...curl, 'http://203.0.113.9/bytes/3000000'])
    t.is(shown, '200 3000000')
    child.stdin?.end()
    t.is(await ended, 0, said)
    t.is(said, 'started tun7\nopened 1\n')
    t.false(existsSync(`/proc/${child.pid}`))
  }
})
