#!/usr/bin/env bash
# Installs godotenv, whose reading of env files ours is compared with (crates/ccci-core/tests/godotenv.rs), into DIR by
# the Go client. Where it cannot be had, says so (tests/skip.sh): the comparison is then left out.
#
#   tests/godotenv.sh DIR
set -euo pipefail

# The release that abra's own reader is made from.
version=v1.5.1
dir=$(mkdir -p "${1:?usage: godotenv.sh DIR}" && readlink -f "$1")

loud() {
  "$(dirname "$(readlink -f "$0")")/skip.sh" godotenv "$* (env files are not compared with godotenv's reading)"
}

if [[ -x $dir/godotenv ]]; then
  exit
elif ! command -v go >/dev/null; then
  loud "there is no go to install it with: apt-get install golang-go"
elif ! said=$(GOBIN=$dir timeout 300 go install "github.com/joho/godotenv/cmd/godotenv@$version" 2>&1); then
  loud "go install github.com/joho/godotenv/cmd/godotenv@$version: ${said##*$'\n'}"
fi
