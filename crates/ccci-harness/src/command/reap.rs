//! `cc-ci-run reap`: what the janitor does to an orphan, for one app and at once.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::signals::Signals;
use ccci_core::lock::{AppLock, LockError, LockPath};
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::process::tagged::{Tag, lock_mark};
use ccci_core::rundir::claim::live_runs;
use ccci_core::substrate;
use ccci_core::teardown::{Teardown, cleaner, take_down};

use crate::cli::Reap;
use crate::keeper::holder;

/// What to do about a run that is alive.
const WAY_OUT: &str = "to end it, cancel its build or send SIGTERM to that pid, and it takes its app down itself";

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
    let lock = match at.probe(true) {
        Ok(Some(lock)) => lock,
        Ok(None) => anyhow::bail!("{} cannot be locked", at.path().display()),
        Err(error @ LockError::Held { .. }) => {
            let why = format!("{domain} is not reaped, it is held by {}: {WAY_OUT}", holder(&at));
            return Err(anyhow::Error::new(error).context(why));
        }
        Err(other) => return Err(other.into()),
    };
    if let Some(run) = live_runs(&places.runs_dir, at.name(), None)?.first() {
        let why = format!(
            "run {} (pid {}) is alive, though it has not got its lock: {WAY_OUT}",
            run.run_id(),
            run.supervisor()
        );
        give_back(lock)?;
        return Err(anyhow::Error::new(LockError::Held { path: at.path().to_owned() }).context(why));
    }
    // One that cannot be read tells nothing about whose it was.
    let before = lock.read_owner().ok().flatten();
    let record = cleaner::record("reap", "reaping, asked for by hand", &at, before, settings.teardown_budget);
    if let Err(error) = lock.write_owner(&record) {
        // On a full disk the reap is what makes room.
        tracing::warn!(%error, "the owner record is out of date");
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
    // Of an app that would not go the file stays, with a record of who tried. What there is to say comes first.
    let released = if receipt.is_clean() { lock.release() } else { lock.verify() };
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
    released?;
    Ok(ExitCode::from(if receipt.is_clean() { exit::GREEN } else { exit::RED }))
}

/// Lets go of a lock under which nothing was done. The record of a dead run stays; the kernel frees the lock.
fn give_back(lock: AppLock) -> Result<(), LockError> {
    if matches!(lock.read_owner(), Ok(None)) { lock.release() } else { Ok(()) }
}
