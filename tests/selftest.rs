//! `selftest runner`: each way of cancelling a step is seen for what it is, and nothing is left of it.

use ccci_tests::host::{self, Host};
use ccci_tests::process;
use ccci_tests::step::{Launch, Step};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// A selftest that does not wait for long where nothing comes.
fn selftest(host: &Host) -> Launch<'_> {
    with_patience(host, "200ms")
}

/// One that goes on for as long as a test may take.
fn patient(host: &Host) -> Launch<'_> {
    with_patience(host, "10m")
}

fn with_patience<'host>(host: &'host Host, patience: &str) -> Launch<'host> {
    let out = host.path("report.json").display().to_string();
    host.command(&["cc-ci-run", "selftest", "runner", "--patience", patience, "--settle", "300ms", "--out", &out])
}

fn report(host: &Host) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(host.path("report.json")).ok()?).ok()
}

/// Starts it and waits until the witness is there.
fn start<'host>(host: &'host Host, launch: Launch<'host>) -> Step<'host> {
    let step = launch.start();
    let _known = step.keeper();
    host::until("the witness looks on", || report(host));
    step
}

/// The finished report, once every part of the selftest has ended.
fn finished(host: &Host) -> Value {
    let report = host::until("the report is finished", || report(host).filter(|report| report["finished"] == true));
    host.assert_soon_clean();
    report
}

fn says(report: &Value) -> String {
    let lines = report["says"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.map(|line| format!("{line}\n")).collect()
}

fn has(report: &Value, who: &str, what: &str) -> bool {
    report["seen"].as_array().into_iter().flatten().any(|seen| seen["who"] == who && seen["what"] == what)
}

fn witness(host: &Host) -> Option<i32> {
    host.processes().iter().find(|process| process.name == "ccci-witness").map(|process| process.pid)
}

#[test]
fn drones_cancel_is_seen_as_the_shells_death_and_the_workspaces_end() {
    let host = Host::new();
    let mut step = start(&host, selftest(&host));
    step.cancel();
    let _ended = step.keeper_end().expect(143);
    let report = finished(&host);
    for (who, what) in
        [("shell", "ended"), ("step", "signal"), ("step", "gave_up"), ("workspace", "gone"), ("home", "gone")]
    {
        assert!(has(&report, who, what), "{who} {what}: {report:#}");
    }
    assert!(!has(&report, "neighbour", "signal") && !has(&report, "witness", "signal"), "{report:#}");
    assert!(says(&report).contains("SIGTERM came from the kernel"), "{report:#}");
    assert!(says(&report).contains("no SIGKILL followed within"), "{report:#}");
    assert_eq!(report["grace_ms"], Value::Null);
}

#[test]
fn a_runner_that_signals_the_step_and_kills_it_later_is_seen_with_its_grace() {
    let host = Host::new();
    let step = start(&host, patient(&host));
    let keeper = step.keeper();
    process::signal(keeper, Signal::SIGTERM);
    host::until("the signal is seen", || report(&host).filter(|report| has(report, "step", "signal")));
    process::signal(keeper, Signal::SIGKILL);
    let _ended = step.end().expect(137);
    let report = finished(&host);
    assert!(
        says(&report).contains("to the step alone") && says(&report).contains("SIGKILL followed after"),
        "{report:#}"
    );
    assert!(report["grace_ms"].is_u64() && has(&report, "step", "killed"), "{report:#}");
    assert!(says(&report).contains("the workspace was still there"), "{report:#}");
    let me = std::process::id();
    let signal = report["seen"].as_array().unwrap().iter().find(|seen| seen["what"] == "signal").unwrap();
    assert_eq!((&signal["signal"], &signal["pid"]), (&Value::from("SIGTERM"), &Value::from(me)));
}

#[test]
fn a_signal_to_the_group_is_told_from_one_to_the_step_alone() {
    let host = Host::new();
    let step = start(&host, selftest(&host).under(&["setsid"]));
    killpg(Pid::from_raw(step.shell()), Signal::SIGTERM).unwrap();
    let _ended = step.end().expect(143);
    let report = finished(&host);
    assert!(has(&report, "neighbour", "signal") && !has(&report, "witness", "signal"), "{report:#}");
    assert!(says(&report).contains("to the step's process group"), "{report:#}");
}

#[test]
fn a_sigkill_without_a_word_and_a_closed_stdout_are_seen() {
    let host = Host::new();
    let step = start(&host, patient(&host).closed_stdout());
    process::signal(step.keeper(), Signal::SIGKILL);
    let _ended = step.end().expect(137);
    let report = finished(&host);
    assert!(says(&report).contains("SIGKILL came without a word"), "{report:#}");
    assert!(has(&report, "stdout", "closed") && says(&report).contains("stdout lost its reader"), "{report:#}");
    assert_eq!(report["stdout"], "pipe");
}

#[test]
fn a_stdout_that_nobody_reads_does_not_make_it_deaf() {
    let host = Host::new();
    let mut step = start(&host, selftest(&host).stuck_stdout());
    step.cancel();
    let _ended = step.keeper_end().expect(143);
    assert!(has(&finished(&host), "step", "signal"));
}

#[test]
fn a_step_that_nobody_cancels_says_so() {
    let host = Host::new();
    let _ended = selftest(&host).args(["--limit", "100ms"]).end().expect(1);
    let report = finished(&host);
    assert!(says(&report).contains("nobody cancelled the step"), "{report:#}");
    assert!(says(&report).contains("stdout (file) was still there"), "{report:#}");
}

#[test]
fn a_runner_that_ends_the_witness_too_leaves_a_report_that_breaks_off() {
    let host = Host::new();
    let step = start(&host, patient(&host));
    let keeper = step.keeper();
    process::signal(keeper, Signal::SIGTERM);
    host::until("the signal is seen", || report(&host).filter(|report| has(report, "step", "signal")));
    let witness = host::until("there is a witness", || witness(&host));
    for pid in [witness, keeper] {
        process::signal(pid, Signal::SIGKILL);
        assert!(process::wait_gone(pid, host::limit()));
    }
    let _ended = step.end().expect(137);
    host.assert_soon_clean();
    let report = report(&host).unwrap();
    assert_eq!(report["finished"], false, "{report:#}");
    assert_eq!(report["says"][0], "not finished");
}
