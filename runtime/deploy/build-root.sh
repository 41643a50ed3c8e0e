#!/usr/bin/env bash
# Builds the root file system of the image: bash runtime/deploy/build-root.sh FOLDER
#
# The Containerfile runs this, and so does .ci/run (stages release and image), so that what is tested is what is
# shipped. FOLDER gets
#   careen     the program, linked statically: it needs nothing else
#   plugins/   code of the built-in plugins, compiled ahead of time for this program's engine
#   scratch/   where a volume is mounted
# Needs Rust, a C compiler and a network for the crates; writes below target/ and FOLDER only.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=${1:?bash runtime/deploy/build-root.sh FOLDER}
if [[ -e $folder/careen || -e $folder/plugins ]]; then
  echo "$folder has an image already" >&2
  exit 2
fi

# shellcheck source=runtime/deploy/static-build.sh
source runtime/deploy/static-build.sh
cargo build --release --locked -p careen --bin careen
built=target/$CARGO_BUILD_TARGET/release/careen

# A program with an interpreter would look for libraries that are not there.
if readelf --program-headers "$built" | grep -q INTERP; then
  echo "$built is not linked statically" >&2
  exit 1
fi

mkdir -p "$folder/plugins" "$folder/scratch"
# Symbols stay, for what a crash says; line tables would triple the size.
strip --strip-debug -o "$folder/careen" "$built"
chmod 755 "$folder" "$folder/careen"

"$folder/careen" plugin compile --plugin-cache "$folder/plugins" \
  plugins/built/{scheduling-kopia,splitting-short-packs,retention-kopia}.wasm
# Anybody reads them, nobody writes them; the image's layer makes root their owner.
chmod 755 "$folder/plugins"
chmod 644 "$folder/plugins"/*
chmod 755 "$folder/scratch"
du -sh "$folder/careen" "$folder/plugins"
