#!/usr/bin/env bash
# Every measurement, one after the other. The machine should have nothing else to do.
#
#   tests/bench/all.sh [NAME...]    # default: all of them; needs root, and valgrind for `instructions`
#
# Each prints a Markdown table, which is kept with its rows as JSON in target/bench.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${CARGO_TARGET_DIR:-target}/bench
mkdir -p "$out"
[ $# != 0 ] || set -- processes sweep survey cancel whole instructions
for name; do
  printf '\n== %s\n' "$name"
  "tests/bench/$name.sh" | tee "$out/$name.md"
  python3 tests/bench/rows.py "$out/$name.md" >"$out/$name.json"
done
