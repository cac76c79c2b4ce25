//! Signals as values: blocked, read from a signalfd, and answered by a pure function.
//!
//! The keeper has no handlers: a blocked signal cannot interrupt anything half-way, and a signalfd
//! says who sent it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid};

use super::Cause;
use crate::weaken::{self, Protection};

/// What cancels a run.
pub const CANCEL: [Signal; 5] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGALRM];

/// The signals of [`CANCEL`] as a set.
#[must_use]
pub fn cancel_set() -> SigSet {
    CANCEL.into_iter().collect()
}

/// A signal that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// The sender, as far as the kernel tells.
    pub sender: u32,
    /// Whether the kernel sent it for itself, as a terminal does for Ctrl-C.
    pub by_kernel: bool,
}

/// The keeper's and reaper's ear: all of [`CANCEL`] and SIGCHLD, blocked and readable.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals for this thread (threads started later inherit that) and listens.
    ///
    /// # Errors
    /// What `signalfd(2)` says.
    pub fn listen() -> io::Result<Self> {
        // A caller may have left these ignored (a shell does it to SIGINT of a background job); an
        // ignored SIGTERM would make the run deaf, an ignored SIGCHLD would lose exit statuses.
        for signal in [Signal::SIGTERM, Signal::SIGALRM, Signal::SIGCHLD] {
            super::exec::reset_to_default(signal)?;
        }
        super::shield::raise()?;
        // An alarm of the caller's lasts through the exec (incident `[alarm]`); the run has a clock of its own.
        if weaken::on(Protection::NoAlarm) {
            let _left = nix::unistd::alarm::cancel();
        }
        let mut set = cancel_set();
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        // An ignored SIGHUP, SIGINT or SIGQUIT is the caller's wish (nohup). What is blocked is delivered though it is
        // ignored, so it must not be listened for.
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            if super::exec::is_ignored(signal) && weaken::on(Protection::Nohup) {
                set.remove(signal);
            }
        }
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// The next pending signal, without waiting.
    ///
    /// # Errors
    /// What `read(2)` says.
    pub fn next(&self) -> io::Result<Option<Received>> {
        Ok(self.fd.read_signal()?.and_then(|info| {
            let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
            Some(Received { signal, sender: info.ssi_pid, by_kernel: info.ssi_code == libc::SI_KERNEL })
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where a run is, as far as signals care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the lock: nothing to undo.
    Waiting,
    /// The worker works.
    Working,
    /// A cancel was said and the worker is on its way to the reaper, or the reaper is at work.
    TearingDown,
}

/// What to do about a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// End the run for this cause.
    Cancel(Cause),
    /// Say that it came, and go on.
    Note,
    /// A child changed state.
    Children,
}

/// The answer to a signal in a phase.
///
/// The first cancel wins; once teardown has begun nothing but its budget ends it (incident
/// `[second-signal]`).
#[must_use]
pub fn respond(signal: Signal, sender: u32, parent_gone: bool, phase: Phase) -> Response {
    match (signal, phase) {
        (Signal::SIGCHLD, _) => Response::Children,
        (_, Phase::TearingDown) if weaken::on(Protection::SecondSignal) => Response::Note,
        (Signal::SIGALRM, _) => Response::Cancel(Cause::Alarm { pid: sender }),
        (Signal::SIGTERM, _) if parent_gone => Response::Cancel(Cause::ParentDied),
        (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP, _) => {
            Response::Cancel(Cause::Operator { signal: signal.as_str().to_owned(), pid: sender })
        }
        _ => Response::Note,
    }
}

/// Whether `parent`, which started us, is no longer our parent.
#[must_use]
pub fn parent_gone(parent: Pid) -> bool {
    getppid() != parent
}

/// The default action for `signal`, for `sigaction`.
pub(super) fn default_action() -> SigAction {
    SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_signals_keeps_the_first_cause() {
        for first in CANCEL {
            let Response::Cancel(cause) = respond(first, 42, false, Phase::Working) else {
                panic!("{first} does not cancel")
            };
            let deadline = matches!(first, Signal::SIGALRM);
            assert_eq!(cause.exit_code(), if deadline { 142 } else { 143 }, "{first}");
            for second in CANCEL {
                assert_eq!(respond(second, 42, true, Phase::TearingDown), Response::Note, "{first} then {second}");
            }
        }
    }

    #[test]
    fn a_dead_parent_is_named_as_the_cause() {
        assert_eq!(respond(Signal::SIGTERM, 1, true, Phase::Waiting), Response::Cancel(Cause::ParentDied));
        assert_eq!(respond(Signal::SIGCHLD, 1, true, Phase::Waiting), Response::Children);
    }
}
