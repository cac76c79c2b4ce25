//! The parts of a run: this same program as worker or reaper.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Ended, ProcessError, ended, pid_of, spawn};
use crate::lifetime::exec::{Birth, SELF_EXE, arm_child};

/// Starts this same program as another part of the run (worker, reaper).
///
/// # Errors
/// [`ProcessError::Start`].
pub fn spawn_part(
    args: &[OsString],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    birth: Birth,
) -> Result<Part, ProcessError> {
    let mut command = Command::new(SELF_EXE);
    command.arg0("cc-ci-run").args(args).env_clear().envs(env).stdin(Stdio::null());
    // A session's leader leads its group by itself, and a group's leader may not begin a session.
    if !birth.new_session && !birth.same_group {
        command.process_group(0);
    }
    arm_child(&mut command, birth);
    let child = spawn(&mut command).map_err(|source| ProcessError::Start {
        command: format!("{SELF_EXE} {}", args[0].to_string_lossy()),
        source,
    })?;
    Ok(Part { pid: pid_of(&child), child })
}

/// A part of the run: a child of ours that is this same program.
#[derive(Debug)]
pub struct Part {
    /// Its pid, valid until it is collected.
    pub pid: Pid,
    child: Child,
}

impl Part {
    /// Its end, if it has ended.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(ended))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn wait(&mut self) -> io::Result<Ended> {
        Ok(ended(self.child.wait()?))
    }

    /// Sends a signal to it alone. It is not collected yet, so the pid cannot be another's.
    pub fn signal(&self, signal: Signal) {
        // ESRCH cannot be: an ended child stays a zombie until `try_wait`.
        let _sent = nix::sys::signal::kill(self.pid, signal);
    }
}
