//! One test file: an executable (0 pass, 77 skip, else fail) or a pytest file, whose JUnit is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use ccci_core::process::{Ended, Job as Process, ProcessError, programs};
use quick_junit::{Report, TestCaseStatus};

use super::stage::{to_log, without_the_steps_secrets};
use crate::console::Console;
use crate::event::millis;
use crate::outcome::Outcome;
use crate::recipe::{Folder, TestFile};

/// An executable's way to say "does not apply here" (automake's).
const SKIPPED: i32 = 77;

/// What became of one test file, or of one generic assertion.
#[derive(Debug, Clone)]
pub(super) struct TestResult {
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) milliseconds: u64,
}

/// Runs a test file.
///
/// # Errors
/// When it could not be started, or its run could not be followed.
pub(super) fn run(
    test: &TestFile,
    folder: &Folder,
    env: &BTreeMap<String, String>,
    mut log: File,
    console: &mut Console,
) -> Result<TestResult, ProcessError> {
    let begun = ccci_core::lifetime::clock::Deadline::after(std::time::Duration::ZERO);
    let path = folder.path.join(&test.name);
    let junit = folder.path.join(format!("{}.junit.xml", test.name.replace('/', "-")));
    let job = if test.pytest {
        Process::new(programs().find("python3").unwrap_or_else(|| "python3".into()))
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
            .args([format!("--junitxml={}", junit.display())])
            .args([&path])
    } else {
        Process::new(&path)
    };
    let job = without_the_steps_secrets(job, &folder.toml.tests.environment)
        .env(env)
        .dir(&folder.path)
        .timeout(folder.toml.timeouts.test);
    let outcome = match job.run(&mut |line| to_log(line, &mut log, console)) {
        Ok(finished) if test.pytest => judge_pytest(finished.ended, report(&junit)),
        Ok(finished) => judge_executable(finished.ended, &finished.tail),
        // A missing interpreter is the test's fault, and a host without room for a process is not.
        Err(error) if !error.is_the_hosts() => Outcome::fail(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(TestResult { name: test.name.clone(), outcome, milliseconds: millis(begun.elapsed()) })
}

/// The report that pytest wrote; nothing if it wrote none.
fn report(junit: &Path) -> Result<Option<String>, io::Error> {
    match std::fs::read_to_string(junit) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge_executable(ended: Ended, tail: &str) -> Outcome {
    let last = || tail.trim_end().lines().last().unwrap_or_default().to_owned();
    match ended {
        Ended::Exited(0) => Outcome::Pass,
        Ended::Exited(SKIPPED) => Outcome::skip(format!("the test skipped itself: {}", last())),
        other => Outcome::fail(format!("{other}: {}", last())),
    }
}

/// pytest's exit code says little: it is 0 also when every test was skipped (incident `[20]`).
fn judge_pytest(ended: Ended, junit: io::Result<Option<String>>) -> Outcome {
    let junit = match junit {
        Ok(junit) => junit,
        Err(error) => return Outcome::unverified(format!("{ended}, and its JUnit report cannot be read: {error}")),
    };
    let report = match junit.as_deref().map(Report::deserialize_from_str) {
        Some(Ok(report)) => report,
        Some(Err(error)) => return Outcome::fail(format!("{ended}, and its JUnit report cannot be read: {error}")),
        None => return Outcome::fail(format!("{ended}, and there is no JUnit report")),
    };
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    let failed = cases.iter().find_map(|case| match &case.status {
        TestCaseStatus::NonSuccess { message, .. } => {
            let message = message.as_ref().map_or("", |text| text.as_str());
            Some(format!("{}: {}", case.name.as_str(), message.lines().next().unwrap_or_default()))
        }
        _ => None,
    });
    let skipped = cases.iter().filter(|case| matches!(case.status, TestCaseStatus::Skipped { .. })).count();
    match (ended, failed) {
        (_, Some(failed)) => Outcome::fail(failed),
        (Ended::Exited(0), None) if cases.is_empty() => Outcome::fail("pytest ran no test"),
        (Ended::Exited(0), None) if skipped == cases.len() => {
            Outcome::skip(format!("every test was skipped ({skipped})"))
        }
        (Ended::Exited(0), None) => Outcome::Pass,
        (other, None) => Outcome::fail(format!("pytest: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn junit(cases: &str) -> String {
        format!(
            r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="0" skipped="1" tests="2" time="0.021" timestamp="2026-01-01T00:00:00.000000+00:00" hostname="h">{cases}</testsuite></testsuites>"#
        )
    }

    const PASS: &str = r#"<testcase classname="t" name="a" time="0.001" />"#;
    const SKIP: &str = r#"<testcase classname="t" name="b" time="0.001"><skipped type="pytest.skip" message="no">x</skipped></testcase>"#;
    const FAIL: &str =
        r#"<testcase classname="t" name="c" time="0.001"><failure message="assert 1 == 2">x</failure></testcase>"#;

    #[test]
    fn a_file_whose_every_test_was_skipped_is_not_a_pass() {
        let judged = |cases: &str, code| judge_pytest(Ended::Exited(code), Ok(Some(junit(cases)))).word();
        assert_eq!(judged(PASS, 0), "pass");
        assert_eq!(judged(&format!("{PASS}{SKIP}"), 0), "pass");
        assert_eq!(judged(SKIP, 0), "skip");
        assert_eq!(judged("", 0), "fail");
        assert_eq!(judged(&format!("{PASS}{FAIL}"), 1), "fail");
        assert_eq!(judged(FAIL, 0), "fail", "the report outweighs the exit code");
        assert_eq!(judged(PASS, 3), "fail");
        assert_eq!(judge_pytest(Ended::Killed(9), Ok(None)).word(), "fail");
    }

    #[test]
    fn an_executable_passes_with_0_and_skips_with_77() {
        assert_eq!(judge_executable(Ended::Exited(0), ""), Outcome::Pass);
        assert_eq!(judge_executable(Ended::Exited(77), "x\nnot here\n").reason(), "the test skipped itself: not here");
        assert_eq!(judge_executable(Ended::Exited(1), "boom\n").reason(), "exit code 1: boom");
        assert_eq!(judge_executable(Ended::Killed(9), "").word(), "fail");
    }
}
