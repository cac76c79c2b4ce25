# shellcheck shell=bash
# Sourced by all.sh and quick.sh: steps that are told before they begin, and whose failures are told at the end.

failed=()

# step NAME USUALLY COMMAND...: what it does, how long that usually takes on two processors, and the command.
step() {
  local name=$1 usually=$2 begun=$SECONDS
  shift 2
  printf '\n== %s (usually %s; +%ds) ==\n' "$name" "$usually" "$begun"
  if "$@"; then
    printf '== %s: ok (%ds) ==\n' "$name" "$((SECONDS - begun))"
  else
    printf '== %s: FAILED (%ds) ==\n' "$name" "$((SECONDS - begun))"
    failed+=("$name")
  fi
}

# conclude: the failures, and the exit code.
conclude() {
  if ((${#failed[@]})); then
    printf '\nFAILED after %ds:\n' "$SECONDS"
    printf '  %s\n' "${failed[@]}"
    return 1
  fi
  printf '\nall steps passed (%ds)\n' "$SECONDS"
}

# The lint of the repository. statix comes with Nix and is in no registry; without it its part is left out, and said
# to be.
lint() {
  local without=()
  if ! command -v statix >/dev/null; then
    tests/skip.sh statix "it comes with Nix and is in no registry" || return 1
    without=(--no-nix=statix)
  fi
  cargo run --quiet --package ccci-lint -- repo "${without[@]}"
}
