#!/usr/bin/env bash
# Ends the Docker that up.sh started in DIR, and removes DIR. A daemon that is gone already is no error.
#
#   tests/docker/down.sh DIR
set -euo pipefail
# shellcheck source=tests/docker/group.sh
. "$(dirname "$(readlink -f "$0")")/group.sh"

dir=$(readlink -f "${1:?usage: down.sh DIR}")
[ -d "$dir" ] || exit 0

# Whether the process is still the one that up.sh started: the number alone may be another's by now.
ours() {
  local stat rest fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  rest=${stat##*) }
  read -ra fields <<<"$rest"
  [ "${fields[19]}" = "$2" ]
}

if [ -e "$dir/init.pid" ]; then
  read -r pid start <"$dir/init.pid"
  if ours "$pid" "$start"; then
    # An orderly end stops the containers; the end of the namespace's first process ends what is left.
    kill -TERM "$pid" 2>/dev/null || true
    timeout 20 tail --pid="$pid" -s 0.1 -f /dev/null || true
    if ours "$pid" "$start"; then
      kill -KILL "$pid" 2>/dev/null || true
    fi
    timeout 20 tail --pid="$pid" -s 0.1 -f /dev/null
  fi
fi
# Empty control groups are all that the kernel keeps of the containers.
name=$(group_of "$dir")
for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
  if [ -d "$group" ]; then
    find "$group" -depth -type d -exec rmdir {} + || true
  fi
done
rm -rf "$dir"
