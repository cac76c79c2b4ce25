#!/usr/bin/env bash
# Without the admin token nobody empties the book; under another name there is no site.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
expect "delete without token" "$(request DELETE /entries)" "403"
CCCI_APP_DOMAIN=other.example expect "another host" "$(CCCI_APP_DOMAIN=other.example request GET /)" "404"
