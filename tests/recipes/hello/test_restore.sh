#!/usr/bin/env bash
# What the pre_restore hook wrote after the backup is gone, what was saved is back.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
entries=$(request GET /entries)
expect "saved entry" "$entries" "written at install"
[[ $entries != *"written after the backup"* ]] || {
  echo "the restore did not replace the data"
  exit 1
}
