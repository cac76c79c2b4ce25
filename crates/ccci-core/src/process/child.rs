//! A process that we started, from its start to the moment it is collected.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Ended;

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
        self.collect(Some(WaitPidFlag::WNOHANG))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.collect(None)? {
                return Ok(ended);
            }
        }
    }

    fn collect(&mut self, flags: Option<WaitPidFlag>) -> io::Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, flags) {
                Ok(WaitStatus::Exited(_, code)) => Some(Ended::Exited(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Killed(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => None,
                Err(errno) => return Err(errno.into()),
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
