#!/usr/bin/env bash
# prepare-swarm NETWORK SUBNET: a one-node Swarm and the overlay network that test apps are routed on.
#
# Touches nothing that is there already: an active Swarm and an existing network are the operator's.
set -euo pipefail

network=${1:?the name of the overlay network}
subnet=${2:?its subnet, such as 10.199.0.0/16}

case $(docker info --format '{{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}') in
active/true) ;;
inactive/*)
  # Loopback: the one node talks to itself, and no manager port faces the outside.
  docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
  ;;
*)
  echo "this node is neither free nor a Swarm manager; recipes can only be deployed from a manager: see 'docker info', then 'docker swarm leave'" >&2
  exit 69
  ;;
esac

# Not by --filter name=…: for networks of the Swarm that is a prefix and takes no anchors.
networks=$(docker network ls --format '{{.Name}} {{.Driver}}/{{.Scope}}')
found=$(sed --quiet "s/^${network//./\\.} //p" <<<"$networks")
case $found in
'') docker network create --driver overlay --attachable --subnet "$subnet" "$network" >/dev/null ;;
overlay/swarm) ;;
*)
  echo "network '$network' exists as '$found', not as an overlay of the Swarm: remove it ('docker network rm $network') or choose another name" >&2
  exit 69
  ;;
esac

# A narrow network lasts only until removed stacks have leaked its addresses away (moby/swarmkit#3230).
subnets=$(docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{end}}' "$network")
for each in $subnets; do
  if [[ $each != *:* ]] && ((${each##*/} > 16)); then
    echo "warning: network '$network' is $each and will run out of addresses: make it anew as a /16" >&2
  fi
done
