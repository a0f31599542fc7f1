#!/bin/sh
# TypeScript → dist/, when a source is newer than the last run without errors. What has no source any more goes: a test that was removed
# would otherwise still be run.
set -eu
cd "$(dirname "$0")/.."
stamp=dist/.compiled

if [ -f $stamp ]; then
  find dist -name '*.js' | while read -r file; do
    source=${file#dist/}
    [ -f "${source%.js}.ts" ] || rm -f "$file" "$file.map" "${file%.js}.d.ts"
  done
  [ -n "$(find src test bench package-lock.json tsconfig.json -newer $stamp -print -quit)" ] || exit 0
fi
echo "build: tsc"
node_modules/.bin/tsc -p .
touch $stamp
