//! The result for other eyes: JUnit, a badge, a page.

use std::time::Duration;

use maud::{DOCTYPE, PreEscaped, html};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Results;
use crate::outcome::{Outcome, Verdict};

/// The tests as JUnit, a suite per tier.
///
/// # Errors
/// What the writer says.
pub(crate) fn junit(results: &Results) -> anyhow::Result<String> {
    let mut report = Report::new(format!("cc-ci {}", results.recipe));
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

fn colour(results: &Results) -> &'static str {
    match results.verdict {
        Verdict::Green => "#2e7d32",
        Verdict::Red => "#c62828",
        _ => "#616161",
    }
}

fn word(results: &Results) -> String {
    match results.verdict {
        Verdict::Green | Verdict::Red => format!("level {}", results.level),
        other => serde_json::to_value(other).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
    }
}

/// A badge with the level.
pub(crate) fn badge(results: &Results) -> String {
    let (left, right) = ("cc-ci", word(results));
    let width = |text: &str| 10 + 7 * text.len();
    let (a, b) = (width(left), width(&right));
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(a + b) height="20" role="img" aria-label=(format!("{left}: {right}")) {
            title { (left) ": " (right) }
            rect width=(a) height="20" fill="#444" {}
            rect x=(a) width=(b) height="20" fill=(colour(results)) {}
            g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" {
                text x=(a / 2) y="14" { (left) }
                text x=(a + b / 2) y="14" { (right) }
            }
        }
    };
    markup.into_string()
}

const STYLE: &str = "
:root{color-scheme:light dark;--ok:#2e7d32;--bad:#c62828;--off:#757575;--bar:#5c6bc0}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top}
.pass{color:var(--ok)}.fail{color:var(--bad)}.skip,.unver{color:var(--off)}
pre{overflow:auto;max-height:30rem;padding:.6rem;border:1px solid #8884;border-radius:4px}
.bar{display:block;height:.8rem;min-width:1px;background:var(--bar)}
.reason{border-left:4px solid var(--bad);padding-left:.8rem}
";

/// One self-contained page: what went wrong, the rungs, a timeline of the phases, tests, receipt, log.
pub(crate) fn html(results: &Results, log: &str) -> String {
    let title = format!("{} {}: {}", results.recipe, results.version.as_deref().unwrap_or(""), word(results));
    let longest = results.phases.iter().map(|phase| phase.milliseconds).max().unwrap_or(1).max(1);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { "Run " (results.run_id) ", engine " (results.engine) ", " code { (results.domain) } ", exit code " (results.exit_code) "." }
                @if let Some(reason) = &results.reason { p.reason { (reason) } }
                h2 { "Rungs" }
                table {
                    @for (rung, outcome) in &results.rungs {
                        tr { th scope="row" { (rung) } td class=(outcome.word()) { (outcome.word()) } td { (outcome.reason()) } }
                    }
                }
                h2 { "Timeline" }
                table {
                    @for phase in &results.phases {
                        tr {
                            th scope="row" { (phase.name) }
                            td { (phase.milliseconds) " ms" }
                            td style="width:60%" { span.bar style=(format!("width:{}%", phase.milliseconds * 100 / longest)) {} }
                        }
                    }
                }
                h2 { "Tests" }
                table {
                    @for stage in &results.stages {
                        @for test in &stage.tests {
                            tr { td { (stage.tier) } td { (test.name) } td class=(test.outcome.word()) { (test.outcome.word()) } td { (test.milliseconds) " ms" } td { (test.outcome.reason()) } }
                        }
                    }
                }
                @if let Some(receipt) = &results.receipt {
                    h2 { "Receipt" }
                    p { @if receipt.is_clean() { "Nothing is left." } @else { strong { "Something is left." } } }
                    table {
                        @for removed in &receipt.removed {
                            tr { td { (removed.object.kind) } td { (removed.object.name) } td { (removed.removed_at) } }
                        }
                        @for residue in &receipt.residue { tr.fail { td { "left" } td { (residue.what) } td { (residue.why) } } }
                    }
                }
                h2 { "Log" }
                pre { (log) }
            }
        }
    };
    page.into_string()
}
