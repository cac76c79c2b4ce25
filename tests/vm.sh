#!/usr/bin/env bash
# The VM tests of nix/tests without Nix: their scripts on a Debian guest with the units, timer and tmpfiles rules
# that the NixOS module evaluates to. Under `nix flake check` the same scripts run on NixOS.
#
#   tests/vm.sh [--backend nspawn|qemu] [NAME...]
#
# nspawn: a container with a systemd of its own, quick, on this machine's kernel. qemu: a whole machine under
# emulation, for a loss of power that is one; minutes for each script.
#
# The guest and the driver of the scripts are tools from beside the repository. Where those, root or a
# container cannot be had, it says what it skips and why (tests/skip.sh).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/../shared/tools
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/vm
declare -A package_of=([mmdebstrap]=mmdebstrap [mke2fs]=e2fsprogs)

skip() {
  exec "$root/tests/skip.sh" vm "$*"
}

backend=nspawn
if [[ ${1-} == --backend ]]; then
  backend=${2:?nspawn or qemu}
  shift 2
fi
case $backend in
nspawn)
  package_of["systemd-nspawn"]=systemd-container
  # More than the cores: a script mostly waits for its Swarm.
  at_once=3
  slowness=1
  ;;
qemu)
  package_of["qemu-system-x86_64"]=qemu-system-x86
  # Here it waits for its own processor.
  at_once=1
  slowness=10
  ;;
*)
  echo "no backend '$backend': nspawn or qemu" >&2
  exit 2
  ;;
esac

names=("$@")
if ((!$#)); then
  # The longest first.
  for name in deadline kill-9-and-janitor reboot same-domain-waits; do names+=("$name"); done
  for script in "$root"/nix/tests/*.py; do
    name=$(basename "$script" .py)
    [[ " ${names[*]} " == *" $name "* ]] || names+=("$name")
  done
fi

[[ -e $tools/driver.py && -e $tools/build-vm.sh ]] || skip "there is no ../shared/tools with build-vm.sh and driver.py"
[[ $(id -u) == 0 ]] || skip "they need root"
missing=()
for command in "${!package_of[@]}"; do
  command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done
if ((${#missing[@]})); then
  "$root/tests/apt.sh" "${missing[@]}" || skip "${missing[*]} cannot be had"
fi
unshare --mount --net --pid --fork true 2>/dev/null || skip "namespaces cannot be made here"

mkdir -p "$work"
if [[ ! -d $work/guest ]]; then
  echo "making the guest (once)"
  rm -rf "$work/guest.new"
  EXTRA=libnss-myhostname,python3-minimal bash "$tools/build-vm.sh" "$work/guest.new" >"$work/guest.log" 2>&1 ||
    skip "the guest cannot be made: $(tail -n 1 "$work/guest.log")"
  mv "$work/guest.new" "$work/guest"
fi

# Static, for the guest has a libc of its own.
triple=$(rustc --print host-tuple)
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --bins --manifest-path "$root/Cargo.toml" \
  --package ccci-harness --package ccci-janitor --package ccci-lint --target "$triple" --target-dir "$target/static"

run=$(mktemp -d "$work/run.XXXXXX")
# Of the drivers that run, by their pids.
declare -A name_of=()
# Each driver is the first process of a pid namespace: with it ends everything that it started.
# shellcheck disable=SC2329 # called by the trap
clean() {
  ((${#name_of[@]} == 0)) || kill -KILL "${!name_of[@]}" 2>/dev/null || true
  wait || true
  rm -rf "$run"
}
trap clean EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

"$root/nix/tests/overlay.sh" "$target/static/$triple/debug" "$run/overlay"
mkdir "$run/tmp"
if [[ $backend == qemu ]]; then
  # The limits of the host under test know nothing of emulation: ten times as long too.
  sed --in-place --regexp-extended 's/^((deadline|wait_timeout|teardown_budget) = "[0-9]+)m"/\10m"/' \
    "$run/overlay/etc/cc-ci/settings.toml"
fi

one() {
  TMPDIR=$run/tmp DRIVER_SLOWNESS=$slowness exec unshare --mount-proc --pid --fork --kill-child \
    python3 "$tools/driver.py" --backend "$backend" --image "$work/guest" --overlay "$run/overlay" \
    --timeout $((600 * slowness)) --console "$root/nix/tests/$1.py" >"$work/$1.log" 2>&1
}

failed=()
next=0
while ((next < ${#names[@]} || ${#name_of[@]})); do
  while ((next < ${#names[@]} && ${#name_of[@]} < at_once)); do
    one "${names[next]}" &
    name_of[$!]=${names[next]}
    next=$((next + 1))
  done
  rc=0
  wait -n -p done_pid "${!name_of[@]}" || rc=$?
  name=${name_of[$done_pid]}
  unset "name_of[$done_pid]"
  if ((rc)); then
    failed+=("$name")
    echo "vm $name: FAIL (+${SECONDS}s); the end of $work/$name.log:"
    tail -n 60 "$work/$name.log"
  else
    echo "vm $name: ok (+${SECONDS}s)"
  fi
done
if ((${#failed[@]})); then
  echo "VM tests failed: ${failed[*]}" >&2
  exit 1
fi
