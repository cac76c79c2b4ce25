//! `cc-ci-run status`: who holds what, since when, in which phase, who waits, and what is left over.
//!
//! Looks only: no lock is taken, not even for a moment, so that a status never gets in a run's way.

mod look;
mod show;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::cause::exit;
use ccci_core::name::BaseDomain;
use jiff::Timestamp;

use crate::cli::StatusArgs;
use crate::paint::Paint;
use look::Status;

/// Where to look.
struct Host {
    settings: Settings,
    places: Places,
    base: BaseDomain,
}

/// Shows it, once or for as long as somebody watches.
///
/// # Errors
/// When the lock directory cannot be read.
pub(crate) fn main(args: &StatusArgs, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let base = BaseDomain::new(&settings.base_domain)?;
    let host = Host { places: Places::find(&settings)?, base, settings };
    if args.watch {
        return watch::main(&host, args.output.json);
    }
    let status = Status::of(&host)?;
    if args.output.json {
        super::print_json(&status)?;
    } else {
        for line in show::lines(&status, Timestamp::now(), Paint::for_stdout()) {
            super::say(&line)?;
        }
    }
    // Whoever asks must not take "could not look" for "nothing there".
    Ok(ExitCode::from(if status.unknown.is_empty() { exit::GREEN } else { exit::HOST }))
}
