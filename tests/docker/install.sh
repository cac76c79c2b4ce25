#!/usr/bin/env bash
# Installs Docker where it is missing, on a Debian and as root. Nothing of it is started.
#
#   tests/docker/install.sh
set -euo pipefail

if command -v dockerd >/dev/null && command -v iptables >/dev/null && command -v ip >/dev/null; then
  exit
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "please install docker.io, iptables and iproute2, or set CCCI_TEST_DOCKER to a daemon's address" >&2
  exit 1
fi
exec "$(dirname "$(readlink -f "$0")")/../apt.sh" docker.io iptables iproute2 >&2
