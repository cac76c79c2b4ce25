//! A lock file without an app, and what a dead guard left.

use std::time::Duration;

use ccci_core::lock::{LockPath, Owner};
use ccci_core::name::LockName;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::file;
use ccci_core::teardown::{Receipt, Residue};

use super::Sweep;
use crate::report::Finding;
use crate::survey::Survey;

impl Sweep<'_> {
    /// A lock file without an app: remove it if it is free, and end what processes a guard left. Should
    /// an app have appeared since the survey, and its run have died already, the next sweep finds it
    /// without the file.
    pub(super) fn unlink(&mut self, name: &LockName, survey: &Survey) {
        let at = LockPath::new(&self.places.lock_dir, name.clone());
        let orphans = matches!(name, LockName::Guard(guard) if survey.guards.contains(guard));
        let Some(mut lock) = self.ask_the_lock(&at, orphans && !self.options.dry_run) else { return };
        if orphans {
            let Some(alone) = self.unless_a_run_lives(lock) else { return };
            lock = alone;
        }
        if let LockName::Guard(_) = name {
            let ended = if orphans { self.end_guard(&at) } else { Ok(Vec::new()) };
            let unfinished = |owner: &Owner| owner.run_dir.is_dir() && !owner.run_dir.join(file::CLEAN).exists();
            if let Some(owner) = lock.read_owner().filter(unfinished) {
                // The record leads the next guard of this name to the teardown; both stay.
                self.needed.insert(owner.run_dir.clone());
                let (name, run_dir) = (name.to_string(), owner.run_dir.display().to_string());
                return self.found(match ended {
                    Ok(processes) => Finding::DeadGuard { name, run_dir, processes },
                    Err(error) => Finding::Skipped { what: name, why: error.to_string() },
                });
            }
            match ended {
                Ok(processes) if processes.is_empty() => {}
                Ok(processes) => {
                    let receipt = Receipt { processes, verified: true, ..Receipt::default() };
                    self.found(Finding::Reaped { domain: name.to_string(), receipt });
                }
                Err(error) => {
                    let residue = vec![Residue { what: "processes of the guard".to_owned(), why: error.to_string() }];
                    let receipt = Receipt { residue, ..Receipt::default() };
                    return self.found(Finding::Failed { domain: name.to_string(), receipt });
                }
            }
        }
        if !self.options.dry_run
            && let Err(error) = lock.release()
        {
            return self.skipped(at.path().display().to_string(), error);
        }
        self.report.lock_files_removed += 1;
    }

    fn end_guard(&self, at: &LockPath) -> Result<Vec<String>, tagged::TagError> {
        let tag = Tag::Lock(tagged::lock_mark(at.path()));
        if self.options.dry_run {
            let found = tagged::find(&tag)?;
            return Ok(found.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect());
        }
        tagged::end_all(&tag, Duration::ZERO)
    }
}
