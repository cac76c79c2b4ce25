//! `cc-ci-run run --engine swarm` on a real Swarm, from the first deploy to the receipt.
//!
//! The claims share one Docker of their own (`tests/docker/up.sh`, as root), which ends with this
//! process. They run beside each other, more than there are processors: what takes time is Swarm's
//! own waiting. Arguments are those of any Rust test; a claim is `file::name`.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

mod asked;
mod clash;
mod deploys;
mod inside;
mod jobs;
mod leaving;
mod lifetime;
mod policy;
mod quick;
mod rungs;
mod variables;
mod whole;

use std::process::ExitCode;

use ccci_tests::claims;

/// How many claims run at once, unless the caller says.
const BESIDE_EACH_OTHER: usize = 10;

fn main() -> ExitCode {
    let mut claims = claims! {
        asked: an_app_that_nobody_can_ask_is_not_green_and_the_run_says_what_to_set,
            a_folder_that_asks_an_app_that_nobody_can_ask_is_an_error,
            an_app_that_is_said_to_have_no_http_passes_and_the_result_says_so,
            an_app_without_a_port_is_asked_at_the_ingress,
            a_port_beside_the_reverse_proxys_is_not_the_front_door;
        jobs: a_job_that_is_done_is_there_and_its_teardown_is_clean,
            a_service_that_ends_well_and_is_not_restarted_is_there,
            what_fails_for_good_is_red_at_once_with_its_exit_code,
            a_task_that_no_node_can_have_is_told_in_swarms_words_and_ends_the_wait,
            a_health_check_that_fails_is_told_with_what_it_said,
            a_port_of_the_host_that_another_stack_has_is_told_with_its_name,
            an_image_whose_name_is_none_is_the_recipes_fault;
        whole: a_recipe_goes_through_every_tier_and_leaves_nothing_of_its_own_and_all_of_the_others;
        quick: a_quick_run_begins_with_the_volumes_and_secrets_of_the_last_good_release;
        rungs: a_failed_install_test_is_red_and_named, a_failed_upgrade_test_is_red_and_named,
            a_backup_that_does_not_verify_is_red_and_named, a_failed_restore_test_is_red_and_named,
            a_failed_custom_test_is_red_and_named, an_app_that_does_not_ask_for_it_is_not_backed_up;
        deploys: a_service_that_keeps_dying_fails_fast_with_its_own_words,
            a_wait_in_vain_ends_with_the_last_lines_of_the_service,
            an_image_that_does_not_exist_is_red, an_image_whose_registry_is_down_is_the_hosts_fault,
            an_update_that_swarm_rolls_back_is_red_with_the_reason,
            an_update_that_swarm_pauses_is_red_with_the_reason,
            a_service_that_the_new_version_dropped_is_gone_after_the_upgrade,
            an_upgrade_to_the_same_commit_is_no_upgrade,
            a_stack_that_docker_refuses_half_way_is_red_and_leaves_nothing,
            a_compose_file_that_cannot_be_read_is_red_before_anything_is_made,
            a_shared_network_without_addresses_is_the_hosts_fault,
            a_run_soon_sees_that_its_tasks_run;
        leaving: a_volume_in_use_is_named_and_the_next_run_removes_it,
            a_secret_in_use_is_named_and_the_next_run_removes_it,
            an_app_whose_guardians_all_died_is_removed_by_the_next_run,
            an_app_whose_guardians_all_died_is_removed_by_the_janitor,
            images_without_a_name_go_from_a_full_disk_and_never_under_a_live_run;
        variables: no_variable_of_a_recipe_is_one_of_a_program, no_variable_of_the_ci_step_is_one_of_a_recipe,
            docker_holds_what_the_env_file_says, an_env_file_that_cannot_be_read_is_red_and_its_line_is_named,
            a_secret_that_docker_would_refuse_is_red_and_its_variable_is_named;
        inside: a_command_runs_in_the_deployed_version_and_never_in_the_one_before,
            two_apps_that_are_called_alike_on_a_shared_network_are_each_asked_themselves;
        policy: what_is_another_stacks_is_refused_before_anything_is_made_and_stays_as_it_is,
            what_leaves_the_tree_is_refused_before_anything_is_made,
            what_the_operator_allows_is_named_and_goes_with_the_run,
            what_a_run_makes_bears_its_label_and_has_limits,
            what_is_deployed_is_what_docker_would_deploy;
        clash: two_recipes_are_up_at_the_same_time, a_second_run_of_the_domain_waits_and_then_deploys_once;
    };
    claims.extend(lifetime::claims());
    claims::run(claims, BESIDE_EACH_OTHER)
}
