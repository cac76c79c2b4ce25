//! The caller's terminal, and who may read from it.
//!
//! A guard's command is in the supervisor's own process group, as it would be with `flock(1)`: what a person types reaches
//! both, a shell stops and continues both, and what else is in the pipeline keeps the terminal too. A command that made
//! another group the foreground (a shell that was killed) leaves the terminal to nobody: then it is taken back, with its
//! modes as they were.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::process::{Pid, getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The controlling terminal, with the caller in its foreground when the run began.
#[derive(Debug)]
pub struct Foreground {
    terminal: File,
    group: Pid,
    modes: Termios,
}

impl Foreground {
    /// The caller's; `None` where there is no terminal, or somebody else is in its foreground.
    #[must_use]
    pub fn of_caller() -> Option<Self> {
        let terminal = controlling().ok()?;
        let (group, now) = (getpgrp(), tcgetpgrp(&terminal).ok()?);
        let modes = tcgetattr(&terminal).ok()?;
        (now == group).then_some(Self { terminal, group, modes })
    }

    /// Takes the terminal back from a group that is gone, and gives it its modes again if the command was `killed`.
    /// SIGTTOU must be ignored.
    ///
    /// # Errors
    /// What the terminal says; one that is gone is no error.
    pub fn take_back(&self, killed: bool) -> io::Result<()> {
        let Ok(now) = tcgetpgrp(&self.terminal) else { return Ok(()) };
        if now != self.group {
            // A shell that put us into the background has it.
            if test_kill_process_group(now).is_ok() {
                return Ok(());
            }
            tcsetpgrp(&self.terminal, self.group)?;
        }
        if killed {
            tcsetattr(&self.terminal, OptionalActions::Drain, &self.modes)?;
        }
        Ok(())
    }
}

/// Whether this process has a controlling terminal.
#[must_use]
pub fn has_terminal() -> bool {
    controlling().is_ok()
}

fn controlling() -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open("/dev/tty")
}
