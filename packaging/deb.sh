#!/usr/bin/env bash
# deb.sh OUT: a Debian package of static programs in the folder OUT, for any Debian or derivative with systemd.
# What is in it stands in crates/ccci-harness/Cargo.toml.
#
# Needs cargo-deb 3.8 or newer, which is none of CI's tools: it takes as long to build as everything here.
set -euo pipefail
mkdir -p "${1:?the folder to write to}"
out=$(realpath "$1")
cd "$(dirname "$0")/.."
cargo deb --version >/dev/null || {
  echo "please install cargo-deb: cargo install cargo-deb" >&2
  exit 1
}

triple=$(rustc --print host-tuple)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/static
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --bins \
  --package ccci-bridge --package ccci-harness --package ccci-janitor --package ccci-lint --target "$triple"

# The programs write their own pages and completions.
built=$CARGO_TARGET_DIR/$triple/release
rm -rf "$built/generated"
for program in cc-ci-bridge cc-ci-run cc-ci-janitor cc-ci-lint; do
  "$built/$program" generate man "$built/generated/man"
  "$built/$program" generate completions "$built/generated/completions"
done

cargo deb --package ccci-harness --target "$triple" --no-build --output "$out/"
