#!/usr/bin/env bash
# Every measurement, one after the other, in about ten minutes. The machine should have nothing else to do: how busy it
# was before each is in what is printed.
#
#   tests/bench/all.sh [NAME...]    # default: all of them; needs root, python3, and valgrind for `instructions`
#
# Each prints Markdown tables, which are kept with their rows as JSON in target/bench; all of them together are all.md
# and all.json there.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(readlink -f "${CARGO_TARGET_DIR:-target}")/bench
mkdir -p "$out"
[ $# != 0 ] || set -- processes sweep survey cancel whole instructions
# Built before anything is measured, and not while.
cargo build --quiet --release --workspace --bins
cargo build --quiet --release --package ccci-core --example survey
cargo bench --quiet --package ccci-tests --bench processes --no-run
printf '%s, %s cores, Linux %s\n' "$(git rev-parse --short HEAD)" "$(nproc)" "$(uname -r)" | tee "$out/all.md"
for name; do
  {
    printf '\n## %s\n\nLoad before: %s\n\n' "$name" "$(cut -d ' ' -f 1 /proc/loadavg)"
    case $name in
    cancel | whole) "tests/bench/$name.sh" 3 ;;
    *) "tests/bench/$name.sh" ;;
    esac
  } | tee "$out/$name.md"
  python3 tests/bench/rows.py "$out/$name.md" >"$out/$name.json"
  cat "$out/$name.md" >>"$out/all.md"
done
python3 tests/bench/rows.py "$out/all.md" >"$out/all.json"
