# shellcheck shell=bash
# Sourced by init.sh and down.sh.

# group_of DIR: the control group of the daemon in DIR, named by the whole path: two folders of the same last name
# have two groups, and the end of one daemon removes nothing of the other's.
group_of() {
  local sum
  sum=$(printf %s "$1" | sha256sum)
  echo "ccci-test-${sum:0:16}"
}
