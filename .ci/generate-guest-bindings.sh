#!/usr/bin/env bash
# Generates what plugins in Python and C know of the contract, from guest-sdk/wit:
#   guest-sdk/templates/python/bindings   for tests and editors; a component gets its own while it is built
#   plugins/examples/calm-c/bindings      C, with the component's type as an object file
# Run it after a change of the WIT package.
#   .ci/generate-guest-bindings.sh            write
#   .ci/generate-guest-bindings.sh --check    compare those of Python; fails on a difference
# Needs componentize-py (.ci/guest-tools.sh python); to write, also wit-bindgen of the workspace's version:
#   cargo install wit-bindgen-cli --version 0.61.1 --locked --no-default-features --features rust,c
set -euo pipefail
cd "$(dirname "$0")/.."
check=${1-}
[[ -z $check || $check == --check ]] || { echo "usage: $0 [--check]" >&2; exit 2; }
tools=$(.ci/guest-tools.sh python)
eval "$tools"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All worlds in one: a project's test takes what it needs.
"$CAREEN_GUEST_PYTHON/componentize-py" --quiet --wit-path guest-sdk/wit \
  --world retention --world scheduling --world splitting-by-tenant bindings "$work/bindings"
cd "$work/bindings"
# The rest is for the component's own event loop.
rm -rf componentize_py_async_support componentize_py_runtime.pyi poll_loop.py
find . -name '*.py' -exec sed -i 's/[[:space:]]*$//' {} +
cd "$OLDPWD"
python=guest-sdk/templates/python/bindings
if [[ -n $check ]]; then
  diff -r -x __pycache__ "$work/bindings" "$python" || { echo "run $0" >&2; exit 1; }
  exit 0
fi
rm -rf "$python"
cp -r "$work/bindings" "$python"

want=$(sed -n '/^name = "wit-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
[[ $(wit-bindgen --version) == *" $want"* ]] || { echo "needs wit-bindgen $want" >&2; exit 1; }
c=plugins/examples/calm-c/bindings
rm -rf "$c"
wit-bindgen c guest-sdk/wit --world scheduling --out-dir "$c"
