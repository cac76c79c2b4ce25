#!/usr/bin/env bash
# Everything that must hold: lint, unit tests, the suites of real processes and real locks, the try-out.
# Installs what it needs and a bare Debian lacks; `.ci/run` is this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (+%ds)\n' "$*" "$SECONDS"; }

step "tools"
tests/tools.sh
export PATH=$PATH:$PWD/target/tools/bin
tests/abra/get.sh target/tools
if [ -x target/tools/abra ]; then
  export CCCI_TEST_ABRA=$PWD/target/tools/abra
fi

step "lint"
# statix comes with Nix and in no registry; without it its part is left out, and said to be.
without=()
command -v statix >/dev/null || without=(--no-nix=statix)
cargo run --quiet --package ccci-lint -- repo "${without[@]}"

step "the Nix files as Nix reads them"
tests/nix.sh

step "documentation"
RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --document-private-items

step "tests"
cargo build --quiet --workspace --bins
cargo test --workspace

step "protections: each is switched off once, and its test must fail"
tests/mutations.sh

step "the VM tests' scripts, in containers"
tests/vm.sh

step "try-out"
tests/try.sh
