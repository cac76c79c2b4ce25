#!/usr/bin/env bash
# A whole green run on Swarm (install, upgrade, backup, restore, teardown), beside a plain shell script of the same
# Docker commands.
#
#   tests/bench/whole.sh [ROUNDS]
#
# Starts a Docker of its own, and takes it down again. Both fetch the recipe from git, wait for the app to answer
# after every step, and leave nothing. The script has no lock, deadline, receipt, results or lint, and takes down
# nothing if it is cancelled. `timeouts.monitor` is zero, as the script does not look whether services stay up.
# Prints a Markdown table of medians, and how late the run saw that Swarm's tasks ran. Needs root.
set -euo pipefail

root=$(readlink -f "$(dirname "$0")/../..")
rounds=${1:-5}
target=${CARGO_TARGET_DIR:-$root/target}
dir=$(mktemp -d)
finish() {
  "$root/tests/docker/down.sh" "$dir/docker"
  rm -rf "$dir"
}
trap finish EXIT

cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package ccci-harness
DOCKER_HOST=$("$root/tests/docker/up.sh" "$dir/docker")
export DOCKER_HOST
"$root/tests/docker/hello-image.sh" >/dev/null
docker network create --driver overlay --attachable proxy >/dev/null
"$root/tests/fixtures/make-recipe.sh" hello "$dir/hello"
mkdir -p "$dir/locks" "$dir/tests/hello"
cp "$root/tests/recipes/hello/compose.ccci.yml" "$dir/tests/hello/"
printf '[timeouts]\nmonitor = "0s"\n[backup]\ncapable = true\n' >"$dir/tests/hello/recipe.toml"
# When Swarm had the task running, in its own words.
cat >"$dir/tests/hello/test_install.sh" <<'SH'
#!/bin/sh
docker service ps --quiet "$(echo "$CCCI_APP_DOMAIN" | tr . _)_app" | head -n 1 |
  xargs docker inspect --type task --format '{{json .UpdatedAt}}' | tr -d '"' >"$TMPDIR/running"
SH
chmod +x "$dir/tests/hello/test_install.sh"

now() { echo "${EPOCHREALTIME/./}"; }

by_run() {
  local id=$1
  TMPDIR=$dir CCCI_RUN_ID=$id CCCI_APP_LOCK_DIR=$dir/locks CCCI_STATE_DIR=$dir/state CCCI_ABRA_DIR=$dir/abra \
    CCCI_RUNS_DIR=$dir/runs "$root/tests/docker/in.sh" "$dir/docker" "$target/release/cc-ci-run" run hello \
    --engine swarm --src "$dir/hello" --tests-dir "$dir/tests" >"$dir/$id.log" 2>&1 || {
    cat "$dir/$id.log" >&2
    return 1
  }
}

by_script() {
  local stack=hello_plain tree=$dir/tree port mount
  export STACK_NAME=$stack DOMAIN=hello.plain SECRET_ADMIN_TOKEN_VERSION=v1
  ours() { docker "$1" ls --quiet --filter "label=com.docker.stack.namespace=$stack" "${@:2}"; }
  deploy() {
    git -C "$tree" checkout --quiet "$1"
    # shellcheck disable=SC1091
    GREETING_VERSION=$(. "$tree/abra.sh" && echo "$GREETING_VERSION") docker stack deploy --resolve-image never \
      --compose-file "$tree/compose.yml" --compose-file "$dir/tests/hello/compose.ccci.yml" "$stack" >/dev/null 2>&1
    # A new service has no update status, and an updated one must have completed.
    until docker service inspect "${stack}_app" --format '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' |
      grep -qx "$2"; do sleep 0.1; done
    answers
  }
  answers() {
    until port=$(docker ps --quiet --filter "label=com.docker.stack.namespace=$stack" | xargs -r docker port | sed -n 's/.*://p' | head -n 1) &&
      [ "$port" ] && "$root/tests/docker/in.sh" "$dir/docker" curl -sf -o "$dir/answer" -H "Host: $DOMAIN" "http://127.0.0.1:$port/"; do
      sleep 0.1
    done
  }
  git clone --quiet "$dir/hello" "$tree"
  head -c 32 /dev/urandom | base64 | docker secret create --label "com.docker.stack.namespace=$stack" "${stack}_admin_token_v1" - >/dev/null
  deploy 0.0.0+1.0.0 ""
  deploy 0.1.0+1.1.0 completed
  mount=$(docker volume inspect "${stack}_data" --format '{{.Mountpoint}}')
  "$root/tests/docker/in.sh" "$dir/docker" tar -C "$mount" -cf "$dir/backup.tar" .
  docker service scale --detach "${stack}_app=0" >/dev/null
  until [ -z "$(docker ps --quiet --filter "label=com.docker.stack.namespace=$stack")" ]; do sleep 0.1; done
  "$root/tests/docker/in.sh" "$dir/docker" tar -C "$mount" -xf "$dir/backup.tar"
  docker service scale --detach "${stack}_app=1" >/dev/null
  answers
  docker stack rm "$stack" >/dev/null
  until [ -z "$(docker ps --all --quiet --filter "label=com.docker.stack.namespace=$stack")" ]; do sleep 0.1; done
  docker volume rm "${stack}_data" >/dev/null
  until [ -z "$(ours network)$(ours secret)$(ours config)$(ours service)" ]; do sleep 0.1; done
  rm -rf "$tree"
}

runs=() scripts=() late=()
for ((round = 1; round <= rounds; round++)); do
  begun=$(now)
  by_run "round-$round"
  runs+=($(($(now) - begun)))
  seen=$(sed -n 's/.*"at":"\([^"]*\)".*"generic\/converged".*/\1/p' "$dir/runs/round-$round/events.jsonl" | head -n 1)
  late+=($((($(date -d "$seen" +%s%N) - $(date -d "$(cat "$dir/running")" +%s%N)) / 1000)))
  begun=$(now)
  by_script
  scripts+=($(($(now) - begun)))
  echo "round $round: run ${runs[-1]} µs, script ${scripts[-1]} µs, converged ${late[-1]} µs late" >&2
done

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
awk -v rounds="$rounds" -v run="$(median "${runs[@]}")" -v script="$(median "${scripts[@]}")" -v late="$(median "${late[@]}")" 'BEGIN {
  printf "| what (%d rounds) | cc-ci | instead | of that | ratio | goal |\n|---|---|---|---|---|---|\n", rounds
  printf "| whole green run on Swarm | %.2f s | plain script of the same commands | %.2f s | %.3f | ≤ 1.05 |\n", run / 1e6, script / 1e6, run / script
  printf "| convergence noticed after Swarm had the task running | %.0f ms | | | | ≤ 100 ms |\n", late / 1e3 }'
