#!/usr/bin/env bash
# How long it takes to look at so many stacks: through the daemon's API, and through the `docker` program; and a whole
# sweep of as many, each of a run that is alive.
#
#   tests/bench/survey.sh [NUMBER...]    # default: 1 10 50 500
#
# Starts a Docker of its own, makes the stacks (without tasks, which two cores would not carry), measures, and takes
# everything down. Prints Markdown tables. Needs root.
set -euo pipefail

root=$(readlink -f "$(dirname "$0")/../..")
numbers=("$@")
[ ${#numbers[@]} -gt 0 ] || numbers=(1 10 50 500)
target=${CARGO_TARGET_DIR:-$root/target}
dir=$(mktemp -d)
holder=
finish() {
  [[ $holder ]] && kill "$holder" 2>/dev/null
  "$root/tests/docker/down.sh" "$dir/docker"
  rm -rf "$dir"
}
trap finish EXIT

(cd "$root" && cargo build --release --quiet --package ccci-core --example survey && cargo build --release --quiet --package ccci-janitor)
DOCKER_HOST=$("$root/tests/docker/up.sh" "$dir/docker")
export DOCKER_HOST
mkdir "$dir"/{locks,runs,state,abra}
printf 'base_domain = "ci.x"\nlock_dir = "%s"\nruns_dir = "%s"\nstate_dir = "%s"\nabra_dir = "%s"\n' \
  "$dir/locks" "$dir/runs" "$dir/state" "$dir/abra" >"$dir/settings.toml"

by_sweep() {
  "$target/release/cc-ci-janitor" --config "$dir/settings.toml" sweep >"$dir/sweep"
}
by_listing() {
  local kind
  for kind in service container network volume secret config; do docker "$kind" ls --quiet >/dev/null; done
}
milliseconds() {
  local begun=${EPOCHREALTIME/./}
  "$@"
  echo "$(((${EPOCHREALTIME/./} - begun) / 100))e-1"
}
median() { printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p"; }

made=0 rows=()
mkfifo "$dir/end"
for number in "${numbers[@]}"; do
  python3 "$root/tests/bench/stacks.py" "$made" "$number"
  made=$number
  exec 9<>"$dir/end"
  python3 "$root/tests/bench/stacks.py" hold "$dir/locks" "$number" <"$dir/end" >"$dir/held" 9>&- &
  holder=$!
  until grep -q held "$dir/held"; do :; done
  sweeps=() listings=()
  for _ in 1 2 3 4 5 6 7 8 9; do
    sweeps+=("$(milliseconds by_sweep)")
    listings+=("$(milliseconds by_listing)")
  done
  [ "$(grep -c 'hell-' "$dir/sweep")" = "$number" ] || {
    cat "$dir/sweep" >&2
    exit 1
  }
  rows+=("$number $(median "${sweeps[@]}") $(median "${listings[@]}")")
  exec 9>&-
  wait "$holder"
  holder=
  rm -f "$dir"/locks/*
  "$target/release/examples/survey" "$number"
done
echo
# shellcheck disable=SC2016 # no command is meant
echo '| stacks of live runs | sweep | one `docker` list per kind | ratio | goal | ms per stack |'
echo '|---|---|---|---|---|---|'
printf '%s\n' "${rows[@]}" | awk '{ printf "| %d | %.1f ms | %.1f ms | %.2f | ≤ 1.2 | %.2f |\n", $1, $2, $3, $2 / $3, $2 / $1 }'
