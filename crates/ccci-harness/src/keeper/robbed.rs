//! A run that was robbed of its lock: somebody removed the file under it, and we have the new one.
//!
//! The kernel would give us the app of a run that is alive and does not know yet. It finds out before its
//! next change of the app and ends; until then the app is its own. So we wait until no part of it is left, with
//! the lock in hand: the robbed run then leaves its app to us, and nobody comes in between.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use ccci_core::config::OnConflict;
use ccci_core::lock::slots::Turn;
use ccci_core::lock::{AppLock, LockError};
use ccci_core::rundir::RunDir;
use ccci_core::rundir::claim::{End, LiveRun, live_runs};
use ccci_core::weaken::{self, Protection};

use super::{Keeper, NotTaken};

impl Keeper {
    /// Waits until no run of this name is alive that had the lock before us.
    pub(super) fn outlast_the_robbed(&mut self, lock: &AppLock) -> Result<(), NotTaken> {
        if !weaken::on(Protection::RobbedFirst) {
            return Ok(());
        }
        let dir = self.dir.clone();
        let Some(robbed) = Robbed::find(lock, &dir, &self.plan.places.runs_dir)? else { return Ok(()) };
        let holder = format!("run {}, which lives though its lock file was removed", robbed.run.run_id());
        if self.plan.settings.on_conflict == OnConflict::Fail {
            return Err(NotTaken::Refused { subject: self.plan.subject(), holder });
        }
        let busy = format!("{} is still the app of {holder}", self.plan.subject());
        let runs_dir = self.plan.places.runs_dir.clone();
        self.take_turn(Successor { lock, dir: &dir, runs_dir: &runs_dir, robbed }, "app", &busy, &holder)
    }
}

/// A live run that had the lock before us.
struct Robbed {
    run: LiveRun,
    /// Readable when it is worth asking again.
    end: End,
}

impl Robbed {
    fn find(lock: &AppLock, own: &RunDir, runs_dir: &Path) -> Result<Option<Self>, LockError> {
        let unknown =
            |source| LockError::Os { doing: "tell whether a live run had", path: lock.at().path().to_owned(), source };
        let live = live_runs(runs_dir, lock.at().name(), Some(own.path())).map_err(unknown)?;
        // Verified after the look: of two runs that see each other only one still has the path's file, so
        // they never wait for each other.
        lock.verify()?;
        for run in live.into_iter().filter(LiveRun::had_its_lock) {
            if let Some(end) = run.end().map_err(unknown)? {
                return Ok(Some(Self { run, end }));
            }
        }
        Ok(None)
    }
}

/// Who comes after a robbed run.
struct Successor<'run> {
    lock: &'run AppLock,
    dir: &'run RunDir,
    runs_dir: &'run Path,
    robbed: Robbed,
}

impl Turn for Successor<'_> {
    type Taken = ();

    fn try_take(&mut self) -> Result<Option<()>, LockError> {
        match Robbed::find(self.lock, self.dir, self.runs_dir)? {
            Some(robbed) => {
                self.robbed = robbed;
                Ok(None)
            }
            None => Ok(Some(())),
        }
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        Some(self.robbed.end.as_fd())
    }

    fn forget_changes(&self) {}
}
