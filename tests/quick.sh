#!/usr/bin/env bash
# What one runs before a commit: the lint, the unit tests, and the suites that need neither Docker nor minutes.
# Installs nothing; `tests/tools.sh` does. Everything else is `tests/all.sh`.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/steps.sh
. tests/steps.sh
export PATH=$PATH:$PWD/target/tools/bin

step "lint" "30 s" lint
step "the programs" "30 s" cargo build --quiet --workspace --bins
step "unit tests" "40 s" cargo test --quiet --workspace --lib --bins --no-fail-fast
step "guard, state, pipeline" "60 s" \
  cargo test --quiet --package ccci-tests --test guard --test state --test pipeline --no-fail-fast

conclude
