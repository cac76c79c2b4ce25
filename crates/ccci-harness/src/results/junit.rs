//! The result for other programs: JUnit.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Results;
use crate::outcome::Outcome;

/// The tests as JUnit, a suite per tier.
///
/// # Errors
/// What the writer says.
pub(crate) fn xml(results: &Results) -> anyhow::Result<String> {
    let quick = if results.quick.is_some() { " (quick)" } else { "" };
    let mut report = Report::new(format!("cc-ci {}{quick}", results.recipe));
    for stage in &results.stages {
        let mut suite = TestSuite::new(stage.tier.to_string());
        for test in &stage.tests {
            let mut status = match &test.outcome {
                Outcome::Pass => TestCaseStatus::success(),
                Outcome::Fail { .. } => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Outcome::Skip { .. } | Outcome::Unverified { .. } => TestCaseStatus::skipped(),
            };
            if !test.outcome.reason().is_empty() {
                status.set_message(test.outcome.reason());
            }
            let mut case = TestCase::new(test.name.as_str(), status);
            case.set_classname(format!("{}.{}", results.recipe, stage.tier));
            case.set_time(Duration::from_millis(test.milliseconds));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    Ok(report.to_string()?)
}
