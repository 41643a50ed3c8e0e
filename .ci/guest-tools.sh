#!/usr/bin/env bash
# Installs the tools that plugins in Python, JavaScript and C are built with, all below one directory
# (target/ci-tools/guests unless given), and prints shell assignments:
#   eval "$(.ci/guest-tools.sh python javascript c)"
#     CAREEN_GUEST_PYTHON       bin directory of a virtual environment with componentize-py
#     CAREEN_GUEST_JAVASCRIPT   node_modules with componentize-qjs
#     CAREEN_GUEST_C            a root with clang, lld and wasi-libc, unpacked from Debian's packages
# A tool that cannot be had is named on standard error, its variable is left out, and the exit code is 75.
# The machine stays as it is: packages are unpacked, never installed. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."
# As in runtime/src/cli/plugin/templates.rs; a test compares them.
componentize_py=0.25.1
componentize_qjs=0.4.5
clang=19

root=${CAREEN_GUEST_TOOLS:-$PWD/target/ci-tools/guests}
mkdir -p "$root"
lacking=0
say() { echo "guest-tools: $*" >&2; }
lacks() { say "NOT HERE: $*"; lacking=75; }

python() {
  local venv=$root/python-$componentize_py python
  if [[ ! -f $venv/.done ]]; then
    python=$(command -v python3) || { lacks "python3"; return; }
    rm -rf "$venv"
    if ! { "$python" -m venv "$venv" >&2 &&
      timeout 600 "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "componentize-py==$componentize_py" >&2; }; then
      lacks "componentize-py $componentize_py: pip cannot install it"
      return
    fi
    touch "$venv/.done"
  fi
  echo "export CAREEN_GUEST_PYTHON=$venv/bin"
}

javascript() {
  local place=$root/javascript-$componentize_qjs
  command -v node >/dev/null || { lacks "node"; return; }
  if [[ ! -f $place/.done ]]; then
    command -v npm >/dev/null || { lacks "npm"; return; }
    rm -rf "$place" && mkdir -p "$place"
    echo '{"private":true}' >"$place/package.json"
    if ! timeout 600 npm install --prefix "$place" --no-audit --no-fund --loglevel=error \
      "componentize-qjs@$componentize_qjs" >&2; then
      lacks "componentize-qjs $componentize_qjs: npm cannot install it"
      return
    fi
    touch "$place/.done"
  fi
  echo "export CAREEN_GUEST_JAVASCRIPT=$place/node_modules"
}

# Debian's packages with what they need and this machine lacks, from the machine's own sources.
c() {
  local place=$root/c-$clang lists
  if [[ ! -f $place/.done ]]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { lacks "apt-get"; return; }
    rm -rf "$place" && mkdir -p "$place"/apt/{lists/partial,archives/partial}
    lists=(-qq -o "Dir::State::Lists=$place/apt/lists" -o "Dir::Cache=$place/apt"
      -o "Dir::Cache::archives=$place/apt/archives" -o Acquire::Languages=none
      -o APT::Sandbox::User=root -o "Debug::NoLocking=true")
    if ! { timeout 300 apt-get "${lists[@]}" update >&2 &&
      timeout 600 apt-get "${lists[@]}" --yes --no-install-recommends --reinstall --download-only \
        install "clang-$clang" "lld-$clang" wasi-libc "libclang-rt-$clang-dev-wasm32" \
        "libclang-common-$clang-dev" "libllvm$clang" "libclang-cpp$clang" >&2; }; then
      lacks "clang-$clang, lld-$clang and wasi-libc: apt-get cannot fetch them"
      return
    fi
    local package
    for package in "$place"/apt/archives/*.deb; do
      dpkg-deb -x "$package" "$place"
    done
    rm -rf "$place/apt"
    touch "$place/.done"
  fi
  echo "export CAREEN_GUEST_C=$place"
}

[[ $# -gt 0 ]] || { echo "usage: $0 python|javascript|c …" >&2; exit 2; }
for one in "$@"; do
  case $one in
    python | javascript | c) "$one" ;;
    *) echo "$0: $one?" >&2; exit 2 ;;
  esac
done
exit "$lacking"
