#!/usr/bin/env bash
# Generates guest-sdk/src/bindings.rs, tenants_bindings.rs, retention_bindings.rs and scheduling_bindings.rs from
# guest-sdk/wit. Run it after a change of the WIT package.
# Needs wit-bindgen of the version that the workspace uses at run time:
#   cargo install wit-bindgen-cli --version 0.61.1 --locked --no-default-features --features rust
set -euo pipefail
cd "$(dirname "$0")/../guest-sdk"
want=$(sed -n '/^name = "wit-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' ../Cargo.lock)
[[ $(wit-bindgen --version) == *" $want"* ]] || { echo "needs wit-bindgen $want" >&2; exit 1; }
version=$(sed -n 's/^package careen:strategy@\(.*\);$/\1/p' wit/strategy.wit)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head_of() {
  cat <<H
//! The component ABI of the \`$1\` world, generated from \`wit/strategy.wit\`. Do not edit: run
//! \`.ci/generate-bindings.sh\`.
//!
//! One of the files of this crate with \`unsafe\`: they move values through the plugin's memory.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used)]
#![cfg_attr(rustfmt, rustfmt_skip)]

H
}
# A world's bindings; the others take the log from the first's.
generate() {
  local world=$1 module=$2
  shift 2
  wit-bindgen rust "${wit:-wit}" --world "$world" --out-dir "$work" \
    -d PartialEq --pub-export-macro --export-macro-name "export_$world" \
    --default-bindings-module "\$crate::$module" "$@"
  # Two worlds export `about`: the macros of the crate need names of their own.
  { head_of "$world"; sed "s/__export_careen_strategy_/__export_${world}_/" "$work/$world.rs"; } >"src/$module.rs"
}
generate splitting bindings
for world in retention scheduling; do
  generate "$world" "${world}_bindings" \
    --with careen:strategy/host-log@$version=crate::bindings::careen::strategy::host_log
done
# What a plugin exports besides the world `splitting`: a world of its own, so that its macro adds this interface and
# nothing else. The linker joins worlds.
mkdir -p "$work/wit/deps/strategy"
cp wit/strategy.wit "$work/wit/deps/strategy/"
cat >"$work/wit/world.wit" <<W
package careen:bindings;
world tenants {
    export careen:strategy/tenants@$version;
}
W
wit=$work/wit generate tenants tenants_bindings
