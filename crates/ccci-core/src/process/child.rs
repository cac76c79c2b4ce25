//! A process that we started, from its start to the moment it is collected.

use std::io;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{WaitOptions, waitpid};

use super::Ended;

/// Collects a child of ours that has ended, so that it does not stay a zombie; `None` while it runs
/// or when it is not our child.
#[must_use]
pub fn collect(pid: Pid) -> Option<Ended> {
    wait_for(pid, WaitOptions::NOHANG).ok().flatten()
}

/// By its number, as there are signals without a name (`signal(7)`, real-time signals).
fn wait_for(pid: Pid, options: WaitOptions) -> io::Result<Option<Ended>> {
    // Without a number it would be any child.
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else { return Ok(None) };
    match waitpid(Some(pid), options) {
        Ok(Some((_, status))) => {
            let exited = status.exit_status().map(Ended::Exited);
            Ok(exited.or_else(|| status.terminating_signal().map(Ended::Killed)))
        }
        Ok(None) | Err(rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A process that we started.
#[derive(Debug)]
pub struct Child {
    /// Its pid, valid until it is collected.
    pub pid: Pid,
    ended: Option<Ended>,
}

impl Child {
    pub(super) const fn new(pid: Pid) -> Self {
        Self { pid, ended: None }
    }

    /// Its end, if it has ended.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        self.collect(WaitOptions::NOHANG)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.collect(WaitOptions::empty())? {
                return Ok(ended);
            }
        }
    }

    fn collect(&mut self, options: WaitOptions) -> io::Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = wait_for(self.pid, options)?;
        }
        Ok(self.ended)
    }

    /// Sends a signal to it alone, unless it was collected: then the pid may be another's.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // ESRCH cannot be: an ended child stays a zombie until it is collected.
            let _sent = nix::sys::signal::kill(self.pid, signal);
        }
    }
}
