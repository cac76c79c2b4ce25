#!/usr/bin/env bash
# Says that a part of the tests is left out, and why. In CI (`CI` is set) that is a failure, unless the part is
# named in CCCI_TESTS_WITHOUT, a list with blanks: what nobody asked to leave out must be tested.
#
#   tests/skip.sh PART REASON...
set -euo pipefail
part=${1:?usage: skip.sh PART REASON...}
shift
printf '\n== SKIPPED: %s: %s ==\n\n' "$part" "$*" >&2
if [[ ${CI-} && " ${CCCI_TESTS_WITHOUT-} " != *" $part "* ]]; then
  echo "nobody asked to leave out '$part': mend the reason, or name it in CCCI_TESTS_WITHOUT" >&2
  exit 1
fi
