#!/usr/bin/env bash
# Runs a command in the network of the Docker that up.sh started in DIR, where its published ports are.
#
#   tests/docker/in.sh DIR COMMAND...
set -euo pipefail

dir=$(readlink -f "${1:?usage: in.sh DIR COMMAND...}")
read -r pid _ <"$dir/init.pid"
shift
export DOCKER_HOST="unix://$dir/docker.sock"
exec nsenter --net="/proc/$pid/ns/net" -- "$@"
