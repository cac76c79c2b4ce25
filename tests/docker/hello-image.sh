#!/usr/bin/env bash
# Builds the images of the example recipe from nothing but its one static program. DOCKER_HOST says where.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/static
triple=$(rustc --print host-tuple)
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --package hello-app \
  --manifest-path "$root/Cargo.toml" --target "$triple" --target-dir "$target"
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$target/$triple/release/hello-app" "$context/"
printf 'FROM scratch\nCOPY hello-app /hello-app\nENTRYPOINT ["/hello-app"]\n' >"$context/Dockerfile"
for version in 1.0.0 1.1.0; do
  DOCKER_BUILDKIT=0 docker build --quiet --tag "hello-app:$version" "$context"
done
