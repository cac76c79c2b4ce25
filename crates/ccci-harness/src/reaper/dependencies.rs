//! The dependencies of a run, taken down after the app that used them, from the run's record.

use std::time::Duration;

use ccci_core::lock::{AppLock, LockError, LockPath};
use ccci_core::name::{Domain, LockName, RecipeName};
use ccci_core::rundir::{RunDir, RunDirError, file};
use ccci_core::teardown::{Receipt, Removed, Residue, Teardown, take_down};
use ccci_core::weaken::{self, Protection};

use crate::plan::Plan;
use crate::worker::dependencies::{Record, take_within};

/// A dependency that the run had written down.
pub(super) struct Dependency {
    record: Record,
    domain: Domain,
    lock: Result<AppLock, LockError>,
}

/// What the run had written down, each with its lock: free since the worker became the reaper or died,
/// but for a janitor that was faster.
///
/// # Errors
/// When the record cannot be read. A line in it that is not whole announces nothing: nobody went on from it.
pub(super) fn taken(plan: &Plan, dir: &RunDir, patience: Duration) -> Result<Vec<Dependency>, RunDirError> {
    let records = dir.lines::<Record>(file::DEPENDENCIES)?.items;
    let mine = |record: Record| {
        // The record is in a directory that tests write to: only a name that this run itself would give.
        let domain = plan.dependency_domain(&RecipeName::new(&record.recipe).ok()?)?;
        if domain.as_str() != record.domain {
            tracing::error!(domain = record.domain, "no dependency of this run: left alone");
            return None;
        }
        let at = LockPath::new(&plan.places.lock_dir, LockName::App(domain.clone()));
        let lock = take_within(&at, patience);
        Some(Dependency { record, domain, lock })
    };
    Ok(records.into_iter().rev().filter(|_| weaken::on(Protection::DependencyRecord)).filter_map(mine).collect())
}

/// What only a record knows of that cannot be read may be there still.
pub(super) fn unread(what: &str, error: &RunDirError) -> Residue {
    Residue { what: what.to_owned(), why: error.to_string() }
}

impl Dependency {
    /// Takes it down as the run's own app was, on the same receipt.
    pub(super) fn take_down(
        self,
        own: &Teardown<'_>,
        dir: &RunDir,
        receipt: &mut Receipt,
        journal: &mut dyn FnMut(&Removed),
    ) {
        let lock = match self.lock {
            Ok(lock) => lock,
            Err(error) => {
                receipt.residue.push(Residue { what: self.domain.to_string(), why: error.to_string() });
                return;
            }
        };
        let planned = dir.lines(&self.record.planned()).map(|planned| planned.items).unwrap_or_else(|error| {
            receipt.residue.push(unread(&format!("what was planned of {}", self.domain), &error));
            Vec::new()
        });
        let teardown = Teardown { lock: &lock, domain: &self.domain, planned: &planned, ..*own };
        let done = take_down(&teardown, journal);
        let clean = done.is_clean();
        receipt.removed.extend(done.removed);
        receipt.processes.extend(done.processes);
        receipt.residue.extend(done.residue);
        receipt.verified &= done.verified;
        receipt.milliseconds += done.milliseconds;
        // One that is not clean keeps its lock file, as a pointer for whoever comes next.
        if clean && let Err(error) = lock.release() {
            tracing::error!(%error, "the lock's file stays; the kernel frees the lock with this process");
        }
    }
}
