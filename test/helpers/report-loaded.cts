/** Given to node by --require: at the end, what the command has loaded stands on descriptor 3 as a JSON list. */
const { writeSync } = require('node:fs') as typeof import('node:fs')
const { basename } = require('node:path') as typeof import('node:path')
const vm = require('node:vm') as typeof import('node:vm')

const loaded: string[] = []

vm.Script = class extends vm.Script {
  constructor(code: string, options: { filename: string }) {
    super(code, options)
    loaded.push(basename(options.filename))
  }
}

const { dlopen } = process
process.dlopen = (...args: Parameters<typeof dlopen>) => {
  loaded.push(basename(args[1]))
  dlopen.apply(process, args)
}

process.on('exit', () => {
  const own = (process as unknown as { moduleLoadList: string[] }).moduleLoadList
  writeSync(3, JSON.stringify([...loaded, ...own.map(name => name.replace('NativeModule ', 'node:'))]))
})
