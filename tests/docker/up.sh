#!/usr/bin/env bash
# Starts a Docker of its own with an active Swarm, in DIR, and leaves the machine's Docker alone.
#
#   tests/docker/up.sh DIR [FIFO]
#
# The daemon runs in its own mount, pid and network namespaces: its mounts, bridges and firewall rules
# end with it, and the end of one process (DIR/init.pid) is the end of every process under it. With a
# FIFO it is taken down when the last writer of that FIFO is gone, so that it cannot outlive a test.
# The daemon's address: unix://DIR/docker.sock. Its ports are open inside its network only, see in.sh.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
dir=$(mkdir -p "${1:?usage: up.sh DIR [FIFO]}" && readlink -f "$1")
fifo=${2:-}

# The caller's end is open now; opened later, a reader of a dead caller's FIFO would wait for ever.
if [ -n "$fifo" ]; then
  exec 9<"$fifo"
fi
if [ "$(id -u)" != 0 ]; then
  echo "up.sh: a Docker daemon needs root; run as root, or set CCCI_TEST_DOCKER to a daemon's address" >&2
  exit 1
fi
"$here/install.sh"
if [ -e "$dir/init.pid" ]; then
  echo "up.sh: $dir holds a daemon already; take it down with down.sh first" >&2
  exit 1
fi

# Open for both, or opening it would wait for a writer that may never come.
mkfifo "$dir/ready"
exec 8<>"$dir/ready"
# First of all who ends it: from here on our own death leaves nothing either.
if [ -n "$fifo" ]; then
  # The end of this file is the death of whoever held its other end. We wait until the watcher has
  # left our process group: a caller that ends our group would end it as well.
  # shellcheck disable=SC2016 # expanded by the watcher
  setsid bash -c 'echo >&8; exec 8>&-; cat >/dev/null; exec "$1" "$2"' watch "$here/down.sh" "$dir" \
    <&9 >/dev/null 2>&1 &
  read -r -t 60 -u 8 _
  exec 9<&-
fi
# Nothing of ours may stay open in the daemon: a caller that reads our output would wait for it.
setsid unshare --mount --propagation private --net --pid --fork \
  "$here/init.sh" "$dir" </dev/null >"$dir/daemon.log" 2>&1 8>&- &
if ! read -r -t 60 -u 8 pid; then
  echo "up.sh: the namespaces could not be made:" >&2
  cat "$dir/daemon.log" >&2
  exit 1
fi
exec 8>&-
rm "$dir/ready"

fail() {
  echo "up.sh: $1" >&2
  tail -n 30 "$dir/daemon.log" >&2
  "$here/down.sh" "$dir"
  exit 1
}
export DOCKER_HOST="unix://$dir/docker.sock"
for ((try = 0; ; try++)); do
  docker version >/dev/null 2>&1 && break
  if [ "$try" = 120 ] || ! [ -d "/proc/$pid" ]; then
    fail "the daemon does not answer"
  fi
  sleep 0.5
done
docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null || fail "no Swarm"
"$here/image/build.sh" >&2 || fail "no test image"

echo "$DOCKER_HOST"
