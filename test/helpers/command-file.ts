import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** The command as users have it, to be given to node. */
export const commandFile = join(root, 'dist/src/tungate.cjs')

// It runs the bundle: one that was made before a source was changed would be tested in its place.
const madeMs = statSync(join(root, 'dist/src/bundle/cli.cjs'), { throwIfNoEntry: false })?.mtimeMs ?? 0
const newer = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).find(
  file => statSync(join(root, 'src', file)).isFile() && statSync(join(root, 'src', file)).mtimeMs > madeMs,
)
if (newer !== undefined) throw new Error(`dist/src/bundle is older than src/${newer}: make build`)
