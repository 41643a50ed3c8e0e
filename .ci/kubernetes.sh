#!/usr/bin/env bash
# Builds the API server of the suites (tests/kubernetes) below target/ci-tools/kubernetes and prints its path. What is
# built is kept until its sources change. The first time takes some 8 minutes of CPU, 170 MB from the Go module proxy
# and 3 GB in Go's caches. Without Go, or without the modules, it says so on standard error: exit code 75.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.34.4

lacks() { echo "kubernetes: NOT HERE: $*" >&2; exit 75; }
command -v go >/dev/null || lacks "go"

root=$PWD/target/ci-tools/kubernetes
key=$({ go version; cat tests/kubernetes/{main.go,go.mod,go.sum}; } | sha256sum | cut -c1-16)
program=$root/cluster-$key
mkdir -p "$root"
exec 9>"$root/lock"
flock 9
if [[ ! -x $program ]]; then
  cd tests/kubernetes
  go mod download >&2 || lacks "the Go modules of tests/kubernetes"
  echo "kubernetes: building the API server of the suites, which takes some minutes, once" >&2
  names=k8s.io/component-base/version
  nice go build -p 2 -trimpath -tags grpcnotrace -o "$root/new" -ldflags \
    "-s -w -X $names.gitVersion=v$version -X $names.gitMajor=1 -X $names.gitMinor=34" . >&2
  rm -f "$root"/cluster-*
  mv "$root/new" "$program"
fi
echo "$program"
