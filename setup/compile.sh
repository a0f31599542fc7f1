#!/bin/sh
# TypeScript → dist/, and the bundle of the command, when a source is newer than the last run without errors. What has no source any
# more goes: a test that was removed would otherwise still be run.
set -eu
cd "$(dirname "$0")/.."
stamp=dist/.compiled

newer() { made=$1; shift; [ ! -f "$made" ] || [ -n "$(find "$@" -newer "$made" -print -quit)" ]; }

if [ -f $stamp ]; then
  find dist -name '*.js' | while read -r file; do
    source=${file#dist/}
    [ -f "${source%.js}.ts" ] || rm -f "$file" "$file.map" "${file%.js}.d.ts"
  done
fi
if newer $stamp src test bench package-lock.json tsconfig.json; then
  echo "build: tsc"
  node_modules/.bin/tsc -p .
  touch $stamp
fi
# Made last. Each version of Node wants a cache of its own.
cache=dist/src/bundle/yaml-$(node -p 'process.version + "-" + process.arch').cache
if newer "$cache" src package-lock.json setup/bundle.mjs setup/record-code.cjs; then
  echo "build: bundle"
  node setup/bundle.mjs
fi
