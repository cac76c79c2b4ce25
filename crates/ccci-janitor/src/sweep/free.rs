//! A lock file without an app, and what a dead guard left.

use std::time::Duration;

use ccci_core::lock::LockPath;
use ccci_core::name::LockName;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::unfinished::{Owed, dead_runs};
use ccci_core::teardown::{Receipt, Residue};

use super::Sweep;
use crate::report::Finding;
use crate::survey::Survey;

impl Sweep<'_> {
    /// A lock file without an app: remove it if it is free, and end what processes a guard left. Should
    /// an app have appeared since the survey, and its run have died already, the next sweep finds it
    /// without the file.
    ///
    /// A guard's teardown is found by its run directory, so its lock's file is not needed for that.
    pub(super) fn unlink(&mut self, name: &LockName, survey: &Survey) {
        let at = LockPath::new(&self.places.lock_dir, name.clone());
        let had_a_file = at.path().symlink_metadata().is_ok();
        let left = matches!(name, LockName::Guard(guard) if survey.guards.contains(guard) || survey.is_dead(name));
        if self.options.dry_run && !had_a_file {
            // No lock file is made, and what is not there nobody holds.
            return self.look_after_guard(&at, left);
        }
        let Some(mut lock) = self.ask_the_lock(&at, left) else { return };
        if left {
            let Some(alone) = self.unless_a_run_lives(lock) else { return };
            lock = alone;
        }
        let failed = self.report.leftovers();
        self.look_after_guard(&at, left);
        if self.options.dry_run {
            self.report.lock_files_removed += 1;
            return;
        }
        let pending = self.report.leftovers() > failed;
        if let Err(error) = lock.release() {
            return self.skipped(at.path().display().to_string(), error);
        }
        self.report.lock_files_removed += usize::from(had_a_file && !pending);
    }

    /// Ends the processes of a dead guard, and says whose teardown is still to come.
    fn look_after_guard(&mut self, at: &LockPath, left: bool) {
        if !left {
            return;
        }
        let name = at.name().to_string();
        let ended = self.end_guard(at);
        let dead = match dead_runs(&self.places.runs_dir, at.name(), None) {
            Ok(dead) => dead,
            Err(error) => return self.skipped(name, format!("cannot tell which guards of this name died: {error}")),
        };
        let (mut processes, error) = match ended {
            Ok(processes) => (processes, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let owing: Vec<_> = dead.iter().filter(|run| run.owed() == Owed::Teardown).collect();
        for run in &owing {
            self.needed.insert(run.dir().path().to_owned());
            self.found(Finding::DeadGuard {
                name: name.clone(),
                run_id: run.run_id().to_owned(),
                run_dir: run.dir().path().display().to_string(),
                left: run.last_heard_of(),
                processes: std::mem::take(&mut processes),
            });
        }
        if let Some(why) = error {
            let residue = vec![Residue { what: "processes of the guard".to_owned(), why }];
            self.found(Finding::Failed { domain: name, receipt: Receipt { residue, ..Receipt::default() } });
        } else if !processes.is_empty() {
            let receipt = Receipt { processes, verified: true, ..Receipt::default() };
            self.found(Finding::Reaped { domain: name, receipt });
        }
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
