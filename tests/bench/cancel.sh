#!/usr/bin/env bash
# How long a cancelled run takes to leave a clean host, beside what Docker itself takes for the same app.
#
#   tests/bench/cancel.sh [ROUNDS]
#
# Starts a Docker of its own, and takes it down again. Each round measures, one after the other, on the same app:
#   cancel    SIGTERM to cc-ci-run until it has ended, with its receipt: all that the app was made of is gone
#   floor     `docker service rm` until the last container is gone; networks, volumes, secrets, configs stay
#   stack rm  `docker stack rm` until nothing is left, and `docker volume rm` with it
# Prints a Markdown table of medians. Needs root.
set -euo pipefail

root=$(readlink -f "$(dirname "$0")/../..")
rounds=${1:-5}
target=${CARGO_TARGET_DIR:-$root/target}
dir=$(mktemp -d)
keeper=
finish() {
  # Still running only when something went wrong; it takes its app down.
  [[ $keeper ]] && kill -TERM "$keeper" 2>/dev/null && wait "$keeper"
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
mkdir "$dir/locks" "$dir/plain"
# The generic floor is enough: nothing but the app's own things is measured.
mkdir "$dir/plain/hello"
cp "$root/tests/recipes/hello/compose.ccci.yml" "$dir/plain/hello/"

now() { echo "${EPOCHREALTIME/./}"; }
containers() { docker ps --all --quiet --filter "label=com.docker.stack.namespace=$stack"; }
running() { docker ps --quiet --filter "label=com.docker.stack.namespace=$stack" | wc -l; }
rest() {
  local kind
  containers
  for kind in service network secret config volume; do
    docker "$kind" ls --quiet --filter "label=com.docker.stack.namespace=$stack"
  done
}

# The run, until it stands; $run is its directory, $stack its stack.
start_run() {
  local id=$1
  CCCI_RUN_ID=$id CCCI_APP_LOCK_DIR=$dir/locks CCCI_STATE_DIR=$dir/state CCCI_ABRA_DIR=$dir/abra CCCI_RUNS_DIR=$dir/runs \
    "$root/tests/docker/in.sh" "$dir/docker" "$target/release/cc-ci-run" run hello --engine swarm \
    --src "$dir/hello" --tests-dir "$dir/plain" --stages install --keep 1h >"$dir/$id.log" 2>&1 &
  keeper=$!
  run=$dir/runs/$id
  if ! grep -q 'stays up for' < <(tail --lines=+1 --follow --pid="$keeper" "$dir/$id.log"); then
    cat "$dir/$id.log" >&2
    exit 1
  fi
  stack=$(sed -n 's/.*"domain": *"\([^"]*\)".*/\1/p' "$run/run.json" | head -n 1 | tr . _)
}

# The same app, by Docker alone.
deploy_alone() {
  head -c 32 /dev/urandom | base64 | docker secret create --label "com.docker.stack.namespace=$stack" "${stack}_admin_token_v1" - >/dev/null
  docker stack deploy --resolve-image never --compose-file "$run/$stack.yml" "$stack" >/dev/null 2>&1
  until [ "$(running)" = 1 ]; do :; done
}

cancel=() floor=() stack_rm=()
for ((round = 1; round <= rounds; round++)); do
  start_run "round-$round"
  begun=$(now)
  kill -TERM "$keeper"
  code=0
  wait "$keeper" || code=$?
  cancel+=($(($(now) - begun)))
  keeper=
  # Its tests have spoken, so it is green.
  if [ "$code" != 0 ] || [ -n "$(rest)" ]; then
    echo "cancel.sh: exit $code, left: $(rest)" >&2
    exit 1
  fi

  deploy_alone
  begun=$(now)
  docker service ls --quiet --filter "label=com.docker.stack.namespace=$stack" | xargs docker service rm >/dev/null
  until [ -z "$(containers)" ]; do :; done
  floor+=($(($(now) - begun)))
  docker stack rm "$stack" >/dev/null
  until [ -z "$(docker network ls --quiet --filter "label=com.docker.stack.namespace=$stack")" ]; do :; done
  docker volume rm "${stack}_data" >/dev/null

  deploy_alone
  begun=$(now)
  docker stack rm "$stack" >/dev/null
  until [ -z "$(containers)" ]; do :; done
  docker volume rm "${stack}_data" >/dev/null
  until [ -z "$(rest)" ]; do :; done
  stack_rm+=($(($(now) - begun)))
  echo "round $round: cancel ${cancel[-1]} µs, floor ${floor[-1]} µs, stack rm ${stack_rm[-1]} µs" >&2
done

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
range() { printf '%s\n' "$@" | sort -n | awk 'NR == 1 { least = $1 } END { printf "%.2f to %.2f s", least / 1e6, $1 / 1e6 }'; }
base=$(median "${floor[@]}")
row() {
  local name=$1 middle
  shift
  middle=$(median "$@")
  awk -v name="$name" -v middle="$middle" -v base="$base" -v range="$(range "$@")" 'BEGIN {
    printf "| %s | %.2f s | %s | %+.2f s | %.2f |\n", name, middle / 1e6, range, (middle - base) / 1e6, middle / base }'
}
echo "| way ($rounds rounds, engine $(docker version --format '{{.Server.Version}}')) | median | range | over the floor | ratio |"
echo "|---|---|---|---|---|"
row "Docker's floor: services removed until the last container is gone" "${floor[@]}"
row "cancel of a run until it has ended and nothing is left" "${cancel[@]}"
row "\`docker stack rm\` and waiting until nothing is left" "${stack_rm[@]}"
