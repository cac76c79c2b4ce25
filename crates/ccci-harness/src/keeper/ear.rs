//! Waiting for signals, fds and the clock at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ccci_core::lifetime::clock::{Deadline, Timer};
use ccci_core::lifetime::signals::{Phase, Received, Response, Signals, parent_gone, respond};
use ccci_core::process::{orphans, wait_ready};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A signal; they come first.
    Signal(Received),
    /// One of the fds is ready.
    Fd,
    /// The time is over.
    Time,
}

/// The keeper's senses.
#[derive(Debug)]
pub(crate) struct Ear {
    signals: Signals,
    timer: Timer,
    parent: Pid,
}

impl Ear {
    /// Listens. `parent` is whose death cancels the run.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(signals: Signals, parent: Pid) -> io::Result<Self> {
        Ok(Self { signals, timer: Timer::new()?, parent })
    }

    /// Waits for the first of a signal, an fd of `fds`, and `until`.
    pub(crate) fn wait(&self, fds: &[BorrowedFd<'_>], until: Option<Deadline>) -> io::Result<Wake> {
        match until {
            Some(until) => self.timer.arm(until.left())?,
            None => self.timer.disarm()?,
        }
        loop {
            if let Some(received) = self.signals.next()? {
                if received.signal == Signal::SIGCHLD {
                    orphans::collect();
                }
                return Ok(Wake::Signal(received));
            }
            let own = [self.signals.as_fd(), self.timer.as_fd()];
            let mut polled: Vec<_> =
                own.iter().chain(fds).map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
            wait_ready(&mut polled, None)?;
            if polled[0].any() == Some(true) {
                continue;
            }
            if polled[2..].iter().any(|fd| fd.any() == Some(true)) {
                return Ok(Wake::Fd);
            }
            if polled[1].any() == Some(true) {
                return Ok(Wake::Time);
            }
        }
    }

    /// What to do about a signal.
    pub(super) fn judge(&self, received: Received, phase: Phase) -> Response {
        respond(received.signal, received.sender, parent_gone(self.parent), phase)
    }
}
