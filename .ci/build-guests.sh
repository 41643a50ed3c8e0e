#!/usr/bin/env bash
# Builds the example plugins in C, JavaScript and Python below target/guests. The one in C is compared with the one
# checked in below plugins/examples/built/. The one in JavaScript is built without random numbers; what its runtime has
# made of the time of its build, a few bytes, may differ. The one in Python is too large to be checked in. The suite
# asks all of them (CAREEN_GUESTS_BUILT=target/guests).
#   .ci/build-guests.sh            compare; fails on a difference
#   .ci/build-guests.sh --update   write them, and their digests, instead
# The tools come from .ci/guest-tools.sh. Where one cannot be had, its language is named and left out, and the exit
# code is 75. Those in Rust are built by .ci/build-plugins.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
update=${1-}
[[ -z $update || $update == --update ]] || { echo "usage: $0 [--update]" >&2; exit 2; }
tools=$(.ci/guest-tools.sh python javascript c) || lacking=$?
eval "$tools"
export CAREEN_GUEST_C=${CAREEN_GUEST_C-}
out=$PWD/target/guests
mkdir -p "$out"
failed=0

# How many bytes of a component may differ: two copies of the state that QuickJS makes of the time (27 were seen).
readonly TIME_BYTES_MAX=32

# Whether two components are the same, but for $3 bytes.
same() {
  [[ $(stat -c %s "$1") == "$(stat -c %s "$2")" ]] && (($({ cmp -l "$1" "$2" || true; } | wc -l) <= $3))
}

# Compares a component with the checked-in one, or replaces it. $2: what it was built with; $3: bytes that may differ.
judge() {
  local name=$1 new=$out/$1.wasm built=plugins/examples/built/$1 with=$2
  if [[ -n $update ]]; then
    cp "$new" "$built.wasm" && chmod 644 "$built.wasm"
    { echo "sha256 $(sha256sum <"$new" | cut -d' ' -f1)"; echo "$with"; } >"$built.digests"
  elif [[ $with != "$(tail -1 "$built.digests")" ]]; then
    echo "## NOT COMPARED: $name was built by $(tail -1 "$built.digests"), this is $with"
  elif same "$built.wasm" "$new" "${3-0}"; then
    echo "$name: $(stat -c %s "$new") bytes, as checked in"
  else
    echo "$name: $(stat -c %s "$built.wasm") bytes are checked in, this build has $(stat -c %s "$new")," \
      "$({ cmp -l "$built.wasm" "$new" 2>/dev/null || true; } | wc -l) of them others" >&2
    failed=1
  fi
}

if [[ -n $CAREEN_GUEST_C ]]; then
  plugins/examples/calm-c/build.sh "$out/calm-c.wasm"
  library=$CAREEN_GUEST_C/usr/lib/llvm-19/lib
  clang=$(LD_LIBRARY_PATH=$library:$CAREEN_GUEST_C/usr/lib/$(uname -m)-linux-gnu "$library/../bin/clang" --version | head -1)
  judge calm-c "$clang, $(rustc -V)"
fi
if [[ -n ${CAREEN_GUEST_JAVASCRIPT-} ]]; then
  (cd plugins/examples/tenants-javascript && node --test)
  cc -shared -fPIC -o "$out/no-random.so" .ci/no-random.c
  component=$out/tenants-javascript.wasm
  # The time may change a length, of what is written without its zeros: hardly ever twice.
  for _ in 1 2 3; do
    (cd plugins/examples/tenants-javascript &&
      LD_PRELOAD=$out/no-random.so "$CAREEN_GUEST_JAVASCRIPT/.bin/componentize-qjs" --wit wit --world retention \
        --js strategy.js --stub-wasi --sync --output "$component")
    # Its runtime names the folders of its own builder in panics; the length of the text stays.
    perl -pi -e 's{(/registry/src/)([^/]{1,80})(?=/)}{$1 . "-" x length $2}ge' "$component"
    [[ -z $update ]] || break
    ! same plugins/examples/built/tenants-javascript.wasm "$component" "$TIME_BYTES_MAX" || break
  done
  version=$(basename "$(dirname "$CAREEN_GUEST_JAVASCRIPT")" | sed 's/javascript-//')
  judge tenants-javascript "componentize-qjs $version" "$TIME_BYTES_MAX"
fi
if [[ -n ${CAREEN_GUEST_PYTHON-} ]]; then
  (cd plugins/examples/tenants-python &&
    "$CAREEN_GUEST_PYTHON/python" -B -m unittest &&
    "$CAREEN_GUEST_PYTHON/componentize-py" --quiet --wit-path wit --world retention \
      componentize --stub-wasi strategy --output "$out/tenants-python.wasm")
  echo "tenants-python: $(stat -c %s "$out/tenants-python.wasm") bytes, not checked in"
fi
[[ $failed == 0 ]] || { echo "plugins differ from their sources: run $0 --update" >&2; exit 1; }
[[ -z $update ]] || CAREEN_WRITE_DIGESTS=1 cargo test --quiet -p careen --test plugin digests
exit "${lacking:-0}"
