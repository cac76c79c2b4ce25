#!/usr/bin/env bash
# The negative controls: tests/mutations.rs switches each protection off, and its test must fail. The
# table is left in the target directory. Arguments are the names of protections to look at.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --quiet --package ccci-tests --test mutations -- "$@"
