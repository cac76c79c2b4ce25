#!/usr/bin/env bash
# How long it takes to look at 50 stacks: through the daemon's API, and through the `docker` program.
#
#   tests/bench/survey.sh [STACKS]
#
# Starts a Docker of its own, deploys the stacks, measures, and takes everything down. Needs root.
set -euo pipefail

root=$(readlink -f "$(dirname "$0")/../..")
stacks=${1:-50}
dir=$(mktemp -d)
trap '"$root/tests/docker/down.sh" "$dir/docker"; rm -rf "$dir"' EXIT

(cd "$root" && cargo build --release --quiet -p ccci-core --example survey)
DOCKER_HOST=$("$root/tests/docker/up.sh" "$dir/docker")
export DOCKER_HOST
cat >"$dir/stack.yml" <<'YML'
version: "3.8"
services:
  app:
    image: ccci-test:1
    volumes: ["data:/data"]
    secrets: [pw]
    configs: [{source: conf, target: /conf}]
volumes: {data: {}}
secrets: {pw: {name: "${STACK_NAME}_pw_v1", file: ./stack.yml}}
configs: {conf: {name: "${STACK_NAME}_conf_v1", file: ./stack.yml}}
YML
for ((i = 0; i < stacks; i++)); do
  name=$(printf 'hell-%06x_ci_x' "$i")
  STACK_NAME=$name docker stack deploy --resolve-image never -c "$dir/stack.yml" "$name" >/dev/null 2>&1
done
until [ "$(docker ps -q | wc -l)" = "$stacks" ]; do sleep 1; done
"${CARGO_TARGET_DIR:-$root/target}/release/examples/survey"
