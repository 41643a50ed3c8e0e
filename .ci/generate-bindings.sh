#!/usr/bin/env bash
# Generates guest-sdk/src/bindings.rs from guest-sdk/wit. Run it after a change of the WIT package.
# Needs wit-bindgen of the version that the workspace uses at run time:
#   cargo install wit-bindgen-cli --version 0.61.1 --locked --no-default-features --features rust
set -euo pipefail
cd "$(dirname "$0")/../guest-sdk"
want=$(sed -n '/^name = "wit-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' ../Cargo.lock)
[[ $(wit-bindgen --version) == *" $want"* ]] || { echo "needs wit-bindgen $want" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wit-bindgen rust wit --world splitting --out-dir "$work" \
  -d PartialEq --pub-export-macro --export-macro-name export_splitting \
  --default-bindings-module '$crate::bindings'
{
  cat <<'H'
//! The component ABI of the `splitting` world, generated from `wit/strategy.wit`. Do not edit: run
//! `.ci/generate-bindings.sh`.
//!
//! The only file of this crate with `unsafe`: it moves values through the plugin's memory.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#![cfg_attr(rustfmt, rustfmt_skip)]

H
  cat "$work"/splitting.rs
} >src/bindings.rs
