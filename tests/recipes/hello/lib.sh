# shellcheck shell=bash
# Shared by the tests beside it; not executable, so no test itself.
# curl is not on every host, bash is: one request over /dev/tcp.

# request METHOD PATH [BODY]: prints status and body.
request() {
  local host_port=${CCCI_BASE_URL#http://} body=${3:-} status line
  exec 3<>"/dev/tcp/${host_port%:*}/${host_port##*:}"
  printf '%s %s HTTP/1.0\r\nHost: %s\r\nContent-Length: %s\r\n\r\n%s' \
    "$1" "$2" "$CCCI_APP_DOMAIN" "${#body}" "$body" >&3
  read -r _ status _ <&3
  while IFS= read -r line <&3 && [[ ${line%$'\r'} ]]; do :; done
  printf '%s ' "$status"
  cat <&3
  exec 3<&-
}

# expect WHAT GOT WANTED: fails with both, so that the result says what was wrong.
expect() {
  [[ $2 == *"$3"* ]] || {
    echo "$1: got '$2', wanted '$3'"
    exit 1
  }
  echo "$1: ok"
}
