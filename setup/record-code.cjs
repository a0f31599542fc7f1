/**
 * Loaded before the command by setup/bundle.mjs: when it ends, what V8 compiled of each script is written beside it, as
 * src/tungate.cts wants it: the code, the code again, the script. Our own parts are compiled whole, those too that no run loads.
 */
const { readdirSync, readFileSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { setFlagsFromString } = require('node:v8')
const vm = require('node:vm')

const { Script } = vm
const folder = join(__dirname, '../dist/src/bundle')
const PACKAGES = /\/(convict|winston|yaml)\.[^/]*$/
const compiled = new Map()

vm.Script = function (source, options) {
  const { filename } = options
  const isWhole = !PACKAGES.test(filename)
  if (isWhole) setFlagsFromString('--no-lazy')
  const script = new Script(source, options)
  if (isWhole) setFlagsFromString('--lazy')
  compiled.set(filename, [script, source])
  return script
}

process.once('exit', () => {
  for (const name of readdirSync(folder).filter(each => each.endsWith('.cjs'))) {
    const filename = join(folder, name)
    if (!compiled.has(filename) && !PACKAGES.test(filename)) new vm.Script(readFileSync(filename, 'latin1'), { filename })
  }
  for (const [filename, [script, source]] of compiled) {
    const code = script.createCachedData()
    const file = filename.replace(/\.cjs$/, `-${process.version}-${process.arch}.cache`)
    writeFileSync(file, Buffer.concat([code, code, Buffer.from(source, 'latin1')]))
  }
})
