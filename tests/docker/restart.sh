#!/usr/bin/env bash
# Ends the daemon that up.sh started in DIR, and waits until another answers in its place. Namespaces and data stay.
#
#   tests/docker/restart.sh DIR [SIGNAL]    (default: TERM, an orderly end; KILL is a crash)
set -euo pipefail

dir=$(readlink -f "${1:?usage: restart.sh DIR [SIGNAL]}")
signal=${2:-TERM}
read -r init _ <"$dir/init.pid"

# Its pid as the machine sees it: DIR/docker.pid is the one inside.
daemon=
# The list has no newline at its end.
read -ra children <"/proc/$init/task/$init/children" || true
for pid in "${children[@]}"; do
  if [ "$(cat "/proc/$pid/comm")" = dockerd ]; then
    daemon=$pid
  fi
done
if [ -z "$daemon" ]; then
  echo "restart.sh: no daemon runs in $dir" >&2
  exit 1
fi
touch "$dir/restart"
kill -"${signal#SIG}" "$daemon"
timeout 60 tail --pid="$daemon" -s 0.1 -f /dev/null

export DOCKER_HOST="unix://$dir/docker.sock"
# A manager answers; before that the daemon is up, and its Swarm is not.
until docker node ls >/dev/null 2>&1; do
  if ! [ -d "/proc/$init" ] || ((SECONDS > 120)); then
    echo "restart.sh: the daemon does not come up again:" >&2
    tail -n 30 "$dir/daemon.log" >&2
    exit 1
  fi
  sleep 0.2
done
