//! `cc-ci-run run --engine abra` on a real Swarm, and what recipe maintainers expect of it.
//!
//! The abra is a stand-in wherever the real one cannot be had ([`ccci_tests::abra`]); Docker, Swarm, git and
//! the deploys are real. Otherwise as the `swarm` suite: one Docker for all claims, run beside each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

mod canaries;
mod clash;
mod leaving;
mod quick;
mod secrets;
mod whole;

use std::process::ExitCode;

use ccci_tests::claims;

/// How many claims run at once, unless the caller says.
const BESIDE_EACH_OTHER: usize = 8;

fn main() -> ExitCode {
    let claims = claims! {
        whole: a_recipe_goes_through_every_tier_by_abra_and_leaves_nothing,
            a_release_is_deployed_pinned_and_the_head_by_chaos;
        quick: a_quick_run_begins_with_the_volumes_and_secrets_of_the_last_good_release;
        canaries: a_good_recipe_with_tests_is_green_to_the_top, a_good_recipe_that_grows_a_service_is_green,
            a_recipe_whose_upgrade_is_rolled_back_is_not_green_again, a_recipe_that_answers_nobody_is_red_in_install,
            a_recipe_whose_upgrade_loses_the_data_is_red_in_upgrade, a_recipe_whose_backup_is_cut_off_is_red_in_backup,
            a_recipe_that_serves_every_name_is_red_in_custom;
        clash: two_refs_of_one_recipe_are_up_at_once_each_from_its_own_tree,
            a_double_trigger_waits_and_each_run_deploys_once;
        leaving: a_cancel_while_abra_deploys_ends_abra_first_and_leaves_nothing,
            the_workers_death_while_abra_restores_leaves_nothing, a_dependency_by_abra_is_up_first_and_gone_at_the_end,
            a_backup_that_no_test_looks_at_is_no_pass, the_previous_overlay_is_for_the_base_alone;
        secrets: the_generated_secrets_are_nowhere_in_the_runs_directory_or_output,
            a_generated_secret_in_the_runs_directory_makes_it_red, a_given_secret_is_inserted_and_not_on_a_command_line;
    };
    claims::run(claims, BESIDE_EACH_OTHER)
}
