#!/bin/sh
# The fuzz targets, into build/fuzz: test/fuzz/build.sh native | wasm.
#
# native: glue, lwIP and one target each under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, for i386: there
#         pointers have 32 bits as in WebAssembly, so the sources are compiled as they are.
# wasm:   the same without sanitizers, for the tests that play regressions and corpus to what WebAssembly makes of the sources.
#
# Nothing is done, and nothing said, when they are newer than all that they are made of.
set -eu
cd "$(dirname "$0")/../../wasm"
kind=$1
traced=
fuzz=../test/fuzz
out=../build/fuzz
stamp=$out/.$kind

if [ -f $stamp ] && [ -z "$(find src include lwip.lock sources.sh ../native/*.[ch] $fuzz/*.[ch] $fuzz/build.sh -newer $stamp -print -quit)" ]; then exit 0; fi

. ./sources.sh
clang=${CLANG:-clang}
common="-std=gnu11 $includes -I$fuzz -include allocator.h"
sanitizers="-g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=address,undefined"
case $kind in
native)
  # export_name means nothing here, the C library has a BYTE_ORDER of its own, and all addresses are memory.
  traced=-fsanitize=fuzzer-no-link
  compile() { "$clang" -m32 -ftrap-function=fuzz_trapped $sanitizers $coverage $common "-D__builtin_wasm_memory_size(memory)=65535u" "$@" -Wno-unknown-attributes -Wno-macro-redefined; }
  link() { "$clang" -m32 $sanitizers -fsanitize=fuzzer "$@"; }
  ;;
wasm)
  memory=--initial-memory=268435456,--max-memory=268435456,-z,stack-size=262144
  compile() { "$clang" --target=wasm32-wasi -O2 -msimd128 -mbulk-memory $common "$@"; }
  link() { "$clang" --target=wasm32-wasi -mexec-model=reactor -Wl,$memory "$@" $objects/fuzz-input.o; }
  ;;
esac

echo "fuzz: compiling lwIP, its glue and the targets ($kind)"
objects=$out/$kind
coverage=$traced
compile_all $objects/stack
coverage= # of the host around the stack nothing is to be learned
for name in allocator packet egress_check world; do
  compile -Wall -Wextra -Werror -c $fuzz/$name.c -o $objects/stack/fuzz-$name.o
done
[ $kind = native ] || compile -Wall -Wextra -Werror -c $fuzz/input_wasm.c -o $objects/fuzz-input.o
coverage=$traced
for target in stack packet fragments; do
  compile -Wall -Wextra -Werror -c $fuzz/target_$target.c -o $objects/$target.o
  if [ $kind = native ]; then made=$out/$target; else made=$out/$target.wasm; fi
  link $objects/stack/*.o $objects/$target.o -o $made
done
if [ $kind = native ]; then
  native=../native
  "$clang" $sanitizers -fsanitize=fuzzer -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror \
    $fuzz/target_border.c $native/memory.c $native/link_linux.c $native/fault.c -o $out/border
fi
touch $stamp
