//! What a run says: to `run.log` always, and to stdout as long as somebody listens.
//!
//! A closed or stuck stdout must never stop a run or a teardown (incident `[stdout]`): writing is
//! tried only where it cannot block, and no failure of it matters.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use ccci_core::process::wait_ready;
use ccci_core::redact::Redactor;
use ccci_core::rundir::{RunDir, file};
use ccci_core::weaken::{self, Protection};
use nix::poll::{PollFd, PollFlags};

use crate::plan::Plan;

/// How long a stuck reader may hold up one line before it is dropped from stdout.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a pipe that is ready takes without blocking (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Where a run speaks.
#[derive(Debug)]
pub(crate) struct Console {
    log: Option<File>,
    redactor: Redactor,
    /// Whether it speaks on stderr, because stdout is data.
    stderr: bool,
    /// Set when the reader is stuck or gone: from then on only the log is written.
    deaf: bool,
}

impl Console {
    /// The console of a run.
    pub(crate) fn of(plan: &Plan, dir: &RunDir) -> Self {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(file::LOG));
        let log = opened.inspect_err(|error| tracing::error!(%error, "no run.log")).ok();
        Self { log, redactor: Redactor::default(), stderr: plan.stdout_is_data, deaf: false }
    }

    /// Learns a secret that must never be said.
    pub(crate) fn learn(&mut self, secret: &str) {
        if weaken::on(Protection::Redaction) {
            self.redactor.learn(secret);
        }
    }

    /// The line without secrets.
    pub(crate) fn clean(&self, line: &str) -> String {
        self.redactor.clean(line)
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        let line = self.redactor.clean(line) + "\n";
        if let Some(log) = &mut self.log
            && let Err(error) = log.write_all(line.as_bytes())
        {
            tracing::error!(%error, "cannot write run.log");
            self.log = None;
        }
        if !self.deaf {
            self.deaf = !if self.stderr {
                speak(&std::io::stderr(), line.as_bytes())
            } else {
                speak(&std::io::stdout(), line.as_bytes())
            };
        }
    }
}

/// Writes; false when nobody listens any more.
fn speak(to: &impl AsFd, bytes: &[u8]) -> bool {
    if !weaken::on(Protection::ClosedStdout) {
        #[expect(clippy::unwrap_used, reason = "what a plain println! would do, for the mutation test")]
        std::io::stdout().write_all(bytes).unwrap();
        return true;
    }
    for chunk in bytes.chunks(CHUNK) {
        let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
        if !wait_ready(&mut ready, Some(PATIENCE)).unwrap_or(false) {
            return false;
        }
        // Unbuffered, so that no later flush can block.
        if nix::unistd::write(to.as_fd(), chunk).is_err() {
            return false;
        }
    }
    true
}
