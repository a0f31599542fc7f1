#!/bin/sh
# lwIP + glue → wasm/lwip.wasm.
#
# lwIP is Debian's source package, named and hashed in lwip.lock; LWIP_DIR=FOLDER (with src/ inside) serves instead where
# there is no apt. Nothing is done, and nothing said, when the module is newer than everything it is made of.
set -eu
cd "$(dirname "$0")"
out=lwip.wasm
work=../build/lwip

if [ -f $out ] && [ -z "$(find src include lwip.lock build.sh -newer $out -print -quit)" ]; then exit 0; fi

lock() { awk -v key="$1" '$1 == key { print $2 }' lwip.lock; }
fail() { echo "wasm: $*" >&2; exit 1; }

fetch() {
  command -v apt-get >/dev/null || fail "no apt-get here: name a folder of lwIP $(lock version) sources with LWIP_DIR=FOLDER"
  mkdir -p $work/apt/lists/partial
  package=$(lock package)
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -v security | head -n 1)
  [ -n "$mirror" ] || fail "apt knows no mirror: name a folder of lwIP sources with LWIP_DIR=FOLDER"
  # The lists are private and the hash is ours, so neither the system's lists nor its keys matter.
  echo "deb-src [trusted=yes] $mirror $(lock suite) main" > $work/apt/sources.list
  echo "wasm: fetching the source package $(lock package) $(lock version)"
  (
    cd $work/apt
    set -- -qq -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::State::lists="$PWD/lists" -o APT::Sandbox::User=root
    apt-get "$@" update
    apt-get "$@" source --download-only "$package"
  ) > $work/apt/log 2>&1 || { cat $work/apt/log >&2; fail "the source package could not be fetched"; }
  mv "$work/apt/$(lock file)" "$work/$(lock file)"
}

if [ -n "${LWIP_DIR:-}" ]; then
  [ -f "$LWIP_DIR/src/core/tcp.c" ] || fail "LWIP_DIR=$LWIP_DIR: no src/core/tcp.c there"
  lwip=$LWIP_DIR/src
else
  mkdir -p $work
  archive="$work/$(lock file)"
  [ -f "$archive" ] || fetch
  echo "$(lock sha256)  $archive" | sha256sum --check --quiet - || { rm -f "$archive"; fail "$(lock file) has not the hash of lwip.lock"; }
  [ -d $work/source ] || { mkdir -p $work/source.part; tar -xf "$archive" -C $work/source.part --strip-components=1; mv $work/source.part $work/source; }
  lwip=$work/source/src
fi

clang=${CLANG:-clang}
command -v "$clang" >/dev/null || fail "no clang: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32"
echo "wasm: compiling lwIP and its glue"
core="init def inet_chksum ip mem memp netif pbuf raw stats sys tcp tcp_in tcp_out udp timeouts"
v4="icmp ip4 ip4_addr ip4_frag"
v6="icmp6 inet6 ip6 ip6_addr ip6_frag nd6"
objects=../build/lwip/objects
rm -rf $objects && mkdir -p $objects
compile() {
  "$clang" --target=wasm32-wasi -O3 -flto -msimd128 -mbulk-memory -std=gnu11 -Iinclude -Isrc -I"$lwip/include" "$@"
}
for name in $core; do compile -w -c "$lwip/core/$name.c" -o "$objects/lwip-$name.o"; done
for name in $v4; do compile -w -c "$lwip/core/ipv4/$name.c" -o "$objects/lwip-$name.o"; done
for name in $v6; do compile -w -c "$lwip/core/ipv6/$name.c" -o "$objects/lwip-$name.o"; done
for file in src/*.c; do
  compile -Wall -Wextra -Werror -Wno-address-of-packed-member -c "$file" -o "$objects/$(basename "$file" .c).o"
done
# Memory is exported and never grows, so the host's views of it are made once.
compile -mexec-model=reactor -Wl,--initial-memory=268435456,--max-memory=268435456,-z,stack-size=262144,--strip-debug \
  $objects/*.o -o $out.part
mv $out.part $out
cp -f "$(dirname "$lwip")/COPYING" NOTICE.lwip 2>/dev/null || true
