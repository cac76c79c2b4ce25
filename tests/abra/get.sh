#!/usr/bin/env bash
# Installs the real abra into DIR by the Go client, at the version that docs/abra.md speaks of. Where it
# cannot be had, says so (tests/skip.sh): the tests then run on the stand-in.
#
#   tests/abra/get.sh DIR
set -euo pipefail

# A tag of abra's, which have no `v`: the Go client makes a version of its own of it.
version=0.13.0-beta
dir=$(mkdir -p "${1:?usage: get.sh DIR}" && readlink -f "$1")

loud() {
  "$(dirname "$(readlink -f "$0")")/../skip.sh" abra \
    "$* (the tests of the abra engine run on the stand-in tests/abra/abra, which is not abra)"
}

if [[ -x $dir/abra ]]; then
  "$dir/abra" --version
elif ! command -v go >/dev/null; then
  loud "there is no go to install it with"
elif ! said=$(GOBIN=$dir timeout 300 go install "coopcloud.tech/abra/cmd/abra@$version" 2>&1); then
  loud "go install coopcloud.tech/abra/cmd/abra@$version: ${said##*$'\n'}"
else
  "$dir/abra" --version
fi
