#!/usr/bin/env bash
# Everything that must hold: lint, unit tests, the suites of real processes and real locks, the try-out.
# Installs what it needs and a bare Debian lacks; `.ci/run` is this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (+%ds)\n' "$*" "$SECONDS"; }

step "tools"
tests/tools.sh
tests/abra/get.sh target/tools
if [ -x target/tools/abra ]; then
  export CCCI_TEST_ABRA=$PWD/target/tools/abra
fi

step "lint"
# nixfmt, statix and deadnix come with Nix; without it their part is left out, and said to be.
no_nix=()
for tool in nixfmt statix deadnix; do command -v "$tool" >/dev/null || no_nix=(--no-nix); done
cargo run --quiet --package ccci-lint -- repo "${no_nix[@]}"

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
