//! The lint rung: what abra says of the recipe, wherever abra is installed, whichever engine deploys.
//!
//! A recipe that was not linted is never a pass: no abra, no table, a row that is not understood. The
//! rung is presentation, as all rungs are: a lint alone makes no run red.

use ccci_core::abra::table::{Severity, Table};
use ccci_core::abra::{Abra, lint_commit};

use crate::console::Console;
use crate::outcome::Outcome;
use crate::recipe::source::Source;

/// Lints what is tested.
pub(super) fn rung(source: &Source, recipe: &str, console: &mut Console) -> Outcome {
    let Some(abra) = Abra::installed() else {
        return Outcome::unverified("abra is not installed on this host");
    };
    let linted = lint_commit(&abra, recipe, source.tree(), &source.head.commit);
    let outcome = match &linted {
        Ok(table) => judge(table),
        Err(error) => Outcome::unverified(console.clean(&error.to_string())),
    };
    console.say(&format!("-- lint: {} {}", outcome.word(), outcome.reason()));
    for rule in linted.iter().flat_map(|table| table.broken(Severity::Warning)) {
        console.say(&format!("   warning: {rule}"));
    }
    outcome
}

fn judge(table: &Table) -> Outcome {
    let broken: Vec<String> = table.broken(Severity::Error).map(ToString::to_string).collect();
    if broken.is_empty() { Outcome::Pass } else { Outcome::fail(broken.join("; ")) }
}

#[cfg(test)]
mod tests {
    use ccci_core::abra::table::parse;

    use super::*;

    #[test]
    fn only_broken_errors_fail_and_each_is_named() {
        let row = |number, severity, mark| format!("│ R00{number} │ rule │ {severity} │ {mark} │ - │ fix it │");
        let judged = |rows: &[String]| judge(&parse(rows.iter().map(String::as_str)).unwrap());
        assert_eq!(judged(&[row(1, "error", "✅"), row(2, "warn", "❌")]), Outcome::Pass);
        let failed = judged(&[row(1, "error", "❌"), row(2, "error", "❌")]);
        assert_eq!(failed.reason(), "R001 rule (fix it); R002 rule (fix it)");
    }
}
