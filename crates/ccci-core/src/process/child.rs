//! A process that we started, from its start to the moment it is collected.

use std::io;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{WaitOptions, WaitStatus, waitpid};

use crate::lifetime::clock::Deadline;

use super::{Ended, handle_of, orphans, wait_ready};

/// Collects a child of ours that has ended, so that it does not stay a zombie; `None` while it runs
/// or when it is not our child.
#[must_use]
pub fn collect(pid: Pid) -> Option<Ended> {
    orphans::put_aside(pid).or_else(|| wait_for(pid, WaitOptions::NOHANG).ok().flatten())
}

/// By its number, as there are signals without a name (`signal(7)`, real-time signals).
fn wait_for(pid: Pid, options: WaitOptions) -> io::Result<Option<Ended>> {
    // Without a number it would be any child.
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else { return Ok(None) };
    match waitpid(Some(pid), options) {
        Ok(Some((_, status))) => Ok(ended_by(status)),
        Ok(None) | Err(rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The end that a status tells of; none of a process that was stopped.
pub(super) fn ended_by(status: WaitStatus) -> Option<Ended> {
    let exited = status.exit_status().map(Ended::Exited);
    exited.or_else(|| status.terminating_signal().map(Ended::Killed))
}

/// A process that we started.
#[derive(Debug)]
pub struct Child {
    /// Its pid, valid until it is collected.
    pub pid: Pid,
    ended: Option<Ended>,
}

impl Child {
    pub(super) fn new(pid: Pid) -> Self {
        orphans::started(pid);
        Self { pid, ended: None }
    }

    /// Its end, if it has ended.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        self.collect(WaitOptions::NOHANG)
    }

    /// Waits for its end, and collects meanwhile what loses its parent below us. At the time of `resume` the process
    /// that it names goes on.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn wait_collecting(&mut self, mut resume: Option<(Deadline, Pid)>) -> io::Result<Ended> {
        let orphans = orphans::Watch::begin()?;
        loop {
            if let Some(ended) = self.try_wait()? {
                return Ok(ended);
            }
            let Some(end) = handle_of(self.pid)? else { continue };
            let fds = [Some(end.as_fd()), orphans.fd()].into_iter().flatten();
            let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            wait_ready(&mut fds, resume.map(|(at, _)| at.left()))?;
            if let Some((_, stopped)) = resume.take_if(|(at, _)| at.passed()) {
                // One that is gone needs nothing, and one that never stopped does not notice.
                let _sent = nix::sys::signal::kill(stopped, Signal::SIGCONT);
            }
            orphans.collect()?;
        }
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
            self.ended = match orphans::put_aside(self.pid) {
                None => wait_for(self.pid, options)?,
                end => end,
            };
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
