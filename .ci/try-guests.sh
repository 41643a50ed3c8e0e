#!/usr/bin/env bash
# Tries `careen plugin new` and `careen plugin build` as a new user would, for every language and strategy, outside of
# this checkout; then shows on a small repository what each plugin decides. Prints the time of each step.
#   .ci/try-guests.sh [CAREEN]      target/release/careen unless given
# Languages whose tools cannot be had are named and left out; then the exit code is 75.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
careen=$(realpath "${1:-target/release/careen}")
tools=$(.ci/guest-tools.sh python javascript) || lacking=$?
eval "$tools"
sysroot=$(.ci/wasm-sysroot.sh) || lacking=75
eval "$sysroot"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing is there from an earlier try: no compiled dependency, no compiled plugin.
export KOPIA_PASSWORD=static-passw0rd CARGO_TARGET_DIR=$work/target XDG_CACHE_HOME=$work/cache
export PATH=$PATH:${CAREEN_GUEST_PYTHON-}:${CAREEN_GUEST_JAVASCRIPT-}/.bin
repository=$work/repository
cd "$work"

step() {
  local what=$1 start=$EPOCHREALTIME
  shift
  "$@" >"$work/said" 2>&1 || { cat "$work/said"; echo "FAILED: $what: $*" >&2; exit 1; }
  awk -v what="$what" -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%-44s %6.2f s\n", what, b - a }'
}
# What the report says must name the plugin's own reason.
expects() {
  grep -q -- "$1" "$work/said" || { cat "$work/said"; echo "FAILED: not said: $1" >&2; exit 1; }
}

step "a repository" "$careen" demo --keep "$repository" --no-run --no-kopia \
  --snapshots 4 --deleted 1 --directories 5 --files 50 --sessions 4
languages=()
[[ -z ${sysroot-} ]] || languages+=(rust)
[[ -z ${CAREEN_GUEST_JAVASCRIPT-} ]] || languages+=(javascript)
[[ -z ${CAREEN_GUEST_PYTHON-} ]] || languages+=(python)
for language in "${languages[@]}"; do
  for strategy in scheduling retention splitting; do
    name=$language-$strategy
    step "$name: new" "$careen" plugin new "$name" --strategy "$strategy" --language "$language"
    case $language in
      rust) step "$name: test" cargo test --quiet --manifest-path "$name/Cargo.toml" ;;
      javascript) step "$name: test" env -C "$name" node --test ;;
      python) step "$name: test" env -C "$name" "$CAREEN_GUEST_PYTHON/python" -B -m unittest ;;
    esac
    step "$name: build" "$careen" plugin build "$name" --output text
    expects "^pin   $strategy=$name/$name.wasm@blake3:[0-9a-f]*$"
    for command in check test; do
      step "$name: plugin $command" "$careen" plugin "$command" "$name/$name.wasm" \
        --strategies "$name/strategies.toml" --output text
    done
    case $strategy in
      scheduling)
        step "$name: plan" "$careen" plan "$repository" --mode full --strategies "$name/strategies.toml" --output text
        expects "nobody is at work"
        ;;
      retention)
        step "$name: snapshot expire" "$careen" snapshot expire "$repository" \
          --strategies "$name/strategies.toml" --output text
        expects "younger than 30 days"
        ;;
      splitting)
        step "$name: run --dry-run" "$careen" run "$repository" --dry-run --mode full \
          --strategies "$name/strategies.toml" --output text
        expects "no range is due"
        ;;
    esac
  done
done
step "the examples: plan" "$careen" plan "$repository" --mode full --expire-snapshots \
  --strategies "$checkout/plugins/examples/strategies.toml" --output text
expects "scheduling by maintenance-window"
echo "${#languages[@]} languages of 3"
exit "${lacking:-0}"
