//! The negative controls: with a protection switched off, the test that guards it must fail.
//!
//! `cargo test --package ccci-tests --test mutations` builds the binaries once with
//! `--cfg ccci_weaken`, runs the guarding test of every [`Protection`] against them, intact and weakened,
//! and writes the table to `mutations.md` in the target directory. An argument picks protections by
//! name.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ccci_core::process::Job;
use ccci_core::weaken::Protection;
use ccci_tests::binaries;
use ccci_tests::host::LIMIT_VAR;

/// The test that fails without the protection, by suite and name. A protection without one does not compile.
/// What only Docker can show is in [`WITH_DOCKER`], which has a table of its own.
const fn guarding(protection: Protection) -> (&'static str, &'static str) {
    match protection {
        Protection::InodeCheck => ("concurrency", "a_waiter_on_an_unlinked_file_goes_on_to_wait_on_the_live_one"),
        Protection::Queue => ("concurrency", "four_runs_of_one_domain_go_one_after_the_other"),
        Protection::Overtaking => ("concurrency", "a_newcomer_overtakes_nobody_who_waits"),
        Protection::HolderVerify => ("concurrency", "a_holder_whose_file_was_taken_over_touches_nothing_more"),
        Protection::Cloexec => ("concurrency", "a_dead_holders_lock_is_free_at_once_though_its_services_live"),
        Protection::ParentDeathSignal => ("lifetime", "a_cancel_leaves_nothing::Install"),
        Protection::SignalShield => ("lifetime", "a_signal_that_ends_others_by_default_ends_no_guardian"),
        Protection::RunGroup => ("lifetime", "what_forks_for_ever_ends_with_the_run_and_leaves_no_group"),
        Protection::CollectOrphans => ("lifetime", "orphans_are_collected_at_once_and_no_end_of_a_child_is_lost"),
        Protection::Continue => ("lifetime", "what_is_stopped_goes_on_to_hear_that_it_is_to_end"),
        Protection::ReaperStart => {
            ("lifetime", "where_no_reaper_can_ever_be_started_the_supervisor_takes_the_app_down")
        }
        Protection::WorkerDeathSignal => ("lifetime", "the_keepers_sigkill_leaves_nothing::Install"),
        Protection::BecomeReaper => ("lifetime", "the_keepers_sigkill_leaves_nothing::Custom"),
        Protection::SharedClaim => ("guard", "a_stopped_worker_keeps_its_dead_supervisors_claim"),
        Protection::OpenIndex => ("guard", "a_guard_that_died_before_a_reboot_is_torn_down_by_the_next"),
        Protection::ConcludeDead => ("janitor", "a_run_whose_every_part_was_killed_is_concluded"),
        Protection::SupersedeAll => ("concurrency", "of_three_that_supersede_only_the_last_runs_to_its_end"),
        Protection::ForeignTag => ("guard", "a_cancel_from_around_a_guard_lets_its_teardown_finish"),
        Protection::TagKill => ("lifetime", "a_descendant_that_left_its_session_ends_with_the_run"),
        Protection::SecondSignal => ("lifetime", "a_second_term_does_not_end_the_teardown"),
        Protection::DirtyOnAcquire => ("concurrency", "what_a_dead_run_left_is_reaped_before_the_next_one_begins"),
        Protection::VerifyGone => ("lifetime", "what_comes_up_again_during_the_teardown_is_found_and_removed"),
        Protection::ExactName => ("concurrency", "a_name_that_is_not_exactly_ours_is_never_touched"),
        Protection::FailClosed => ("concurrency", "a_source_that_cannot_be_read_is_never_taken_for_empty"),
        Protection::StatePerRun => ("state", "two_interleaved_runs_of_one_domain_each_count_their_own_deploy"),
        Protection::ParentCheck => ("lifetime", "a_run_whose_parent_died_first_refuses_also_under_a_subreaper"),
        Protection::ReaperBudget => ("lifetime", "a_reaper_that_hangs_is_ended_with_its_budget_and_none_follows_it"),
        Protection::ReaperRetry => ("lifetime", "a_reaper_that_dies_is_followed_by_another_and_another"),
        Protection::ClosedStdout => ("lifetime", "a_closed_stdout_changes_nothing"),
        Protection::DeadlineClock => ("lifetime", "the_deadline_ends_a_run_with_142"),
        Protection::CancelWait => ("concurrency", "a_cancel_ends_the_wait_and_leaves_nothing"),
        Protection::DeployCount => ("pipeline", "a_deploy_more_than_was_meant_is_red"),
        Protection::SkippedIsNotPass => ("pipeline", "tests_that_were_all_skipped_are_no_pass"),
        Protection::UpgradeMoves => ("pipeline", "an_upgrade_that_moves_nothing_is_red"),
        Protection::FailFast => ("pipeline", "a_crash_looping_service_fails_fast_with_its_own_error"),
        Protection::Monitor => ("pipeline", "a_service_that_dies_a_moment_later_is_red_though_nobody_asks_it"),
        Protection::Exclusion => ("concurrency", "a_second_run_of_the_domain_waits_and_then_deploys_once"),
        Protection::NoFollow => ("concurrency", "what_is_no_lock_file_of_ours_is_named_and_left_alone"),
        Protection::Slots => ("concurrency", "as_many_runs_work_at_once_as_there_are_slots"),
        Protection::HolderAgreed => ("concurrency", "nobody_is_asked_to_stop_on_the_word_of_the_record_alone"),
        Protection::SavedTeardown => ("guard", "the_saved_teardown_runs_when_the_workspace_is_gone"),
        Protection::DependencyRecord => ("features", "a_dependency_is_gone_whatever_becomes_of_the_app"),
        Protection::Redaction => ("pipeline", "the_runs_secrets_are_nowhere_in_its_directory_or_output"),
        Protection::OnlyText => ("text", "what_a_test_an_app_and_git_say_does_nothing_wherever_it_is_passed_on"),
        Protection::SecretSearch => ("pipeline", "a_secret_that_a_test_writes_into_the_runs_directory_makes_it_red"),
        Protection::Patience => ("janitor", "a_live_run_whose_lock_file_was_unlinked_keeps_its_app"),
        Protection::RobbedFirst => ("concurrency", "a_run_lets_another_end_first_that_was_robbed_of_its_lock_file"),
        Protection::HostLock => ("janitor", "runs_share_the_host_lock_and_wait_for_a_prune"),
        Protection::PruneAlone => {
            (WITH_DOCKER, "leaving::images_without_a_name_go_from_a_full_disk_and_never_under_a_live_run")
        }
        Protection::OwnComment => ("forge", "a_comment_of_somebody_else_with_our_marker_is_left_alone"),
        Protection::ToldAfterRelease => ("forge", "the_lock_is_free_before_the_forge_is_told_of_the_end"),
        Protection::MembersOnly => ("bridge", "a_members_wish_becomes_one_build_of_the_pull_requests_head"),
        Protection::ClaimedOnce => ("bridge", "a_wish_that_another_bridge_took_is_left_to_it"),
        Protection::SeenHead => ("bridge", "approval::a_head_that_was_pushed_after_the_comment_is_not_tested"),
        Protection::LookBack => ("bridge", "memory::a_wish_of_the_time_between_two_bridges_is_found_by_the_second"),
        Protection::WebhookSignature => ("bridge", "listener::only_a_signed_webhook_makes_it_look_at_once"),
        Protection::SnapshotChecksum => ("quick", "kept_data_that_were_changed_are_not_used"),
        Protection::SnapshotLock => ("quick", "a_snapshot_is_replaced_as_a_whole_and_not_while_somebody_reads_it"),
        Protection::PromoteGreen => ("quick", "a_run_that_is_not_green_keeps_nothing_and_what_was_kept_stays"),
        Protection::KeptData => {
            ("quick", "a_quick_run_begins_with_the_data_of_the_last_good_release_and_puts_them_back")
        }
        Protection::QuickContext => ("quick", "the_forge_is_told_of_a_quick_run_under_a_name_of_its_own"),
        Protection::NoAlarm => ("lifetime", "an_alarm_that_the_caller_left_running_ends_nothing"),
        Protection::Nohup => ("lifetime", "a_hangup_that_the_caller_ignores_ends_nothing"),
        Protection::Descendants => ("lifetime", "a_descendant_that_shed_its_environment_ends_with_the_run"),
        Protection::CallersOwn => ("guard", "what_the_caller_had_running_before_is_not_the_guards_to_end"),
        Protection::OwnClock => ("concurrency", "the_wait_for_the_lock_is_not_taken_from_the_deadline"),
        Protection::HealedLine => ("guard", "a_half_line_in_the_events_loses_nothing_of_the_guards"),
        Protection::Completeness => ("pipeline", "a_result_that_was_lost_is_never_green_and_is_named"),
        Protection::Prepull => (WITH_DOCKER, "deploys::an_image_that_does_not_exist_is_red"),
        Protection::PresentTask => {
            (WITH_DOCKER, "inside::a_command_runs_in_the_deployed_version_and_never_in_the_one_before")
        }
        Protection::Policy => (WITH_DOCKER, "policy::what_leaves_the_tree_is_refused_before_anything_is_made"),
        Protection::ForeignObject => {
            (WITH_DOCKER, "policy::what_is_another_stacks_is_refused_before_anything_is_made_and_stays_as_it_is")
        }
        Protection::OwnService => {
            (WITH_DOCKER, "inside::two_apps_that_are_called_alike_on_a_shared_network_are_each_asked_themselves")
        }
        Protection::BackupAsked => (WITH_DOCKER, "rungs::an_app_that_does_not_ask_for_it_is_not_backed_up"),
        Protection::FinishedTasks => (WITH_DOCKER, "jobs::a_job_that_is_done_is_there_and_its_teardown_is_clean"),
        Protection::Asked => ("pipeline", "an_app_that_nobody_can_ask_has_not_passed"),
        Protection::VariablesAreData => (WITH_DOCKER, "variables::no_variable_of_a_recipe_is_one_of_a_program"),
        Protection::WaitForContainers => {
            (WITH_DOCKER, "addresses::twenty_cycles_on_a_network_of_thirteen_addresses_succeed")
        }
    }
}

/// What the assertion says that must fail without the protection, where more than one of its test could. Elsewhere any
/// assertion counts, and no accident does.
const fn finding(protection: Protection) -> Option<&'static [&'static str]> {
    match protection {
        Protection::OnlyText => Some(&["assertion `left == right` failed: "]),
        Protection::SecretSearch => Some(&["exit code 0 instead of 1"]),
        _ => None,
    }
}

/// Runs the tests that need Docker, weakened.
const WITH_DOCKER: &str = "tests/docker/weakened.sh";

/// How long a test may wait for what should happen. The same for both: with less, a weakened test could fail because
/// of its haste alone.
const LIMIT: &str = "45";
/// What a panic says that is no finding: the kit could not do its work.
const NO_FINDING: [&str; 3] =
    ["the binaries under test cannot be built", "Resource temporarily unavailable", "No space left on device"];
/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(300);
/// So many tests at once.
const AT_ONCE: usize = 4;

/// What became of a protection's test.
struct Row {
    protection: Protection,
    intact: Result<(), String>,
    /// How it failed, which is what is wanted.
    weakened: Result<String, String>,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let target = binaries::dir().parent().unwrap_or(Path::new("/")).to_owned();
    let weak = build_weakened(&target);
    let suites = build_suites(&target);
    let mut todo: Vec<Protection> = Protection::ALL.to_vec();
    todo.retain(|protection| guarding(*protection).0 != WITH_DOCKER);
    todo.retain(|protection| wanted.is_empty() || wanted.contains(&format!("{protection:?}")));
    todo.reverse();
    let (todo, rows) = (Mutex::new(todo), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // Two statements, so that the list is not locked while a test runs.
                while let Some(protection) = next(&todo) {
                    let row = examine(protection, &suites, &weak);
                    let done = if row.intact.is_ok() && row.weakened.is_ok() { "ok" } else { "FAILED" };
                    say(&format!("{protection:?} ... {done}"));
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|row| row.protection as usize);
    let table = table(&rows);
    say(&format!("\n{table}\n{} protections in {} s", rows.len(), begun.elapsed().as_secs()));
    if let Err(error) = std::fs::write(target.join("mutations.md"), table) {
        say(&format!("cannot write the table: {error}"));
        return ExitCode::FAILURE;
    }
    let good = rows.iter().all(|row| row.intact.is_ok() && row.weakened.is_ok());
    if good && !rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn next(todo: &Mutex<Vec<Protection>>) -> Option<Protection> {
    todo.lock().ok()?.pop()
}

fn cargo(target: &Path) -> Job {
    Job::new(env!("CARGO"))
        .without_env(|key| key.starts_with("CARGO_PKG_") || key.starts_with("CCCI_"))
        .env([("CARGO_TARGET_DIR", target)])
        .dir(binaries::workspace())
        .timeout(Duration::from_secs(1800))
}

/// Builds all binaries with the switches in them; the directory they are in.
fn build_weakened(target: &Path) -> PathBuf {
    let weak = target.join("weaken");
    let flags = format!("{} --cfg ccci_weaken", std::env::var("RUSTFLAGS").unwrap_or_default());
    let build = cargo(&weak).args(["build", "--quiet", "--workspace", "--bins"]).env([("RUSTFLAGS", flags.trim())]);
    if let Err(error) = build.run_ok(&mut |line| say(line)) {
        panic!("the weakened binaries cannot be built: {error}");
    }
    weak.join("debug")
}

/// Builds the suites; their executables by name.
fn build_suites(target: &Path) -> BTreeMap<String, PathBuf> {
    let args = ["test", "--package", "ccci-tests", "--tests", "--no-run", "--message-format", "json"];
    let built = cargo(target).args(args).capture().run_ok(&mut |_| {});
    let built = built.unwrap_or_else(|error| panic!("the suites cannot be built: {error}"));
    let mut suites = BTreeMap::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(executable) = message["executable"].as_str() {
            suites.insert(name.to_owned(), PathBuf::from(executable));
        }
    }
    suites
}

fn examine(protection: Protection, suites: &BTreeMap<String, PathBuf>, weak: &Path) -> Row {
    let (suite, test) = guarding(protection);
    let Some(suite) = suites.get(suite) else { panic!("there is no suite {suite}") };
    let job = Job::new(suite)
        .args(["--exact", test, "--test-threads", "1"])
        .without_env(|key| key.starts_with("CCCI_"))
        .env([(binaries::BIN_DIR_VAR, weak)])
        .env([("RUST_BACKTRACE", "0"), (LIMIT_VAR, LIMIT)])
        .timeout(HANGS);
    let mut output = Vec::new();
    let intact = job.run(&mut |line| output.push(line.to_owned()));
    let passed = intact.is_ok() && output.iter().any(|line| line.starts_with("test result: ok. 1 passed; 0 failed"));
    let intact = if passed { Ok(()) } else { Err(reason(&output)) };

    output.clear();
    let off = format!("{protection:?}");
    let weakened = job.env([("CCCI_WEAKEN", off.as_str())]);
    let weakened = weakened.run(&mut |line| output.push(line.to_owned()));
    let failed =
        weakened.is_ok() && output.iter().any(|line| line.starts_with("test result: FAILED. 0 passed; 1 failed"));
    let how = reason(&output);
    let weakened = match (failed, finding(protection)) {
        (false, _) => Err(how),
        (true, Some(finding)) if !finding.iter().any(|words| how.contains(words)) => {
            Err(format!("by another assertion than {finding:?}: {how}"))
        }
        (true, None) if NO_FINDING.iter().any(|words| how.contains(words)) => Err(format!("by accident: {how}")),
        (true, _) => Ok(how),
    };
    Row { protection, intact, weakened }
}

/// What a test said when it panicked.
fn reason(output: &[String]) -> String {
    let panicked = output.iter().position(|line| line.starts_with("thread '") && line.contains("panicked at"));
    let Some(panicked) = panicked else { return "it passes, or did not run".to_owned() };
    let said = output[panicked + 1..].iter().map(|line| line.trim()).take(6);
    let said =
        said.take_while(|line| !line.is_empty() && !["note:", "==", "stderr:"].iter().any(|end| line.starts_with(end)));
    let said = said.collect::<Vec<_>>().join(" ").replace('|', "¦");
    said.trim_end_matches([';', ':', ' ']).chars().take(120).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = "| protection | test | weakened | intact | how it fails |\n|---|---|---|---|---|\n".to_owned();
    for Row { protection, intact, weakened } in rows {
        let (suite, test) = guarding(*protection);
        let (fails, how) = match weakened {
            Ok(how) => ("fails", how),
            Err(why) => ("**DOES NOT FAIL**", why),
        };
        let passes = intact.as_ref().map_or_else(|why| format!("**FAILS**: {why}"), |()| "passes".to_owned());
        text += &format!("| `{protection:?}` | `{suite}::{test}` | {fails} | {passes} | {how} |\n");
    }
    for protection in Protection::ALL {
        let (suite, test) = guarding(*protection);
        if suite == WITH_DOCKER {
            text += &format!("| `{protection:?}` | `{test}` | by `{suite}` | by `{suite}` | |\n");
        }
    }
    text
}

fn say(text: &str) {
    let _unseen = writeln!(std::io::stdout(), "{text}");
}
