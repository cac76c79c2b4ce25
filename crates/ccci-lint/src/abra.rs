//! What `abra recipe lint` says of a recipe. Without abra its rules were not looked at, and that is not clean.

use std::path::Path;

use ccci_core::abra::table::Severity;
use ccci_core::abra::{Abra, lint_commit};

use crate::recipe::Findings;

/// What to say instead of a verdict.
const WITHOUT: &str = "`--no-abra` leaves its rules out";

/// Has the abra on the `PATH` lint the recipe's last commit.
pub(crate) fn check(dir: &Path, recipe: &str) -> Findings {
    match Abra::installed() {
        Some(program) => ask(&program, dir, recipe),
        None => Findings::problem(format!("abra: is not on the PATH; {WITHOUT}")),
    }
}

fn ask(program: &Path, dir: &Path, recipe: &str) -> Findings {
    let table = match lint_commit(program, recipe, dir, "HEAD") {
        Ok(table) => table,
        // No table, no terminal, no time: nothing of it is a pass.
        Err(error) => return Findings::problem(format!("abra: {error}; {WITHOUT}")),
    };
    Findings {
        problems: table.broken(Severity::Error).map(|rule| format!("abra: {rule}")).collect(),
        notes: table.broken(Severity::Warning).map(|rule| format!("abra: warning: {rule}")).collect(),
    }
}
