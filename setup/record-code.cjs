/**
 * Loaded before the command by setup/bundle.mjs: when it ends, what V8 compiled of each script is written beside it, as
 * src/tungate.cts wants it: the code, the code again, the script.
 */
const { writeFileSync } = require('node:fs')
const { setFlagsFromString } = require('node:v8')
const vm = require('node:vm')

const { Script } = vm
vm.Script = function (source, options) {
  const { filename } = options
  // All of it: no trial run reaches what serves the first connection. Of the parts little is used.
  const isWhole = filename.endsWith('/cli.cjs')
  if (isWhole) setFlagsFromString('--no-lazy')
  const script = new Script(source, options)
  if (isWhole) setFlagsFromString('--lazy')
  process.once('exit', () => {
    const file = filename.replace(/\.cjs$/, `-${process.version}-${process.arch}.cache`)
    const code = script.createCachedData()
    writeFileSync(file, Buffer.concat([code, code, Buffer.from(source, 'latin1')]))
  })
  return script
}
