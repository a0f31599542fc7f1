#!/bin/sh
# setup/apt-install.sh PACKAGE…: installs them, as root. Servers among them are neither started now nor at boot: the
# tests start their own. What was installed before keeps its state.
set -eu
PATH=$PATH:/usr/sbin:/sbin
servers="danted iperf3 microsocks nginx redsocks squid stunnel4"
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
made=

has() { command -v "$1" >/dev/null 2>&1; }
cleanup() { rm -f "$log"; [ -z "$made" ] || rm -f "$policy"; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

fresh=
for name in $servers; do has "$name" || fresh="$fresh $name"; done

# invoke-rc.d and deb-systemd-invoke ask it (exit 101: not allowed). One that is there already is the machine's own.
if [ ! -e $policy ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
quietly() { "$@" > "$log" 2>&1 < /dev/null || { cat "$log" >&2; echo "setup: $1 failed" >&2; exit 1; }; }
quietly apt-get -q update
quietly apt-get -q -y --no-install-recommends install "$@"

for name in $fresh; do
  has "$name" || continue
  update-rc.d "$name" disable > "$log" 2>&1 || true
  if [ -z "$made" ]; then invoke-rc.d "$name" stop > "$log" 2>&1 || true; fi
done
