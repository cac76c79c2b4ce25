#!/usr/bin/env bash
# Installs Debian packages, and says first which. Waits for whoever else has apt's locks, and installs nothing that
# is only recommended.
#
#   tests/apt.sh PACKAGE...
set -euo pipefail

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "please install: $*" >&2
  exit 1
fi
echo "== installing Debian packages: $* ==" >&2
export DEBIAN_FRONTEND=noninteractive
# Of ours only one at a time. The lock ends with this script.
exec 9>/run/lock/cc-ci-tests-apt.lock
flock 9
# apt waits for dpkg's lock where it is told to, and never for the lock of its lists.
for ((try = 1; ; try++)); do
  said=$(apt-get update -qq 2>&1) && break
  if [[ $said != *"Could not get lock"* ]] || ((try == 120)); then
    # The lists that are there may do.
    echo "apt-get update: $said" >&2
    break
  fi
  sleep 5
done
exec apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" >/dev/null
