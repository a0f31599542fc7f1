/**
 * The process that is measured: runs the script, and prints its costs as JSON. The stack is imported when the probe is
 * in its place.
 */
import { installProbe } from './probe.ts'

const probe = installProbe(process.env.COST_SYSTEM_CALLS ?? '')
const { runScript } = await import('./script.ts')
console.log(JSON.stringify(await runScript(probe)))
process.exit(0)
