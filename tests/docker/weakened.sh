#!/usr/bin/env bash
# The negative controls: each protection is switched off, and the test that is said to need it must fail.
#
#   tests/docker/weakened.sh [PROTECTION]
#
# Builds with the switches in, in a target directory of its own. Needs root.
set -euo pipefail

root=$(readlink -f "$(dirname "$0")/../..")
cd "$root"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/weakened} RUSTFLAGS="--cfg ccci_weaken"
# A daemon of its own for each: some of these leave lost addresses and other people's objects behind.
unset CCCI_TEST_DOCKER

# The suites of the package ccci-tests drive the built programs.
cargo build --quiet --workspace --bins

wrong=0
while read -r package protection name; do
  [ $# = 0 ] || [ "$1" = "$protection" ] || continue
  if CCCI_WEAKEN=$protection cargo test --quiet -p "$package" --test swarm -- --exact "$name" >/dev/null 2>&1; then
    echo "weakened: $name passes without $protection" >&2
    wrong=1
  elif ! cargo test --quiet -p "$package" --test swarm -- --exact "$name" >/dev/null 2>&1; then
    echo "weakened: $name fails with every protection in force" >&2
    wrong=1
  else
    echo "weakened: $name needs $protection"
  fi
done <<'TABLE'
ccci-core ExactName removal::a_stack_is_taken_down_to_the_last_part_and_its_neighbours_stay
ccci-core VerifyGone removal::a_volume_in_use_is_named_and_goes_as_soon_as_it_can
ccci-core WaitForContainers addresses::twenty_cycles_on_a_network_of_thirteen_addresses_succeed
ccci-tests Prepull deploys::an_image_that_does_not_exist_is_red
ccci-tests PresentTask inside::a_command_runs_in_the_deployed_version_and_never_in_the_one_before
ccci-tests OwnService inside::two_apps_that_are_called_alike_on_a_shared_network_are_each_asked_themselves
ccci-tests BackupAsked rungs::an_app_that_does_not_ask_for_it_is_not_backed_up
ccci-tests FinishedTasks jobs::a_job_that_is_done_is_there_and_its_teardown_is_clean
ccci-tests VariablesAreData variables::no_variable_of_a_recipe_is_one_of_a_program
ccci-tests Policy policy::what_leaves_the_tree_is_refused_before_anything_is_made
ccci-tests ForeignObject policy::what_is_another_stacks_is_refused_before_anything_is_made_and_stays_as_it_is
ccci-tests PruneAlone leaving::images_without_a_name_go_from_a_full_disk_and_never_under_a_live_run
ccci-tests KeptData quick::a_quick_run_begins_with_the_volumes_and_secrets_of_the_last_good_release
TABLE
exit $wrong
