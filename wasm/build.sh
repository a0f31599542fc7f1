#!/bin/sh
# lwIP + glue → wasm/lwip.wasm. Nothing is done, and nothing said, when the module is newer than everything it is made of.
set -eu
cd "$(dirname "$0")"
out=lwip.wasm

if [ -f $out ] && [ -z "$(find src include lwip.lock build.sh sources.sh -newer $out -print -quit)" ]; then exit 0; fi

. ./sources.sh
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || fail "no clang: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32"
echo "wasm: compiling lwIP and its glue"
compile() {
  "$clang" --target=wasm32-wasi -O3 -flto -msimd128 -mbulk-memory -std=gnu11 $includes "$@"
}
objects=../build/lwip/objects
compile_all $objects
# Memory is exported and never grows, so the host's views of it are made once.
compile -mexec-model=reactor -Wl,--initial-memory=268435456,--max-memory=268435456,-z,stack-size=262144,--strip-debug \
  $objects/*.o -o $out.part
mv $out.part $out
cp -f "$(dirname "$lwip")/COPYING" NOTICE.lwip 2>/dev/null || true
