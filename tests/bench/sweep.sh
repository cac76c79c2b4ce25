#!/usr/bin/env bash
# How long a sweep takes, against a shell loop over `flock -n`: lock files and a tenth as many run
# directories, none of them live; medians of nine, or of one where there are many. Prints a Markdown table; the goal is
# a ratio below 0.1.
# Usage: tests/bench/sweep.sh [NUMBER…]   (default: 10 100 1000 10000)
set -euo pipefail
cd "$(dirname "$0")/../.."

numbers=("$@")
[ ${#numbers[@]} -gt 0 ] || numbers=(10 100 1000 10000)
cargo build --quiet --release --package ccci-janitor
target=${CARGO_TARGET_DIR:-target}
janitor=$target/release/cc-ci-janitor

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
mkdir "$here"/{state,abra}
printf 'lock_dir = "%s"\nruns_dir = "%s"\nstate_dir = "%s"\nabra_dir = "%s"\n[retention]\ncount = 1\n' \
  "$here/locks" "$here/runs" "$here/state" "$here/abra" >"$here/settings.toml"

fill() {
  rm -rf "$here"/locks "$here"/runs
  mkdir "$here"/{locks,runs}
  local n
  for ((n = 0; n < $1; n++)); do
    printf -v name 'cc-ci-app-hell-%06x.cc-ci.localhost.lock' "$n"
    : >"$here/locks/$name"
  done
  for ((n = 0; n < $1 / 10; n++)); do
    mkdir "$here/runs/$n"
    echo '{}' >"$here/runs/$n/run.json"
    echo '{}' >"$here/runs/$n/results.json"
  done
}

# The microseconds of one run on a fresh fill.
microseconds() {
  local begun
  fill "$1"
  begun=${EPOCHREALTIME/./}
  "$2" >/dev/null
  echo $((${EPOCHREALTIME/./} - begun))
}

median() {
  local round times=1
  [ "$1" -gt 100 ] || times=9
  for ((round = 0; round < times; round++)); do microseconds "$@"; done | sort -n | sed -n "$((times / 2 + 1))p"
}

by_shell() {
  local file
  for file in "$here"/locks/*.lock; do
    flock -n "$file" rm -f "$file"
  done
  for file in "$here"/runs/*; do
    flock -n "$file" rm -rf "$file"
  done
}

by_janitor() {
  "$janitor" --config "$here/settings.toml" sweep
}

echo '| lock files | run directories | shell loop, ms | sweep, ms | ratio | µs per lock file |'
echo '|---|---|---|---|---|---|'
for number in "${numbers[@]}"; do
  shell=$(median "$number" by_shell)
  sweep=$(median "$number" by_janitor)
  left=$(find "$here/locks" -type f ! -name cc-ci-host.lock | wc -l)
  [ "$left" -eq 0 ] || {
    echo "the sweep left $left lock files" >&2
    exit 1
  }
  awk -v n="$number" -v a="$shell" -v b="$sweep" \
    'BEGIN { printf "| %d | %d | %.1f | %.1f | %.3f | %.0f |\n", n, n / 10, a / 1000, b / 1000, b / a, b / n }'
done
