//! Whose run is alive, whatever became of its lock file.
//!
//! A keeper holds a lock on its run's directory from the plan to the end of the teardown. The kernel
//! gives that up with the keeper, so a claim that is met is a run that lives: it waits for its app's
//! lock, has it, or was robbed of it by somebody who removed the file.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use serde::Deserialize;

use super::{RunDir, file};
use crate::lifetime::clock::Deadline;
use crate::name::LockName;
use crate::process::{handle_of, wait_ready};

/// The longest that a dead run's directory may be claimed by who removes it, and how often it is asked.
const REMOVAL: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A run whose keeper is alive.
#[derive(Debug)]
pub struct LiveRun {
    dir: RunDir,
    plan: Plan,
}

/// As much of `run.json` as says whose a run is.
#[derive(Debug, Deserialize)]
struct Plan {
    lock: String,
    run_id: String,
    keeper: i32,
}

/// As much of an event as says what kind it is.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
}

impl LiveRun {
    /// Its id.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.plan.run_id
    }

    /// Whether it ever had its lock. On a full disk this may not be on record; then it says no.
    #[must_use]
    pub fn had_its_lock(&self) -> bool {
        let events = self.dir.lines::<Event>(file::EVENTS);
        events.is_ok_and(|events| events.items.iter().any(|line| line.event == "locked"))
    }

    /// An fd that becomes readable when its keeper ends; `None` when it has ended.
    ///
    /// # Errors
    /// What `pidfd_open(2)` says, or that the keeper cannot be seen from here.
    pub fn end(&self) -> io::Result<Option<OwnedFd>> {
        self.end_within(REMOVAL)
    }

    fn end_within(&self, limit: Duration) -> io::Result<Option<OwnedFd>> {
        let limit = Deadline::after(limit);
        loop {
            let opened = handle_of(Pid::from_raw(self.plan.keeper));
            // Asked after the pidfd is open: as long as the claim is held, the number is the keeper's.
            let why = match (is_claimed(self.dir.path())?, opened) {
                (false, _) => return Ok(None),
                (true, Ok(Some(fd))) => return Ok(Some(fd)),
                (true, Ok(None)) => "no such process here".to_owned(),
                (true, Err(error)) => error.to_string(),
            };
            // A janitor that removes a dead run's directory claims it too, for as long as that takes.
            if limit.passed() {
                let (run, keeper) = (&self.plan.run_id, self.plan.keeper);
                let what = format!("run {run} is alive, and its keeper {keeper} cannot be watched: {why}");
                return Err(io::Error::other(what));
            }
            wait_ready(&mut [], Some(ASK_AGAIN))?;
        }
    }
}

/// The live runs of a name, but for the one in `own`, whether or not they have its lock.
///
/// # Errors
/// When `runs_dir` is there and cannot be listed, or a directory in it cannot be asked.
pub fn live_runs(runs_dir: &Path, name: &LockName, own: Option<&Path>) -> io::Result<Vec<LiveRun>> {
    let name = name.file_name();
    let live = claimed(runs_dir, own)?.into_iter().filter_map(|path| {
        let dir = RunDir::open(path);
        // One that cannot be understood was written by something else, or is gone.
        let plan = dir.read_json::<Plan>(file::RUN).ok()??;
        (plan.lock == name).then_some(LiveRun { dir, plan })
    });
    Ok(live.collect())
}

/// The directories of runs whose keeper is alive, but for `own`.
fn claimed(runs_dir: &Path, own: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(runs_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut alive = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // The plan is written after the directory was claimed, so no claim is ever in the way of this.
        if own != Some(&path) && path.join(file::RUN).exists() && is_claimed(&path)? {
            alive.push(path);
        }
    }
    Ok(alive)
}

fn is_claimed(dir: &Path) -> io::Result<bool> {
    match File::open(dir).map(|dir| fs2::FileExt::try_lock_shared(&dir)) {
        Ok(Ok(())) => Ok(false),
        Ok(Err(error)) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(Err(error)) | Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{GuardName, RunId};

    #[test]
    fn a_claim_is_met_until_it_is_given_up() {
        let runs = tempfile::tempdir().unwrap();
        let name = LockName::Guard(GuardName::new("db").unwrap());
        let other = LockName::Guard(GuardName::new("web").unwrap());
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("7").unwrap()).unwrap();
        let plan = serde_json::json!({"lock": name.file_name(), "run_id": "7", "keeper": std::process::id()});
        dir.write_json(file::RUN, &plan).unwrap();
        assert!(live_runs(runs.path(), &other, None).unwrap().is_empty());
        let met = live_runs(runs.path(), &name, None).unwrap();
        let [met] = met.as_slice() else { panic!("{met:?}") };
        assert!(!met.had_its_lock());
        dir.append(file::EVENTS, &serde_json::json!({"event": "locked"})).unwrap();
        assert!(met.had_its_lock());
        assert!(met.end().unwrap().is_some());
        dir.unclaim();
        assert!(met.end().unwrap().is_none());
        assert!(live_runs(runs.path(), &name, None).unwrap().is_empty());
    }

    #[test]
    fn a_dead_run_whose_directory_is_just_being_removed_is_over() {
        let runs = tempfile::tempdir().unwrap();
        let name = LockName::Guard(GuardName::new("db").unwrap());
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("7").unwrap()).unwrap();
        // Its keeper: a process that has ended and was collected.
        let gone = crate::process::Job::new("/bin/sh").args(["-c", "echo $$"]).run_ok(&mut |_| {}).unwrap();
        let keeper: i32 = gone.tail.trim().parse().unwrap();
        let plan = serde_json::json!({"lock": name.file_name(), "run_id": "7", "keeper": keeper});
        dir.write_json(file::RUN, &plan).unwrap();
        let met = live_runs(runs.path(), &name, None).unwrap().pop().unwrap();
        let refused = met.end_within(Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("cannot be watched"), "{refused}");
        std::thread::scope(|scope| {
            let end = scope.spawn(|| met.end_within(Duration::from_secs(60)));
            wait_ready(&mut [], Some(Duration::from_millis(50))).unwrap();
            dir.unclaim();
            assert!(end.join().unwrap().unwrap().is_none());
        });
    }
}
