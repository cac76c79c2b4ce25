#!/usr/bin/env bash
# The new version greets in its own words and still has the old one's data.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
expect "greeting" "$(request GET /)" "Hello, world"
expect "data" "$(request GET /entries)" "written at install"
