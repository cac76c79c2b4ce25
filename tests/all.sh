#!/usr/bin/env bash
# Everything that must hold: lint, unit tests, the suites of real processes and real locks, a real Swarm, the VM tests'
# scripts in containers, the protections switched off one by one, the try-out.
#
# Installs what it needs and a bare Debian lacks, and says it before. A failed step does not keep the next from being
# tried; the failures are told at the end. `tests/quick.sh` is for while you work.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/steps.sh
. tests/steps.sh

# Without these nothing can be said.
printf '== the tools: Debian packages, crates (usually 1 min; 5 min the first time) ==\n'
tests/tools.sh
# Now, and not beside the VM tests' own.
[ -n "${CCCI_TEST_DOCKER-}" ] || tests/docker/install.sh
export PATH=$PATH:$PWD/target/tools/bin
tests/abra/get.sh target/tools
if [ -x target/tools/abra ]; then
  export CCCI_TEST_ABRA=$PWD/target/tools/abra
fi

step "lint" "2 min" lint
step "the Nix files as Nix reads them" "20 s" tests/nix.sh
step "documentation" "1 min" env RUSTDOCFLAGS="--deny warnings" \
  cargo doc --quiet --workspace --no-deps --document-private-items

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
vm_result() {
  local result=0
  wait "$vm" || result=$?
  cat "$vm_log"
  return "$result"
}

step "the programs" "2 min" cargo build --quiet --workspace --bins
step "tests; beside them the VM tests' scripts in containers" "15 min" cargo test --workspace --no-fail-fast
step "what became of the VM tests' scripts" "0 s" vm_result
step "protections: each is switched off once, and its test must fail" "2 min" tests/mutations.sh
step "try-out" "1 min" tests/try.sh

conclude
