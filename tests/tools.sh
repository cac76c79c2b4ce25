#!/usr/bin/env bash
# Installs the outside tools of lint and tests where they are missing: Debian's packages where there is
# apt and we are root, else it says what to install; what is a crate to target/tools/bin, pinned.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A package=(
  [git]=git [shellcheck]=shellcheck [shfmt]=shfmt [yamllint]=yamllint [python3]=python3 [setsid]=util-linux [bash]=bash [go]=golang-go
)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
# Any browser of the family will do, and Debian has the smallest.
browser=
for name in chromium-headless-shell chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && browser=$name
done
[[ $browser ]] || missing+=(chromium-headless-shell)
# The pytest that counts is the one of the python3 on PATH.
pytest=
python3 -m pytest --version >/dev/null 2>&1 || pytest=1

if ((${#missing[@]})) || [[ $pytest ]]; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "please install: ${missing[*]} ${pytest:+pytest for python3}" >&2
    exit 1
  fi
  if ((${#missing[@]})); then
    tests/apt.sh "${missing[@]}"
  fi
  if ! python3 -m pytest --version >/dev/null 2>&1; then
    tests/apt.sh python3-pytest || true
    python3 -m pytest --version >/dev/null 2>&1 || python3 -m pip install --quiet pytest
  fi
fi

# By program: the crate. `nixfmt` is the official formatter's rules in Rust, to the byte. Unoptimised, which is
# fast enough for our files and builds in a third of the time.
# statix is missing here on purpose: the crate of that name is another program.
declare -A crate=([nixfmt]=nixfmt_rs@0.5.3 [deadnix]=deadnix@1.3.1)
for tool in "${!crate[@]}"; do
  if ! command -v "$tool" >/dev/null && [[ ! -x target/tools/bin/$tool ]]; then
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --debug --locked --root target/tools "${crate[$tool]}"
  fi
done
rm -rf target/tools/build

tests/godotenv.sh target/tools/bin
