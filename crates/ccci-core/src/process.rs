//! The only place that starts processes.
//!
//! A [`Job`] is a foreign program (git, docker, abra, a test): a group of its own, no lock fd, stdin
//! closed, SIGKILL when its parent dies, output into a log, a timeout, and TERM – grace – KILL for
//! the whole group at the end. [`spawn_part`] and [`fork_part`] start this same program as another part of the run.
//! [`tagged`] finds and kills what a run started, also what left every group; it looks through [`procfs`] and
//! [`tree`].

mod child;
pub mod foreground;
pub mod group;
mod handle;
mod job;
pub mod orphans;
mod part;
pub mod procfs;
mod programs;
pub mod tagged;
mod terminal;
pub mod tree;
mod watch;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

pub use crate::lifetime::fork::Change;
pub use child::{Child, collect};
pub use handle::{handle_of, signal_exactly, wait_ready};
pub use job::{Finished, Job};
pub use part::{fork_part, spawn_part};
pub use programs::{Programs, acts_on_programs, is_in_environment, is_the_steps_own, programs};

/// How a job ended. "Timed out", "killed" and "exited" stay different to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal, from somebody else.
    Killed(i32),
    /// It was still running at its timeout, and was ended.
    TimedOut(Duration),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::TimedOut(limit) => write!(f, "timed out after {}", crate::config::duration::show(*limit)),
        }
    }
}

/// Why a job could not be run, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It did not start.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// It started, and watching it failed.
    #[error("lost track of `{command}`: {source}")]
    Watch {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended badly.
    #[error("`{command}` failed: {ended}{tail}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The end of what it printed.
        tail: String,
    },
}

impl ProcessError {
    /// Whether the host could not start it, or lost track of it: not the program's fault, whoever's it is.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        match self {
            Self::Start { source, .. } => is_exhausted(source),
            Self::Watch { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

/// Whether the host has run out of something: processes, memory, disk, files.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let host = [Errno::EAGAIN, Errno::ENOMEM, Errno::ENOSPC, Errno::EDQUOT, Errno::EMFILE, Errno::ENFILE];
    // Where a crate has put words around it, the kind is all that is left.
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::OutOfMemory];
    error.raw_os_error().is_some_and(|code| host.contains(&Errno::from_raw(code))) || kinds.contains(&error.kind())
}

/// What a child reads that has nothing to read.
fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// A program on the caller's `PATH`, as it was when this run began.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    programs().find(name)
}

/// Becomes another program, in this process and with its environment. It returns only where that failed, and why.
#[must_use]
pub fn become_program(program: &Path, args: &[std::ffi::OsString]) -> io::Error {
    use std::os::unix::process::CommandExt as _;
    std::process::Command::new(program).args(args).exec()
}

/// `git` in a folder: it never asks, and never runs what a caller's config names.
#[must_use]
pub fn git(dir: &Path) -> Job {
    Job::tool("git")
        .args([OsStr::new("-C"), dir.as_os_str()])
        .env([("GIT_TERMINAL_PROMPT", "0"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_ASKPASS", "/bin/false")])
        .timeout(Duration::from_secs(300))
}

/// Reads all of a small file from an untrusted place, up to `limit` bytes.
///
/// # Errors
/// What the kernel says.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_run_out_of_is_nobody_elses_fault() {
        let start =
            |code| ProcessError::Start { command: "test.sh".to_owned(), source: io::Error::from_raw_os_error(code) };
        for code in [11, 12, 23, 24, 28, 122] {
            assert!(start(code).is_the_hosts(), "{code}");
        }
        // Not there, not executable, no such format: the program's.
        for code in [2, 8, 13] {
            assert!(!start(code).is_the_hosts(), "{code}");
        }
    }
}
