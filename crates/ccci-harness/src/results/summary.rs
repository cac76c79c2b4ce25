//! The `RUN SUMMARY` at the end of a run's log.

use std::path::Path;

use super::Results;
use crate::outcome::{Outcome, Tier};

/// The block, line by line; what went wrong comes first.
pub(crate) fn lines(results: &Results, dir: &Path) -> Vec<String> {
    let mut lines = vec![String::new(), "===== RUN SUMMARY =====".to_owned()];
    let verdict = results.verdict.word().to_uppercase();
    lines.push(format!(
        "{verdict} (exit {}) — {} {}",
        results.exit_code,
        results.recipe,
        results.version.as_deref().unwrap_or("?")
    ));
    if let Some(quick) = &results.quick {
        lines.push(match (&quick.from, &quick.why) {
            (Some(from), _) => format!("quick: began with the data of {}, kept by run {}", from.version, from.run_id),
            (None, why) => format!("quick: began cold: {}", why.as_deref().unwrap_or("it did not get that far")),
        });
    }
    if let Some(reason) = &results.reason {
        // A service's last lines stay together, below what they are the reason of.
        lines.push(format!("reason: {}", reason.replace('\n', "\n        ")));
    }
    lines.extend(results.missing.iter().map(|missing| format!("not known: {missing}")));
    for (rung, outcome) in &results.rungs {
        let why = if outcome.reason().is_empty() { String::new() } else { format!("  {}", outcome.headline()) };
        lines.push(format!("  {:<15} {:<5}{why}", rung.to_string(), outcome.word()));
    }
    let count = |wanted: fn(&Outcome) -> bool| {
        results.stages.iter().flat_map(|stage| &stage.tests).filter(|test| wanted(&test.outcome)).count()
    };
    lines.push(format!(
        "tests: {} passed, {} failed, {} skipped",
        count(|outcome| matches!(outcome, Outcome::Pass)),
        count(|outcome| matches!(outcome, Outcome::Fail { .. })),
        count(|outcome| matches!(outcome, Outcome::Skip { .. })),
    ));
    if let Some(count) = results.deploy_count {
        lines.push(format!("deploy-count = {} (expect {})", count.counted, count.expected));
    }
    lines.push(match &results.receipt {
        Some(receipt) if receipt.is_clean() => {
            format!("teardown: clean, {} removed, {} ms", objects(receipt.removed.len()), receipt.milliseconds)
        }
        Some(receipt) => format!("teardown: NOT CLEAN, {} left behind", objects(receipt.residue.len())),
        None if results.verdict.is_on_the_tests() => "teardown: NOT KNOWN, there is no report of it".to_owned(),
        None => "teardown: nothing was deployed, or there is no receipt".to_owned(),
    });
    if let Some(kept) = &results.kept {
        lines.push(match &kept.why {
            None => format!("kept for quick runs: {} bytes", kept.bytes),
            Some(why) => format!("kept for quick runs: nothing ({why})"),
        });
    }
    lines.push(match (results.tells_level(), &results.quick) {
        (true, _) => format!("level={}{}", results.level, change(results)),
        (false, Some(_)) => "level: a quick run tells of none".to_owned(),
        (false, None) if results.asked.len() < Tier::ALL.len() => "level: only all stages tell of one".to_owned(),
        (false, None) => "level: the run did not get so far as to tell of one".to_owned(),
    });
    lines.push(format!("results: {}", dir.join("results.json").display()));
    lines.push(format!("page: {}", dir.join("summary.html").display()));
    lines
}

/// What the level is against the last time.
fn change(results: &Results) -> String {
    results.previous.as_ref().filter(|before| before.level != results.level).map_or_else(String::new, |before| {
        let way = if results.level > before.level { "up" } else { "DOWN" };
        format!(" ({way} from {} in run {})", before.level, before.run_id)
    })
}

fn objects(number: usize) -> String {
    if number == 1 { "1 object".to_owned() } else { format!("{number} objects") }
}
