//! `cc-ci-run reap`: what the janitor does to an orphan, for one app and at once.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::signals::Signals;
use ccci_core::lock::{LockError, LockPath};
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::process::tagged::{Tag, lock_mark};
use ccci_core::rundir::claim::live_runs;
use ccci_core::substrate;
use ccci_core::teardown::{Teardown, take_down};

use crate::cli::Reap;

/// Takes the app's lock, which a live run does not give, and takes the app down.
///
/// # Errors
/// When the domain is not ours, or its run is alive.
pub(crate) fn main(reap: &Reap, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let places = Places::find(&settings)?;
    let base = BaseDomain::new(&settings.base_domain)?;
    let domain =
        Domain::expect(&reap.domain, &base).map_err(|error| anyhow::Error::new(error).context(super::Usage))?;
    // Once begun it ends: a reap that is interrupted half-way helps nobody.
    let _deaf = Signals::listen()?;
    let at = LockPath::new(&places.lock_dir, LockName::App(domain.clone()));
    let Some(lock) = at.try_acquire(true)? else { anyhow::bail!("{} cannot be locked", at.path().display()) };
    if let Some(run) = live_runs(&places.runs_dir, at.name(), None)?.first() {
        lock.release()?;
        let held = anyhow::Error::new(LockError::Held { path: at.path().to_owned() });
        return Err(held.context(format!("run {} is alive, though it has not got its lock", run.run_id())));
    }
    let tag = Tag::Lock(lock_mark(at.path()));
    let substrates = substrate::available(&places);
    let teardown = Teardown {
        lock: &lock,
        substrates: &substrates,
        domain: &domain,
        planned: &[],
        tag: &tag,
        grace: Duration::ZERO,
        budget: settings.teardown_budget,
    };
    let receipt = take_down(&teardown, &mut |_| {});
    lock.release()?;
    if reap.output.json {
        super::print_json(&receipt)?;
    } else {
        for removed in &receipt.removed {
            super::say(&format!("removed {}", removed.object))?;
        }
        for residue in &receipt.residue {
            super::say(&format!("left over: {}: {}", residue.what, residue.why))?;
        }
        let word = if receipt.is_empty() {
            "nothing was there"
        } else if receipt.is_clean() {
            "clean"
        } else {
            "NOT CLEAN"
        };
        super::say(&format!("{domain}: {word}"))?;
    }
    Ok(ExitCode::from(if receipt.is_clean() { exit::GREEN } else { exit::RED }))
}
