//! The parts of a run: this same program as worker or reaper.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Ended, ProcessError, pid_of, spawn};
use crate::lifetime::exec::{Birth, SELF_EXE, arm_child};
use crate::lifetime::fork::{self, Change};

/// Starts this same program as another part of the run.
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
    Ok(Part { pid: pid_of(&child), ended: None })
}

/// Starts `body` as another part of the run, in a copy of this process: see [`fork::fork`].
///
/// # Errors
/// [`ProcessError::Start`].
pub fn fork_part(name: &str, env: &[Change], birth: Birth, body: impl FnOnce() -> u8) -> Result<Part, ProcessError> {
    let forked = fork::fork(birth, env, body);
    let pid = forked.map_err(|source| ProcessError::Start { command: name.to_owned(), source })?;
    Ok(Part { pid, ended: None })
}

/// A part of the run: a child of ours that is this same program.
#[derive(Debug)]
pub struct Part {
    /// Its pid, valid until it is collected.
    pub pid: Pid,
    ended: Option<Ended>,
}

impl Part {
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
