#!/usr/bin/env bash
# Builds every Rust plugin below plugins/ and plugins/examples/ as a component and compares it with the one
# checked in below plugins/built/ or plugins/examples/built/. The bytes must be the same: the program contains them, and a pin names them.
#   .ci/build-plugins.sh            compare; fails on a difference
#   .ci/build-plugins.sh --update   write them, and their digests, instead
# Bytes depend on the compiler and on the standard library, so a comparison needs both as recorded. Where they
# cannot be had, it says so loudly and succeeds: nothing was shown to be wrong.
# Works in a temporary directory; needs cargo, and network only for the standard library the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
update=${1-}
[[ -z $update || $update == --update ]] || { echo "usage: $0 [--update]" >&2; exit 2; }

not_compared() {
  printf '%s\n' \
    "########################################################################" \
    "## PLUGINS WERE NOT COMPARED WITH THEIR SOURCES: $*" \
    "########################################################################" | tee /dev/stderr
  [[ -z $update ]] || exit 1
  exit 0
}

# The recorded bytes are made with Debian's source of the standard library: rustup's prebuilt one gives others.
export WASM_SYSROOT_NO_RUSTUP=${WASM_SYSROOT_NO_RUSTUP-1}
sysroot=$(.ci/wasm-sysroot.sh) || not_compared "no standard library for wasm32-unknown-unknown"
eval "$sysroot"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=$work CARGO_INCREMENTAL=0
export CARGO_PROFILE_RELEASE_OPT_LEVEL=s CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
export CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=0
flags=CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS
cargo_home=${CARGO_HOME:-$HOME/.cargo}
remapped="--remap-path-prefix=$PWD=/careen --remap-path-prefix=$cargo_home=/cargo"
# The folder of the crates is named after the registry that this machine uses.
cargo fetch --quiet --locked
for crates in "$cargo_home"/registry/src/*; do
  remapped+=" --remap-path-prefix=$crates=/crates"
done
export "$flags=${!flags-} -Clink-arg=-zstack-size=65536 $remapped"
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS

failed=
for manifest in plugins/*/Cargo.toml plugins/examples/*/Cargo.toml; do
  name=$(basename "$(dirname "$manifest")")
  cargo build --quiet --release --locked -p "$name" --target wasm32-unknown-unknown
  new=$work/wasm32-unknown-unknown/release/${name//-/_}.wasm
  built=$(dirname "$(dirname "$manifest")")/built/$name
  if [[ -n $update ]]; then
    cp "$new" "$built.wasm" && chmod 644 "$built.wasm"
    { echo "sha256 $(sha256sum <"$new" | cut -d' ' -f1)"; rustc -V; } >"$built.digests"
  elif [[ $(rustc -V) != "$(grep '^rustc ' "$built.digests")" ]]; then
    not_compared "they were built by $(grep '^rustc ' "$built.digests"), this is $(rustc -V)"
  elif cmp "$new" "$built.wasm"; then
    echo "$name: $(stat -c %s "$new") bytes, as checked in"
  else
    failed=1
  fi
done
[[ -z $failed ]] || { echo "plugins differ from their sources: run $0 --update" >&2; exit 1; }
[[ -z $update ]] || {
  # BLAKE3 is the digest of pins; the program computes it, the system may have no tool for it.
  unset CARGO_TARGET_DIR CARGO_INCREMENTAL "${!CARGO_PROFILE_RELEASE_@}"
  CAREEN_WRITE_DIGESTS=1 cargo test --quiet -p careen --lib plugin::wasm_file
  CAREEN_WRITE_DIGESTS=1 cargo test --quiet -p careen --test plugin digests
}
