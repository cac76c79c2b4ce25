//! `cc-ci-run doctor`: whether this host can do what a run will ask of it, and what to do where not.

use std::path::Path;
use std::process::ExitCode;

use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::cause::exit;

use crate::checkup::{self, Level};
use crate::cli::Output;
use crate::paint::{BAD, GOOD, Paint, WAITS};

/// Shows every finding, a line each.
///
/// # Errors
/// When the settings cannot be used.
pub(crate) fn main(output: Output, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let mut findings = checkup::all(&Places::find(&settings)?);
    findings.push(checkup::control_group(&settings));
    findings.extend(checkup::ingress(&settings));
    findings.extend(checkup::forge(&settings));
    if output.json {
        super::print_json(&findings)?;
    } else {
        let paint = Paint::for_stdout();
        for finding in &findings {
            let level = match finding.level {
                Level::Ok => paint.with(GOOD, "ok  "),
                Level::Warn => paint.with(WAITS, "warn"),
                Level::Fail => paint.with(BAD, "FAIL"),
            };
            super::say(&format!("{level}  {:<28} {}", finding.name, finding.seen))?;
            if !finding.remedy.is_empty() {
                super::say(&format!("      → {}", finding.remedy))?;
            }
        }
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(ExitCode::from(if worst == Some(Level::Fail) { exit::HOST } else { exit::GREEN }))
}
