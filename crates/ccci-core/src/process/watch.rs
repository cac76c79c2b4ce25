//! A running job: its lines as they come, its timeout, the end of its group.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{Child, Ended, orphans, wait_ready};
use crate::lifetime::clock::Deadline;
use crate::redact::{CUT, CUT_BEFORE};

/// How many bytes of output an error carries.
const TAIL: usize = 2000;
/// So much is taken at once: a job that prints faster than it is read must not keep its timeout from
/// being seen.
const TURN: usize = 64 * 1024;
/// What of a longer line is handed out. Cut, and not handed out in parts: a secret could lie across two.
const LINE: usize = 64 * 1024;
/// How long a process may take to end after SIGKILL; what takes longer hangs in the kernel.
const KILLED: Duration = Duration::from_secs(10);

/// The lines of a pipe or a terminal, as they come.
pub(super) struct Lines {
    fd: OwnedFd,
    terminal: bool,
    /// The begin of a line whose end is still to come.
    pending: Vec<u8>,
    /// Whether that line has been longer than [`LINE`].
    cut: bool,
    recent: Vec<u8>,
    /// Whether `recent` had more before it.
    dropped: bool,
    open: bool,
}

impl Lines {
    pub(super) fn of_pipe(fd: OwnedFd) -> Self {
        Self::new(fd, false)
    }

    /// What is read from a terminal loses its escape sequences.
    pub(super) fn of_terminal(fd: OwnedFd) -> Self {
        Self::new(fd, true)
    }

    fn new(fd: OwnedFd, terminal: bool) -> Self {
        let _blocking_is_fine = rustix::io::ioctl_fionbio(&fd, true);
        Self { fd, terminal, pending: Vec::new(), cut: false, recent: Vec::new(), dropped: false, open: true }
    }

    /// Takes what is there, up to `most` bytes; how many there were.
    fn read(&mut self, most: usize, sink: &mut dyn FnMut(&str), keep: Option<&mut Vec<u8>>) -> usize {
        let mut buffer = [0; 8192];
        let mut fresh = Vec::new();
        while fresh.len() < most {
            match rustix::io::read(&self.fd, &mut buffer[..]) {
                Ok(0) => {
                    self.open = false;
                    break;
                }
                Ok(n) => fresh.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                // A terminal's way to say that nobody has its other end open any more.
                Err(rustix::io::Errno::IO) => {
                    self.open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        match keep {
            Some(keep) => keep.extend_from_slice(&fresh),
            None => self.hand_out(&fresh, sink),
        }
        fresh.len()
    }

    fn hand_out(&mut self, fresh: &[u8], sink: &mut dyn FnMut(&str)) {
        self.recent.extend_from_slice(fresh);
        if self.recent.len() > 4 * TAIL {
            self.recent.drain(..self.recent.len() - TAIL);
            self.dropped = true;
        }
        for part in fresh.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE.saturating_sub(self.pending.len());
            self.cut |= text.len() > room;
            self.pending.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line(sink);
            }
        }
        if !self.open && !self.pending.is_empty() {
            self.end_line(sink);
        }
    }

    fn end_line(&mut self, sink: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.pending);
        let mut line = self.plain(&line).trim_end_matches('\r').to_owned();
        if std::mem::take(&mut self.cut) {
            line += CUT;
        }
        sink(&line);
    }

    /// What was written before the end is still in the pipe, and no more than that is taken: a descendant
    /// that left the group may hold it open, and go on writing, for ever.
    fn finish(&mut self, sink: &mut dyn FnMut(&str), mut keep: Option<&mut Vec<u8>>) {
        let mut left = rustix::pipe::fcntl_getpipe_size(&self.fd).map_or(TURN, |size| size.max(TURN));
        while self.open && left > 0 {
            match self.read(left.min(TURN), sink, keep.as_deref_mut()) {
                0 => break,
                taken => left = left.saturating_sub(taken),
            }
        }
        self.open = false;
        if keep.is_none() {
            self.hand_out(&[], sink);
        }
    }

    fn plain(&self, bytes: &[u8]) -> String {
        if self.terminal {
            strip_ansi_escapes::strip_str(String::from_utf8_lossy(bytes))
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }

    /// The end of its output; where the begin of that is a divided line's, it is said, as that may be a secret's end.
    pub(super) fn tail(&self) -> String {
        let from = self.recent.len().saturating_sub(TAIL);
        let recent = &self.recent[from..];
        if from == 0 && !self.dropped || from > 0 && self.recent[from - 1] == b'\n' {
            return self.plain(recent);
        }
        match recent.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < recent.len()) {
            Some(end) => self.plain(&recent[end + 1..]),
            None => format!("{CUT_BEFORE}{}", self.plain(recent)),
        }
    }
}

/// A running job.
pub(super) struct Watch {
    child: Child,
    pub(super) lines: Lines,
    kept: Option<Lines>,
    pub(super) stdout: Vec<u8>,
}

impl Watch {
    pub(super) const fn of(child: Child, lines: Lines, kept: Option<Lines>) -> Self {
        Self { child, lines, kept, stdout: Vec::new() }
    }

    pub(super) fn until_end(
        &mut self,
        timeout: Duration,
        grace: Duration,
        sink: &mut dyn FnMut(&str),
    ) -> io::Result<Ended> {
        let pid = self.child.pid;
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let exit = pidfd_open(raw, PidfdFlags::empty())?;
        let orphans = orphans::Watch::begin()?;
        let timed_out = !self.wait_until(&exit, &orphans, Deadline::after(timeout), sink)?;
        if timed_out {
            let _sent = killpg(pid, Signal::SIGTERM);
            // What is stopped hears it only when it goes on.
            let _sent = killpg(pid, Signal::SIGCONT);
            self.wait_until(&exit, &orphans, Deadline::after(grace), sink)?;
        }
        // The leader is not collected yet, so the group's number is still ours ([pgid]); what it left
        // running in its group ends with it.
        let _sent = killpg(pid, Signal::SIGKILL);
        if !self.wait_until(&exit, &orphans, Deadline::after(KILLED), sink)? {
            return Err(io::Error::other(format!("process {pid} still runs after SIGKILL: it hangs in the kernel")));
        }
        let ended = self.child.wait()?;
        self.lines.finish(sink, None);
        if let Some(kept) = &mut self.kept {
            kept.finish(sink, Some(&mut self.stdout));
        }
        Ok(if timed_out { Ended::TimedOut(timeout) } else { ended })
    }

    fn take(&mut self, sink: &mut dyn FnMut(&str)) {
        self.lines.read(TURN, sink, None);
        if let Some(kept) = &mut self.kept {
            kept.read(TURN, sink, Some(&mut self.stdout));
        }
    }

    /// Hands out lines until the process has ended (true) or `until` has passed (false).
    fn wait_until(
        &mut self,
        exit: &OwnedFd,
        orphans: &orphans::Watch,
        until: Deadline,
        sink: &mut dyn FnMut(&str),
    ) -> io::Result<bool> {
        loop {
            let ended = {
                let mut fds = vec![PollFd::new(exit.as_fd(), PollFlags::POLLIN)];
                for pipe in std::iter::once(&self.lines).chain(&self.kept).filter(|pipe| pipe.open) {
                    fds.push(PollFd::new(pipe.fd.as_fd(), PollFlags::POLLIN));
                }
                fds.extend(orphans.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
                wait_ready(&mut fds, Some(until.left()))?;
                fds[0].any() == Some(true)
            };
            orphans.collect()?;
            self.take(sink);
            if ended || until.passed() {
                return Ok(ended);
            }
        }
    }
}
