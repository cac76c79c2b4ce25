#!/usr/bin/env bash
# overlay.sh BIN OUT: what the module and the VM tests' node add to a NixOS host, as a root file system to be
# laid over any other systemd guest with Docker. The *.py of this folder then run there unchanged.
#
# BIN holds cc-ci-run, cc-ci-janitor and cc-ci-lint; units, timer, tmpfiles rules and settings are the ones
# that the module evaluates to (golden/).
set -euo pipefail

bin=${1:?folder with the binaries}
out=${2:?folder to make}
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

mkdir -p "$out"/etc/{cc-ci,systemd/system,tmpfiles.d} "$out"/usr/{bin,libexec/cc-ci}
install --mode 0755 "$bin"/cc-ci-{run,janitor,lint} "$out/usr/bin"
install --mode 0755 "$here/../prepare-swarm.sh" "$out/usr/libexec/cc-ci/prepare-swarm"
install --mode 0644 "$here/golden/cc-ci.conf" "$out/etc/tmpfiles.d"
install --mode 0644 "$here/golden/settings.toml" "$out/etc/cc-ci"
cp --recursive "$here/common/lab" "$out/etc/cc-ci-lab"

for unit in "$here"/golden/*.{service,timer}; do
  name=$(basename "$unit")
  install --mode 0644 "$unit" "$out/etc/systemd/system"
  sed --quiet 's/^WantedBy=//p' "$unit" | tr ' ' '\n' | while read -r target; do
    mkdir -p "$out/etc/systemd/system/$target.wants"
    ln --symbolic --force "../$name" "$out/etc/systemd/system/$target.wants/$name"
  done
done
