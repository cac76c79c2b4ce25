#!/usr/bin/env bash
# A fresh app has an empty book, and keeps what is written into it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
expect "write" "$(request POST /entries 'written at install')" "201 added"
expect "read" "$(request GET /entries)" "written at install"
