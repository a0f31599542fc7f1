/** Namespaces for tests: those of the demo, and veth pairs between them. */
import type { Namespace } from '../../src/demo/namespace.ts'

export { createNamespace, type Namespace, type NamespaceOptions, type RunResult } from '../../src/demo/namespace.ts'

export interface VethOptions {
  /** Names of the device in `a` and in `b`. Default: `veth0` in both. */
  readonly names?: readonly [string, string]
  /** Addresses with their prefix lengths, IPv4 and IPv6: `10.1.0.1/24`, `fd01::1/64`. */
  readonly addresses: { readonly a: readonly string[]; readonly b: readonly string[] }
  readonly mtu?: number
}

/**
 * A veth pair between two namespaces, up and addressed. Rootless ones must share a user namespace: the second is made
 * with `createNamespace({ within: first })`.
 */
export async function connectNamespaces(a: Namespace, b: Namespace, options: VethOptions): Promise<void> {
  const [nameA, nameB] = options.names ?? ['veth0', 'veth0']
  const mtu = options.mtu ? `mtu ${options.mtu} ` : ''
  await a.ip([`link add ${nameA} ${mtu}type veth peer name ${nameB} ${mtu}netns ${b.pid}`])
  await Promise.all([configure(a, nameA, options.addresses.a), configure(b, nameB, options.addresses.b)])
  await Promise.all([untilUp(a, nameA), untilUp(b, nameB)])
}

async function configure(namespace: Namespace, device: string, addresses: readonly string[]): Promise<void> {
  const lines = addresses.map(address => `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`)
  await namespace.ip([...lines, `link set ${device} up`])
}

/** Carrier comes when both ends are up, a moment after the last command. */
async function untilUp(namespace: Namespace, device: string): Promise<void> {
  for (const deadline = Date.now() + 5000; Date.now() < deadline; ) {
    const shown = await namespace.mustRun('ip', ['-o', 'link', 'show', 'dev', device])
    if (shown.includes('LOWER_UP')) return
  }
  throw new Error(`${device} has no carrier`)
}
