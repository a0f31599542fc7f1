#!/bin/sh
# Node is there and new enough, and node_modules is what package-lock.json says (npm's own note in it tells when).
set -eu
cd "$(dirname "$0")/.."
command -v node >/dev/null 2>&1 || { echo "setup: no node: install Node.js 20.19 or later (https://nodejs.org)" >&2; exit 3; }
node -e '
  const [major, minor] = process.versions.node.split(".").map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) process.exit(0)
  console.error(`setup: node ${process.version} is too old: 20.19 or later is needed (https://nodejs.org)`)
  process.exit(3)'
if [ node_modules/.package-lock.json -nt package-lock.json ]; then exit 0; fi
if [ -L node_modules ]; then
  echo "setup: node_modules is a link to $(readlink node_modules), which npm ci would empty: bring that folder up to date where it belongs, or remove the link" >&2
  exit 3
fi
command -v npm >/dev/null 2>&1 || { echo "setup: no npm: it comes with Node.js, on Debian as the package npm" >&2; exit 3; }
echo "setup: npm ci"
npm ci --no-audit --no-fund --loglevel=error >/dev/null
touch node_modules/.package-lock.json
