//! The witness: looks on from a session of its own, and writes the report.

use std::io::{PipeReader, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ccci_core::lifetime::clock::{Deadline, since_boot};
use ccci_core::lifetime::signals::CANCEL;
use ccci_core::process::{handle_of, wait_ready};
use ccci_core::rundir::write_atomic;
use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;

use super::heard;
use super::report::{Brief, Report, Seen, What, Who};
use crate::event::millis;
use crate::keeper::{Ear, Wake};

/// Looks on until there is nothing more to see, and writes after each thing that was seen.
///
/// # Errors
/// When the kernel refuses to tell, or the report cannot be written.
pub(super) fn watch(ear: &Ear, lines: PipeReader, brief: Brief) -> anyhow::Result<()> {
    crate::reaper::name_process("ccci-witness");
    let mut witness = Witness::new(lines, brief)?;
    witness.write(false)?;
    loop {
        let until = witness.until;
        match ear.wait(&witness.fds(), until)? {
            Wake::Signal(received) if CANCEL.contains(&received.signal) => {
                witness.saw(Who::Witness, heard(received, false));
            }
            Wake::Time => return witness.write(true),
            Wake::Signal(_) | Wake::Fd => {}
        }
        witness.look()?;
        if witness.has_seen_all() {
            return witness.write(true);
        }
        witness.write(false)?;
    }
}

struct Witness {
    brief: Brief,
    seen: Vec<Seen>,
    /// What step and neighbour say; nothing once both are gone.
    lines: Option<PipeReader>,
    pending: Vec<u8>,
    /// Readable at its end; nothing once it has ended.
    shell: Option<OwnedFd>,
    step: Option<OwnedFd>,
    /// Says that something in the directories beside workspace and home was removed.
    removals: Inotify,
    /// When it looks no more.
    until: Option<Deadline>,
}

impl Witness {
    fn new(lines: PipeReader, brief: Brief) -> anyhow::Result<Self> {
        let removals = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        for path in std::iter::once(&brief.workspace).chain(&brief.home) {
            let parent = path.parent().unwrap_or(Path::new("/"));
            removals.add_watch(parent, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)?;
            removals.add_watch(path.as_path(), AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF)?;
        }
        Ok(Self {
            shell: handle_of(Pid::from_raw(brief.shell))?,
            step: handle_of(Pid::from_raw(brief.step))?,
            brief,
            seen: Vec::new(),
            lines: Some(lines),
            pending: Vec::new(),
            removals,
            until: None,
        })
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let ends = [self.shell.as_ref(), self.step.as_ref()].into_iter().flatten().map(AsFd::as_fd);
        ends.chain(self.lines.as_ref().map(AsFd::as_fd)).chain([self.removals.as_fd()]).collect()
    }

    fn saw(&mut self, who: Who, what: What) {
        self.seen.push(Seen { at_ms: millis(since_boot()), who, what });
    }

    fn has_seen(&self, who: Who, what: &What) -> bool {
        self.seen.iter().any(|seen| seen.who == who && seen.what == *what)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        // What the step said before its end is in the pipe by then: its end first, its words second.
        let step_ended = self.step.as_ref().is_some_and(is_ready);
        if self.shell.as_ref().is_some_and(is_ready) {
            self.shell = None;
            self.saw(Who::Shell, What::Ended);
        }
        self.read_lines()?;
        if step_ended {
            self.step = None;
            let word = if self.has_seen(Who::Step, &What::GaveUp) { What::Ended } else { What::Killed };
            self.saw(Who::Step, word);
            self.until = Some(Deadline::after(self.brief.settle));
        }
        while self.removals.read_events().is_ok() {}
        let dirs = [(Who::Workspace, Some(self.brief.workspace.clone())), (Who::Home, self.brief.home.clone())];
        for (who, dir) in dirs {
            if dir.is_some_and(|dir| !dir.exists()) && !self.has_seen(who, &What::Gone) {
                self.saw(who, What::Gone);
            }
        }
        if is_closed(&std::io::stdout()) && !self.has_seen(Who::Stdout, &What::Closed) {
            self.saw(Who::Stdout, What::Closed);
        }
        Ok(())
    }

    /// Takes all that step and neighbour have said.
    fn read_lines(&mut self) -> anyhow::Result<()> {
        while let Some(lines) = self.lines.as_mut().filter(|lines| is_ready(*lines)) {
            let mut buffer = [0; 4096];
            let count = lines.read(&mut buffer)?;
            if count == 0 {
                self.lines = None;
            }
            self.pending.extend_from_slice(&buffer[..count]);
        }
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.seen.push(serde_json::from_slice(&line)?);
        }
        Ok(())
    }

    /// Whether nothing is left that could still happen.
    fn has_seen_all(&self) -> bool {
        let gone = |who| self.has_seen(who, &What::Gone);
        let home = self.brief.home.is_none() || gone(Who::Home);
        self.step.is_none() && self.shell.is_none() && gone(Who::Workspace) && home
    }

    fn write(&self, finished: bool) -> anyhow::Result<()> {
        let report = Report::new(self.brief.clone(), self.seen.clone(), finished);
        Ok(write_atomic(&self.brief.out, &serde_json::to_vec_pretty(&report)?)?)
    }
}

fn is_ready(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    wait_ready(&mut polled, Some(Duration::ZERO)).unwrap_or(false)
}

/// Whether the reader of a pipe or socket is gone.
fn is_closed(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    wait_ready(&mut polled, Some(Duration::ZERO)).unwrap_or(false)
        && polled[0].revents().is_some_and(|seen| seen.intersects(gone))
}
