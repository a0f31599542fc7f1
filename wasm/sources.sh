# lwIP's sources and the glue's, for who compiles them: sourced with wasm/ as the working folder.
#
# lwIP is Debian's source package, named and hashed in lwip.lock; LWIP_DIR=FOLDER (with src/ inside) serves instead where
# there is no apt. Afterwards $lwip is its src/, and compile_all OBJECTS calls `compile ARGUMENTS` once a source.
work=../build/lwip

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

core="init def inet_chksum ip mem memp netif pbuf raw stats sys tcp tcp_in tcp_out udp timeouts"
v4="icmp ip4 ip4_addr ip4_frag"
v6="icmp6 inet6 ip6 ip6_addr ip6_frag nd6"
includes="-Iinclude -Isrc -I$lwip/include"

compile_all() {
  rm -rf "$1" && mkdir -p "$1"
  for name in $core; do compile -w -c "$lwip/core/$name.c" -o "$1/lwip-$name.o"; done
  for name in $v4; do compile -w -c "$lwip/core/ipv4/$name.c" -o "$1/lwip-$name.o"; done
  for name in $v6; do compile -w -c "$lwip/core/ipv6/$name.c" -o "$1/lwip-$name.o"; done
  for file in src/*.c src/*/*.c; do
    compile -Wall -Wextra -Werror -Wno-address-of-packed-member -c "$file" -o "$1/$(echo "${file%.c}" | tr / -).o"
  done
}
