/**
 * Runs a command as an unprivileged user who may open /dev/net/tun, on a machine whose own node is root's: in a private
 * mount namespace with a node of its own. For tests that run as root and want to know that nothing needs it.
 */
import { type RunOptions, type RunResult, runToEnd } from '../../src/demo/namespace.ts'

const NOBODY = 65_534

/** The node lives on a tmpfs that has no place in the tree any more once it is bound, and goes with the namespace. */
const PREPARE = `
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mknod /mnt/tun c 10 200
chmod 666 /mnt/tun
mount --bind /mnt/tun /dev/net/tun
umount -l /mnt
user=$1
shift
exec setpriv --reuid "$user" --regid "$user" --clear-groups --pdeathsig KILL -- "$@"
`

/** argv of the command as that user. Only root can run it. */
export function rootlessArgv(command: string, args: readonly string[] = [], uid = NOBODY): [string, ...string[]] {
  return ['unshare', '-m', 'sh', '-c', PREPARE, 'sh', String(uid), command, ...args]
}

export function runRootless(
  command: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<RunResult> {
  const [file, ...rest] = rootlessArgv(command, args)
  return runToEnd(file, rest, options)
}
