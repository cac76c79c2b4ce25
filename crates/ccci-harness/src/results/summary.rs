//! The `RUN SUMMARY` at the end of a run's log.

use std::path::Path;

use ccci_core::rundir::{RunDir, RunDirError, file};
use ccci_core::substrate::Object;
use ccci_core::teardown::Removed;

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
    // What is left has a name: whoever has to remove it by hand begins here.
    let left = results.receipt.iter().flat_map(|receipt| &receipt.residue);
    lines.extend(left.map(|left| format!("  left: {}: {}", left.what, left.why.replace('\n', " "))));
    if results.receipt.is_none() {
        lines.extend(not_known_to_be_gone(&RunDir::open(dir.to_owned())));
    }
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

/// Without a teardown report: what the run had written down that it would make, and no reaper saw go.
fn not_known_to_be_gone(dir: &RunDir) -> Vec<String> {
    let unread =
        |what: &str, error: &RunDirError| vec![format!("  not known to be gone: {what} cannot be read: {error}")];
    let planned = match dir.planned() {
        Ok(planned) => planned,
        Err(error) => return unread("the record of what was planned", &error),
    };
    let (removed, mut lines) = match dir.lines::<Removed>(file::REMOVED) {
        Ok(removed) => (removed.items, Vec::new()),
        // Then nothing counts as gone.
        Err(error) => (Vec::new(), unread("the journal of what was removed", &error)),
    };
    let gone =
        |object: &Object| removed.iter().any(|gone| gone.object.kind == object.kind && gone.object.name == object.name);
    lines.extend(
        planned.iter().filter(|object| !gone(object)).map(|object| format!("  not known to be gone: {object}")),
    );
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

#[cfg(test)]
mod tests {
    use ccci_core::substrate::Kind;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_was_planned_and_not_seen_removed_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::open(temp.path().to_owned());
        assert!(not_known_to_be_gone(&dir).is_empty(), "nothing was planned");
        let object = |name: &str| Object { kind: Kind::Volume, name: name.to_owned(), id: String::new() };
        dir.append(file::PLANNED, &object("gone")).unwrap();
        dir.append(file::PLANNED, &object("data")).unwrap();
        let removed =
            Removed { object: Object { id: "17".to_owned(), ..object("gone") }, removed_at: Timestamp::now() };
        dir.append(file::REMOVED, &removed).unwrap();
        assert_eq!(not_known_to_be_gone(&dir), ["  not known to be gone: volume data"]);
    }
}
