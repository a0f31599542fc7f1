#!/bin/sh
# Builds native/tungate.node. Silent when it is newer than all it is made of.
#   CC       the compiler (default: cc)
#   CFLAGS   appended to ours, e.g. -fsanitize=undefined
set -eu
cd "$(dirname "$0")"

output=tungate.node
node_api=../node_modules/node-api-headers/include
stale=no
[ -f "$output" ] || stale=yes
for source in *.c *.h build.sh; do
  [ "$stale" = no ] && [ "$source" -nt "$output" ] && stale=yes
done
[ "$stale" = yes ] || exit 0

fail() {
  echo "native/build.sh: $1" >&2
  exit 1
}

cc=${CC:-cc}
command -v "$cc" >/dev/null 2>&1 || fail "no C compiler '$cc': install one (Debian: apt-get install gcc libc6-dev), or name it in CC"
[ -f "$node_api/node_api.h" ] || fail "no node_api.h: run npm install first"
uv=$(node -p 'require("path").resolve(process.execPath, "../../include/node")')
[ -f "$uv/uv.h" ] || uv=/usr/include
[ -f "$uv/uv.h" ] || fail "no uv.h beside node nor in /usr/include: install it (Debian: apt-get install libuv1-dev)"

echo "native: $cc *.c -> native/$output"
# Written beside and renamed: a running node keeps the old file mapped.
trap 'rm -f "$output.new"' EXIT
# shellcheck disable=SC2086
"$cc" -O2 -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror -std=gnu11 -D_GNU_SOURCE \
  -I"$node_api" -isystem "$uv" ${CFLAGS:-} *.c -o "$output.new"
mv "$output.new" "$output"
