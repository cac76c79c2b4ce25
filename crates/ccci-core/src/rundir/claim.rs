//! Whose run is alive, whatever became of its lock file.
//!
//! All parts of a run share a lock on its directory, from before its plan is written to the end of its teardown. The
//! kernel gives that up with the last of them, so a claim that is met is a run that acts: it waits for its app's
//! lock, has it, or its file was removed by somebody.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Deserialize;

use super::open::{self, Entry};
use super::{RunDir, file};
use crate::lifetime::clock::Timer;
use crate::name::LockName;
use crate::process::{handle_of, signal_exactly};

/// How often a run is asked whose supervisor is gone, while other parts of it act.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A run of which a part is alive.
#[derive(Debug)]
pub struct LiveRun {
    dir: RunDir,
    plan: Plan,
}

/// As much of `run.json` as says whose a run is.
#[derive(Debug, Deserialize)]
struct Plan {
    run_id: String,
    keeper: i32,
    /// When the supervisor's process began. An earlier version does not say.
    #[serde(default)]
    keeper_ticks: Option<u64>,
    /// When the run was asked for, by the clock since boot. An earlier version does not say, and came earlier.
    #[serde(default)]
    arrived: u64,
    #[serde(default)]
    settings: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    on_conflict: Option<String>,
}

/// As much of an event as says what kind it is.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
}

/// Readable when it is time to ask again whether a run is over.
#[derive(Debug)]
pub enum End {
    /// When its supervisor ends.
    Supervisor(OwnedFd),
    /// A moment later: its supervisor is gone, and the rest of it acts.
    Moment(Timer),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Supervisor(fd) => fd.as_fd(),
            Self::Moment(timer) => timer.as_fd(),
        }
    }
}

impl LiveRun {
    /// Its id.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.plan.run_id
    }

    /// Its directory.
    #[must_use]
    pub const fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Its supervisor's pid, as long as that lives.
    #[must_use]
    pub const fn supervisor(&self) -> i32 {
        self.plan.keeper
    }

    /// Its place in the order in which runs were asked for. Two runs agree on who came first.
    #[must_use]
    pub fn order(&self) -> (u64, &str) {
        (self.plan.arrived, &self.plan.run_id)
    }

    /// Whether it makes those before it stop.
    #[must_use]
    pub fn supersedes(&self) -> bool {
        self.plan.settings.on_conflict.as_deref() == Some("supersede")
    }

    /// Whether it ever had its lock. Where that cannot be read, it may have.
    #[must_use]
    pub fn had_its_lock(&self) -> bool {
        let events = self.dir.lines::<Event>(file::EVENTS);
        events.is_ok_and(|events| events.items.iter().any(|line| line.event == "locked"))
    }

    /// Sends its supervisor a signal, if that is certain to be the process that the run began with.
    ///
    /// # Errors
    /// What `pidfd_open(2)` or `pidfd_send_signal(2)` says.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self.plan.keeper_ticks {
            Some(ticks) => signal_exactly(self.plan.keeper.cast_unsigned(), ticks, signal),
            None => Ok(false),
        }
    }

    /// An fd that becomes readable when this is worth asking again; `None` when no part of the run is left.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn end(&self) -> io::Result<Option<End>> {
        let opened = handle_of(Pid::from_raw(self.plan.keeper));
        // Asked after the pidfd is open: a number that is another's by now ends nobody's wait too early.
        if !is_claimed(self.dir.path())? {
            return Ok(None);
        }
        if let Ok(Some(fd)) = opened
            && self.plan.keeper_ticks.is_none_or(|ticks| start_of(self.plan.keeper) == Some(ticks))
        {
            return Ok(Some(End::Supervisor(fd)));
        }
        // Not to be seen from here, or gone while its reaper acts, or a janitor is just removing the directory.
        let timer = Timer::new()?;
        timer.arm(ASK_AGAIN)?;
        Ok(Some(End::Moment(timer)))
    }
}

fn start_of(pid: i32) -> Option<u64> {
    crate::process::procfs::start_ticks(pid.cast_unsigned())
}

/// The live runs of a name, but for the one in `own`, whether or not they have its lock.
///
/// # Errors
/// When the index is there and cannot be read, or a directory that it names cannot be asked.
pub fn live_runs(runs_dir: &Path, name: &LockName, own: Option<&Path>) -> io::Result<Vec<LiveRun>> {
    let name = name.file_name();
    let mut live = Vec::new();
    for Entry { dir: path, lock } in open::entries(runs_dir)? {
        if lock != name || own == Some(&path) || !is_claimed(&path)? {
            continue;
        }
        let dir = RunDir::open(path);
        // One without a plan is just beginning, and touches nothing yet.
        if let Some(plan) = dir.read_json::<Plan>(file::RUN).map_err(io::Error::other)? {
            live.push(LiveRun { dir, plan });
        }
    }
    Ok(live)
}

/// Whether any part of the run whose directory this is is alive, or somebody finishes or removes it.
///
/// # Errors
/// When it is there and cannot be asked.
pub fn is_claimed(dir: &Path) -> io::Result<bool> {
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

    fn live(runs: &Path, name: &LockName) -> Vec<LiveRun> {
        live_runs(runs, name, None).unwrap()
    }

    #[test]
    fn a_run_is_alive_as_long_as_any_part_of_it_shares_the_claim() {
        let runs = tempfile::tempdir().unwrap();
        let name = LockName::Guard(GuardName::new("db").unwrap());
        let other = LockName::Guard(GuardName::new("web").unwrap());
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("7").unwrap()).unwrap();
        dir.enter(&name.file_name()).unwrap();
        assert!(live(runs.path(), &name).is_empty(), "without a plan it has not begun");
        let own = crate::process::procfs::Process::own();
        let plan = serde_json::json!({"run_id": "7", "keeper": own.pid, "keeper_ticks": own.start_ticks, "arrived": 5,
            "settings": {"on_conflict": "supersede"}});
        dir.write_json(file::RUN, &plan).unwrap();
        assert!(live(runs.path(), &other).is_empty());
        let met = live(runs.path(), &name);
        let [met] = met.as_slice() else { panic!("{met:?}") };
        assert!(met.supersedes() && met.order() == (5, "7"));
        assert!(!met.had_its_lock());
        dir.append(file::EVENTS, &serde_json::json!({"event": "locked"})).unwrap();
        assert!(met.had_its_lock());
        assert!(matches!(met.end().unwrap(), Some(End::Supervisor(_))));
        let shared = dir.claim.as_ref().unwrap().try_clone().unwrap();
        let path = dir.path().to_owned();
        drop(dir);
        assert!(met.end().unwrap().is_some(), "another part goes on");
        RunDir::adopt(path, shared.into()).unclaim();
        assert!(met.end().unwrap().is_none());
        assert!(live(runs.path(), &name).is_empty());
    }

    #[test]
    fn the_parts_of_a_run_whose_supervisor_is_gone_are_waited_for() {
        let runs = tempfile::tempdir().unwrap();
        let name = LockName::Guard(GuardName::new("db").unwrap());
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("7").unwrap()).unwrap();
        dir.enter(&name.file_name()).unwrap();
        // Its supervisor: a process that has ended and was collected.
        let gone = crate::process::Job::new("/bin/sh").args(["-c", "echo $$"]).run_ok(&mut |_| {}).unwrap();
        let keeper: i32 = gone.tail.trim().parse().unwrap();
        dir.write_json(file::RUN, &serde_json::json!({"run_id": "7", "keeper": keeper})).unwrap();
        let met = live(runs.path(), &name).pop().unwrap();
        assert!(matches!(met.end().unwrap(), Some(End::Moment(_))));
        assert!(!met.signal(Signal::SIGTERM).unwrap(), "nobody is signalled by a number alone");
        dir.unclaim();
        assert!(met.end().unwrap().is_none());
    }
}
