#!/usr/bin/env bash
# Instructions, as callgrind counts them, of a start and of one sweep, beside the kept baseline: a regression that a
# loaded machine's clock would hide. They depend on compiler and C library, so the baseline says which; compare on the
# same ones. A guard is keeper, worker and reaper, in two processes, and its command is not counted.
#
#   tests/bench/instructions.sh            # exits 1 when a count is more than a tenth above the baseline
#   tests/bench/instructions.sh --update   # writes the baseline anew
#
# Needs valgrind, and root for a pid namespace.
set -euo pipefail
cd "$(dirname "$0")/../.."

baseline=tests/bench/instructions.txt
cargo build --quiet --release --workspace --bins
bin=$(readlink -f "${CARGO_TARGET_DIR:-target}")/release
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir"/{locks,runs,state,abra,out}
printf 'lock_dir = "%s"\nruns_dir = "%s"\nstate_dir = "%s"\nabra_dir = "%s"\n' \
  "$dir/locks" "$dir/runs" "$dir/state" "$dir/abra" >"$dir/settings.toml"

# All processes of a command together, but for other programs that they execute; alone in a pid namespace, as a look at
# /proc costs more the more there is.
count() {
  rm -f "$dir"/out/*
  # shellcheck disable=SC2016 # expanded by the shell in the namespace
  CCCI_PARENT_PID=1 unshare --pid --fork --mount-proc sh -c '"$@"; exit "$?"' sh \
    valgrind --quiet --tool=callgrind --callgrind-out-file="$dir/out/%p" "$@" >"$dir/log" 2>&1 || {
    cat "$dir/log" >&2
    exit 1
  }
  sed -n 's/^totals: //p' "$dir"/out/* | awk '{ all += $1 } END { printf "%d", all }'
}

declare -A now
now[version]=$(count "$bin/cc-ci-run" --version)
now[check]=$(count "$bin/cc-ci-run" config check "$dir/settings.toml")
now[guard]=$(count "$bin/cc-ci-run" --config "$dir/settings.toml" guard --name counted --deadline 60s -- /bin/true)
for ((n = 0; n < 100; n++)); do
  printf -v name 'cc-ci-app-hell-%06x.cc-ci.localhost.lock' "$n"
  : >"$dir/locks/$name"
done
now[sweep]=$(count "$bin/cc-ci-janitor" --config "$dir/settings.toml" sweep)

what=(version "cc-ci-run --version" check "cc-ci-run config check" guard "guard -- true" sweep "sweep of 100 lock files")
if [ "${1:-}" = --update ]; then
  {
    echo "# $(rustc --version), $(ldd --version | sed -n 1p)"
    for ((n = 0; n < ${#what[@]}; n += 2)); do echo "${what[n]} ${now[${what[n]}]}"; done
  } >"$baseline"
fi

worse=0
sed -n 's/^# /Baseline: /p' "$baseline"
printf '| what | instructions | baseline | ratio |\n|---|---|---|---|\n'
for ((n = 0; n < ${#what[@]}; n += 2)); do
  key=${what[n]}
  before=$(sed -n "s/^$key //p" "$baseline")
  awk -v what="${what[n + 1]}" -v now="${now[$key]}" -v before="$before" 'BEGIN {
    printf "| `%s` | %d | %d | %.3f |\n", what, now, before, now / before; exit now > before * 1.1 }' || worse=1
done
exit "$worse"
