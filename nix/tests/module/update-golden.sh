#!/usr/bin/env bash
# update-golden.sh [NIX-EVAL-OPTION…]: write what the module evaluates to into nix/tests/golden and nix/units.
# Needs nix and jq; evaluates only, builds nothing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
system=$(nix eval --raw --impure --expr builtins.currentSystem)

texts=$(nix eval --json "$root#checks.$system.module.texts" "$@")

jq --raw-output 'keys[]' <<<"$texts" | while read -r folder; do
  rm -rf "${root:?}/nix/$folder"
  mkdir "$root/nix/$folder"
  jq --raw-output --arg folder "$folder" '.[$folder] | keys[]' <<<"$texts" | while read -r name; do
    jq --join-output --arg folder "$folder" --arg name "$name" '.[$folder][$name]' <<<"$texts" \
      >"$root/nix/$folder/$name"
  done
done
