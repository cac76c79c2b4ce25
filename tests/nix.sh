#!/usr/bin/env bash
# What Nix itself says of the flake without nixpkgs, which takes an Internet to fetch: that every file parses,
# that flake.lock locks what flake.nix asks for, that each VM test is what nix/checks.nix will find. All the rest
# is `nix flake check`.
#
# Where there is no Nix, one comes by a tool from beside the repository; where that cannot be had, it says what
# it skips and why (tests/skip.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
tools=../shared/tools
own=$PWD/target/tools/nix

skip() {
  exec tests/skip.sh nix "$*"
}

if ! command -v nix >/dev/null; then
  if [[ ! -x $own/bin/nix ]]; then
    [[ -e $tools/get-nix.sh ]] || skip "there is neither Nix nor ../shared/tools with get-nix.sh"
    if ! command -v patchelf >/dev/null; then
      tests/apt.sh patchelf || skip "patchelf cannot be had"
    fi
    mkdir -p "$own"
    said=$(bash "$tools/get-nix.sh" "$own" 2>&1) || skip "Nix cannot be had: ${said##*$'\n'}"
  fi
  export PATH=$own/bin:$PATH NIX_REMOTE="local?root=$own/store"
fi
nix --version

files=()
while IFS= read -r file; do [[ -e $file ]] && files+=("$file"); done < <(git ls-files '*.nix')
nix-instantiate --parse "${files[@]}" >/dev/null

# Without a network: a lock file that has to be changed first is an error.
NIX_CONFIG="experimental-features = nix-command flakes" \
  nix flake metadata --json --offline --no-update-lock-file . >/dev/null

nix-instantiate --eval --strict --expr '
  let
    dir = ./nix/tests;
    names = builtins.filter (name: builtins.match ".*[.]nix" name != null) (builtins.attrNames (builtins.readDir dir));
    check = file:
      let test = import (dir + ("/" + file)); in
      test.testScript != "" && test.name + ".nix" == "cc-ci-" + file
      || throw (file + " has no script, or its name is not cc-ci-NAME");
  in
  builtins.all check names && names != [ ]
' >/dev/null
echo "${#files[@]} Nix files: ok"
