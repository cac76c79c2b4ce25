//! Orphans: who adopts what a run leaves without a parent must also collect it.
//!
//! Supervisor, worker and reaper are subreapers, so that nothing of a run gets away from below them. What is not
//! collected stays a zombie, which counts against every limit of processes. It is collected as soon as SIGCHLD tells of
//! it, and by "any child": the ends of our own children, which somebody still asks for, are put aside.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait};

use super::Ended;
use super::child::ended_by;
use crate::weaken::{self, Protection};

/// Whether this process adopts orphans. No other may collect a child that it does not know: it would be somebody else's
/// in the same process.
static ADOPTS: AtomicBool = AtomicBool::new(false);
/// The children that were started here, and the end of those that have ended and were not asked for yet.
static OWN: Mutex<BTreeMap<i32, Option<Ended>>> = Mutex::new(BTreeMap::new());

fn own() -> MutexGuard<'static, BTreeMap<i32, Option<Ended>>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adopts what becomes an orphan below this process, from here on.
///
/// # Errors
/// What `prctl(2)` says.
pub fn adopt() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    ADOPTS.store(true, Ordering::Relaxed);
    Ok(())
}

/// Collects every child that has ended. Nothing where orphans are not adopted.
pub fn collect() {
    if !ADOPTS.load(Ordering::Relaxed) || !weaken::on(Protection::CollectOrphans) {
        return;
    }
    // An error is that there is no child at all.
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if let (Some(place), Some(end)) = (own().get_mut(&pid.as_raw_pid()), ended_by(status)) {
            *place = Some(end);
        }
    }
}

/// In a copy of this process: the original's children are not ours.
pub(super) fn forget() {
    own().clear();
}

/// A child was started here.
pub(super) fn started(pid: Pid) {
    own().insert(pid.as_raw(), None);
}

/// The end of a child that was collected with the orphans.
pub(super) fn put_aside(pid: Pid) -> Option<Ended> {
    let mut own = own();
    let end = own.get(&pid.as_raw()).copied().flatten();
    if end.is_some() {
        own.remove(&pid.as_raw());
    }
    end
}

/// Tells, while a job is waited for, that children have ended.
pub(super) struct Watch(Option<SignalFd>);

impl Watch {
    /// Watches from here on. SIGCHLD stays blocked in this thread; a child begins with a mask of its own.
    pub(super) fn begin() -> io::Result<Self> {
        if !ADOPTS.load(Ordering::Relaxed) {
            return Ok(Self(None));
        }
        let set = SigSet::from(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Self(Some(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)))
    }

    /// Readable when there is something to collect.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// Collects what there is.
    pub(super) fn collect(&self) -> io::Result<()> {
        if let Some(fd) = &self.0 {
            while fd.read_signal()?.is_some() {}
            collect();
        }
        Ok(())
    }
}
