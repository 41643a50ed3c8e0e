#!/usr/bin/env bash
# Builds calm-c.wasm, or the file that is named:   ./build.sh [FILE]
# Needs clang and wasi-libc of Debian (19), here or below CAREEN_GUEST_C (see .ci/guest-tools.sh), and Rust,
# whose linker wasm-component-ld makes a component of the object files.
set -euo pipefail
cd "$(dirname "$0")"
out=$(realpath -m "${1:-calm-c.wasm}")
root=${CAREEN_GUEST_C-}
[[ -z $root ]] || export LD_LIBRARY_PATH=$root/usr/lib/llvm-19/lib:$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/aarch64-linux-gnu
clang=$root/usr/lib/llvm-19/bin/clang
[[ -x $clang ]] || { echo "needs clang-19 and wasi-libc: apt-get install clang-19 wasi-libc, or .ci/guest-tools.sh c" >&2; exit 1; }
rust=$(echo "$(rustc --print sysroot)"/lib/rustlib/*/bin)
linker=$rust/wasm-component-ld
[[ -x $linker ]] || { echo "needs wasm-component-ld, which comes with Rust" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Compiled where the sources are called the same everywhere, so that the bytes are the same.
for source in strategy.c bindings/scheduling.c; do
  "$clang" --target=wasm32-wasi --sysroot="$root/usr" -std=c17 -Os -Wall -Wextra -Werror -Wno-unused-parameter \
    -ffunction-sections -fdata-sections -c "$source" -o "$work/$(basename "$source" .c).o"
done
"$linker" --wasm-ld-path "$rust/gcc-ld/wasm-ld" --wasi-adapter none --no-entry --gc-sections --strip-all -z stack-size=65536 \
  "$work/strategy.o" "$work/scheduling.o" bindings/scheduling_component_type.o \
  -L "$root/usr/lib/wasm32-wasi" -lc -o "$out"
