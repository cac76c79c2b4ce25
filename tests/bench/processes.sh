#!/usr/bin/env bash
# What every run pays for, beside what a user would pick instead; see processes.rs.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --quiet --release --workspace --bins
CCCI_TEST_BIN_DIR=$(readlink -f "${CARGO_TARGET_DIR:-target}")/release cargo bench --quiet --package ccci-tests --bench processes
