#!/usr/bin/env bash
# Everything that must hold: lint, unit tests, the suites of real processes and real locks, the try-out.
# Installs what it needs and a bare Debian lacks; `.ci/run` is this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (+%ds)\n' "$*" "$SECONDS"; }

step "tools"
tests/tools.sh
# Now, and not beside the VM tests' own.
[ -n "${CCCI_TEST_DOCKER-}" ] || tests/docker/install.sh
export PATH=$PATH:$PWD/target/tools/bin
tests/abra/get.sh target/tools
if [ -x target/tools/abra ]; then
  export CCCI_TEST_ABRA=$PWD/target/tools/abra
fi

step "lint"
# statix comes with Nix and in no registry; without it its part is left out, and said to be.
without=()
command -v statix >/dev/null || without=(--no-nix=statix)
cargo run --quiet --package ccci-lint -- repo "${without[@]}"

step "the Nix files as Nix reads them"
tests/nix.sh

step "documentation"
RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --document-private-items

# They mostly wait, so the tests go on beside them. A group of their own, which ends with this script.
vm_log=$(mktemp)
setsid tests/vm.sh >"$vm_log" 2>&1 &
vm=$!
end_vm() {
  # Collected already, its number may be another's.
  if [ -n "$(jobs -pr)" ]; then
    kill -TERM -- "-$vm" || true
    wait "$vm" || true
  fi
  rm -f "$vm_log"
}
trap end_vm EXIT

step "tests, beside them the VM tests' scripts in containers"
cargo build --quiet --workspace --bins
cargo test --workspace

step "what became of the VM tests' scripts"
result=0
wait "$vm" || result=$?
cat "$vm_log"
[ "$result" -eq 0 ]

step "protections: each is switched off once, and its test must fail"
tests/mutations.sh

step "try-out"
tests/try.sh
