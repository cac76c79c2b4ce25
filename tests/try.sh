#!/usr/bin/env bash
# Builds cc-ci and tests the example recipe with it, on the embedded engine: needs Rust and git only.
# The results stay in target/try/runs until the next time; everything else that it makes goes at the
# end. Arguments are passed on to `cc-ci-run run`, e.g. `tests/try.sh --keep 5m`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
echo "building, which takes some minutes the first time" >&2
quiet=(--quiet)
# Whoever sits in front of it sees how far it is.
[[ -t 2 ]] && quiet=()
cargo build "${quiet[@]}" --manifest-path "$root/Cargo.toml" --package ccci-harness --package hello-app
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$target/try"
"$root/tests/fixtures/make-recipe.sh" hello "$work/hello"
mkdir "$work/locks"
# The example's own program is found on PATH, as a distribution's would be.
PATH="$target/debug:$PATH" CCCI_PARENT_PID=$$ \
  CCCI_APP_LOCK_DIR=$work/locks CCCI_STATE_DIR=$work/state CCCI_ABRA_DIR=$work/abra CCCI_RUNS_DIR=$target/try/runs \
  cc-ci-run run hello --engine local --src "$work/hello" --tests-dir "$root/tests/recipes" "$@"
