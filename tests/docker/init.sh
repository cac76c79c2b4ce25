#!/usr/bin/env bash
# The first process of the namespaces that up.sh makes: says who it is, starts dockerd, collects orphans.
# DIR/init.pid has its pid and start time, both as the machine sees them: down.sh ends it by them.
set -euo pipefail
# shellcheck source=tests/docker/group.sh
. "$(dirname "$(readlink -f "$0")")/group.sh"

dir=$1
# /proc is still the machine's here, so this is our pid as the machine sees it.
stat=$(</proc/self/stat)
rest=${stat##*) }
read -ra fields <<<"$rest"
echo "${stat%% *} ${fields[19]}" >"$dir/init.pid"
echo "${stat%% *}" >"$dir/ready"

mount -t proc proc /proc
# containerd and the plugins keep their sockets under /run; the machine's own must not be met there.
mount -t tmpfs tmpfs /run
ip link set lo up

# A daemon that ended can leave the vxlan device of an overlay network, on its way to that network's namespace or in
# it, and the next one has no use of the network then: "error creating vxlan interface: file exists"
# (moby/libnetwork#1765). Docker's own fault, and the operators' remedy.
clear_networks() {
  local namespace device
  for namespace in "$dir"/exec/netns/[0-9]*-*; do
    umount "$namespace" 2>/dev/null || true
    rm -f "$namespace" || true
  done
  ip -oneline link show type vxlan | while IFS=': @' read -r _ device _; do
    ip link delete "$device" || true
  done
}

stopping=
trap 'stopping=1; kill -TERM "$daemon"' TERM
while :; do
  dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" \
    --host "unix://$dir/docker.sock" --bip 172.31.77.1/24 --cgroup-parent "/$(group_of "$dir")" &
  daemon=$!
  # A signal ends `wait` early; the second one waits for the daemon's own end.
  wait "$daemon" || wait "$daemon" || true
  # One that ends by itself is not started again and again: restart.sh says when one is to follow.
  if [ "$stopping" ] || ! rm "$dir/restart" 2>/dev/null; then
    exit
  fi
  clear_networks
done
