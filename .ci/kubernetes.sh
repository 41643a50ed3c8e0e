#!/usr/bin/env bash
# Builds a program of the suites below target/ci-tools/kubernetes and prints its path: bash .ci/kubernetes.sh [WHAT]
#
#   cluster    the API server (tests/kubernetes); this is what is built unless another is named
#   render     kustomize and Helm for the manifests (tests/manifests)
#
# What is built is kept until its sources change. The first time the API server takes some 8 minutes of CPU, 170 MB from
# the Go module proxy and 3 GB in Go's caches; the other a minute or two. Without Go, or without the modules, it says so
# on standard error: exit code 75.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.34.4

lacks() { echo "kubernetes: NOT HERE: $*" >&2; exit 75; }
command -v go >/dev/null || lacks "go"

what=${1:-cluster}
flags=()
case $what in
  cluster)
    folder=tests/kubernetes main=main.go names=k8s.io/component-base/version
    flags=(-p 2 -tags grpcnotrace -ldflags
      "-s -w -X $names.gitVersion=v$version -X $names.gitMajor=1 -X $names.gitMinor=34")
    ;;
  render) folder=tests/manifests main=render.go flags=(-p 2 -ldflags "-s -w") ;;
  *) echo "kubernetes: cluster or render, not $what" >&2; exit 2 ;;
esac

root=$PWD/target/ci-tools/kubernetes
key=$({ go version; cat "$folder"/{$main,go.mod,go.sum}; } | sha256sum | cut -c1-16)
program=$root/$what-$key
mkdir -p "$root"
exec 9>"$root/lock"
flock 9
if [[ ! -x $program ]]; then
  cd "$folder"
  go mod download >&2 || lacks "the Go modules of $folder"
  echo "kubernetes: building $folder, which takes some minutes, once" >&2
  nice go build -trimpath -o "$root/new" "${flags[@]}" . >&2
  rm -f "$root/$what"-*
  mv "$root/new" "$program"
fi
echo "$program"
