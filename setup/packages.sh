#!/bin/sh
# setup/packages.sh GROUP…: makes sure that the programs of build, demo, test, browser, fuzz, soak or bench are there. Looks
# for programs and files, not for packages, so it is silent on every machine that has them. What is missing is installed as
# root by apt; without root or apt the line to run is printed. Exit: 0 all there, 1 apt failed, 3 something is missing.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(dirname "$0")
missing=

has() { command -v "$1" >/dev/null 2>&1; }
want() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }
program() { has "$1" || want "$2"; }

# Asks the compilers themselves: where their files lie differs between versions and distributions.
compiles() { echo "#include <$1>" | "$2" $3 -fsyntax-only -x c - 2>/dev/null; }

build() {
  clang=${CLANG:-clang} cc=${CC:-cc} wasm=--target=wasm32-wasi
  program "$clang" clang
  program wasm-ld lld
  compiles stdlib.h "$clang" $wasm || want wasi-libc
  [ -f "$("$clang" $wasm -print-libgcc-file-name 2>/dev/null)" ] || want libclang-rt-dev-wasm32
  [ -n "${LWIP_DIR:-}" ] || program xz xz-utils
  program "$cc" gcc
  compiles stdio.h "$cc" "" || want libc6-dev
  [ -f "$(dirname "$(readlink -f "$(command -v node)")")/../include/node/uv.h" ] || [ -f /usr/include/uv.h ] || want libuv1-dev
}

demo() {
  program curl curl
  program ip iproute2
  program mount mount
  for name in unshare nsenter setpriv; do program $name util-linux; done
}

tests() {
  demo
  program danted dante-server
  program microsocks microsocks
  program iperf3 iperf3
  program nmap nmap
  program nginx nginx-light
  program squid squid
  program tinyproxy tinyproxy-bin
  program stunnel stunnel4
  program ssh openssh-client
  program dropbear dropbear-bin
  program dnsmasq dnsmasq-base
  program dnsperf dnsperf
  program dig bind9-dnsutils
  nc -h 2>&1 | grep -q OpenBSD || want netcat-openbsd
  program perl perl-base
  program ps procps
}

# The browser without its windows, or with them where it is there already.
browser() { has chromium || program chromium-headless-shell chromium-headless-shell; }

# The sanitizers' and libFuzzer's i386 parts, and the C and C++ libraries that go with them (test/fuzz/build.sh).
fuzz() {
  clang=${CLANG:-clang}
  program "$clang" clang
  [ -n "${LWIP_DIR:-}" ] || program xz xz-utils
  program llvm-symbolizer llvm
  echo 'int LLVMFuzzerTestOneInput(const char *at, unsigned size); int LLVMFuzzerTestOneInput(const char *at, unsigned size) { return at == 0 && size; }' |
    "$clang" -m32 -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null || { want libclang-rt-dev; want g++-multilib; }
}

soak() {
  demo
  program nft nftables
}

bench() {
  program iperf3 iperf3
  program ip iproute2
  program ps procps
}

for group; do
  case $group in
    build | demo | browser | fuzz | soak | bench) $group ;;
    test) tests ;;
    *) echo "setup/packages.sh: '$group' is none of build, demo, test, browser, fuzz, soak, bench" >&2; exit 2 ;;
  esac
done
[ -n "$missing" ] || exit 0

line="apt-get install --no-install-recommends$missing"
if ! has apt-get; then
  echo "setup: missing; on Debian these packages have it:$missing" >&2
  exit 3
fi
if [ "$(id -u)" != 0 ]; then
  printf 'setup: packages are missing. As root:\n  %s\n' "$line" >&2
  exit 3
fi
echo "setup: $line"
"$here/apt-install.sh" $missing
