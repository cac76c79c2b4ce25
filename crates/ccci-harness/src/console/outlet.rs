//! A terminal, a pipe or a file that is told lines as long as it takes them, and never waited for.
//!
//! Readiness alone does not do: a terminal that has room for a few characters is ready, and a longer write stands still in
//! it. So what can be opened anew is written through an open file of our own that does not block; the caller's keeps its
//! flags, which others share. What does not fit is counted, and said when there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::process::wait_ready;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

/// How long a reader that takes nothing is waited for, the first time.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a pipe that is ready takes without blocking (`PIPE_BUF`), for what could not be opened anew.
const CHUNK: usize = 4096;

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Outlet {
    stderr: bool,
    /// Our own opening of it, which does not block.
    own: Option<File>,
    /// The rest of a line that was begun.
    rest: Vec<u8>,
    /// Whether it took nothing the last time: it is not waited for again.
    stuck: bool,
    /// Whether nobody will ever read it again.
    gone: bool,
    /// How many lines it was not told.
    untold: usize,
}

impl Outlet {
    /// Stderr, or stdout.
    pub(crate) fn of(stderr: bool) -> Self {
        let (own, gone) = match open_anew(stderr) {
            Ok(own) => (own, false),
            // A pipe without a reader.
            Err(error) => (None, error.raw_os_error() == Some(Errno::ENXIO as i32)),
        };
        Self { stderr, own, rest: Vec::new(), stuck: false, gone, untold: 0 }
    }

    /// One that nobody reads.
    pub(crate) const fn nowhere() -> Self {
        Self { stderr: true, own: None, rest: Vec::new(), stuck: false, gone: true, untold: 0 }
    }

    /// Tells whole lines. `elsewhere` is where they can be read if they do not fit.
    pub(crate) fn tell(&mut self, lines: &str, elsewhere: &str) {
        if self.gone {
            return;
        }
        if self.untold > 0 && self.write(b"") {
            let missed = format!("… {} not shown; see {elsewhere}\n", super::count(self.untold, "line"));
            if self.write(missed.as_bytes()) {
                self.untold = 0;
            }
        }
        if self.untold > 0 || !self.write(lines.as_bytes()) {
            self.untold += lines.lines().count();
        }
    }

    /// Shows what is of no use a moment later, if there is room for it.
    pub(crate) fn show(&mut self, text: &str) {
        if self.untold == 0 {
            self.write(text.as_bytes());
        }
    }

    /// Data, for a reader who may be slow: waited for as long as it takes something within `patience`.
    ///
    /// # Errors
    /// When it took nothing for so long.
    pub(crate) fn give(&mut self, data: &[u8], patience: Duration) -> io::Result<()> {
        self.rest.extend_from_slice(data);
        while !self.rest.is_empty() && !self.gone {
            let before = self.rest.len();
            self.flush(patience);
            if self.rest.len() == before && !self.gone {
                let why = format!("nobody reads it: it took nothing for {} s", patience.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        Ok(())
    }

    /// Whether it was taken, or at least begun.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let patience = if self.stuck { Duration::ZERO } else { PATIENCE };
        self.flush(patience);
        if !self.rest.is_empty() || self.gone {
            self.stuck = true;
            return false;
        }
        self.rest.extend_from_slice(bytes);
        self.flush(patience);
        self.stuck = !self.rest.is_empty();
        if self.rest.len() == bytes.len() && !bytes.is_empty() {
            self.rest.clear();
            return false;
        }
        true
    }

    fn flush(&mut self, patience: Duration) {
        let until = Deadline::after(patience);
        while !self.rest.is_empty() && !self.gone {
            match self.write_some() {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if until.passed() => return,
                Err(Errno::EAGAIN) => {
                    let ready = wait_ready(&mut [PollFd::new(self.fd(), PollFlags::POLLOUT)], Some(until.left()));
                    self.gone |= ready.is_err();
                }
                // A full disk may have room again; who closed a pipe or hung up is gone for good.
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => return,
                Err(_) => self.gone = true,
            }
        }
    }

    fn write_some(&self) -> Result<usize, Errno> {
        if let Some(own) = &self.own {
            return nix::unistd::write(own, &self.rest);
        }
        let mut ready = [PollFd::new(self.fd(), PollFlags::POLLOUT)];
        if !wait_ready(&mut ready, Some(Duration::ZERO)).unwrap_or(false) {
            return Err(Errno::EAGAIN);
        }
        // A terminal of another user's, which cannot be opened anew, is sure of room for one character alone.
        let terminal = if self.stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let most = if terminal { 1 } else { CHUNK };
        // Unbuffered, so that no later flush can block.
        nix::unistd::write(self.fd(), &self.rest[..self.rest.len().min(most)])
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.own {
            Some(own) => own.as_fd(),
            None if self.stderr => STDERR.as_fd(),
            None => STDOUT.as_fd(),
        }
    }
}

static STDERR: std::sync::LazyLock<io::Stderr> = std::sync::LazyLock::new(io::stderr);
static STDOUT: std::sync::LazyLock<io::Stdout> = std::sync::LazyLock::new(io::stdout);

/// Opened anew, where that is the same thing: a file would be written from its beginning, and a socket cannot be.
fn open_anew(stderr: bool) -> io::Result<Option<File>> {
    let path = format!("/proc/self/fd/{}", if stderr { 2 } else { 1 });
    let kind = std::fs::metadata(&path)?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return Ok(None);
    }
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path).map(Some)
}

/// Stderr for what is logged: what does not fit is lost.
#[derive(Debug)]
pub(crate) struct Log(Outlet);

impl Log {
    /// Made for each line, as nothing of it is kept.
    pub(crate) fn new() -> Self {
        Self(Outlet::of(true))
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.show(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
