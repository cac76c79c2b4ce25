#!/usr/bin/env bash
# Builds the image `ccci-test` from nothing but one static program. DOCKER_HOST says where.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
"${CC:-cc}" -static -Os -Wall -Wextra -o "$context/app" "$here/app.c"
cp "$here/Dockerfile" "$context/"
# The classic builder: BuildKit's client part is a plugin that many hosts do not have.
DOCKER_BUILDKIT=0 docker build --quiet --tag ccci-test:1 "$context"
docker tag ccci-test:1 ccci-test:2
