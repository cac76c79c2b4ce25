//! From the end of the work to the end of the teardown: a reaper is at work, whatever it takes.
//!
//! One that dies is followed by another. One that cannot be started is tried again, as the run itself may have
//! used up what it needs; in the end the supervisor does its work. All of that within the one budget.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::time::Duration;

use ccci_core::lifetime::Cause;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::exec::Birth;
use ccci_core::lock::AppLock;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::process::{Child, Ended, handle_of, spawn_part, wait_ready};
use ccci_core::weaken::{self, Protection};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;

use super::{Keeper, Wake};
use crate::event::{Event, report};
use crate::reaper::{self, Mode};

/// How often a reaper that died is followed by another.
const REAPER_TRIES: u32 = 3;
/// What the reaper gets beyond its own budget to write its receipt.
const REAPER_SLACK: Duration = Duration::from_secs(15);
/// The pause before a reaper that could not be started is tried again.
const REAPER_PAUSE: Duration = Duration::from_millis(500);
/// How long a part that was sent SIGKILL may take to end.
const KILLED: Duration = Duration::from_secs(10);

impl Keeper {
    /// Waits for the reaper that the worker became; a worker or reaper that died is followed by a new
    /// reaper, within the one budget. One that used it up hangs, and so would the next.
    pub(super) fn see_reaper_through(&mut self, lock: &AppLock, part: Child) -> anyhow::Result<()> {
        let until = self.teardown_end();
        match self.wait_for(part, until)? {
            Some(Ended::Exited(reaper::CLEAN | reaper::RESIDUE)) => return Ok(()),
            Some(other) => {
                self.facts.worker_died = Some(other.to_string());
                self.console.say(&format!("== worker or reaper died ({other}) — starting a reaper =="));
                self.reap(lock, Mode::Teardown, until)?;
            }
            None => self.give_up_reaping(),
        }
        Ok(())
    }

    /// When a teardown that begins now has to be over.
    pub(super) fn teardown_end(&self) -> Deadline {
        let budget =
            if weaken::on(Protection::ReaperBudget) { self.plan.settings.teardown_budget } else { Duration::MAX / 2 };
        Deadline::after(budget + REAPER_SLACK)
    }

    fn give_up_reaping(&mut self) {
        self.console.say("== the reaper exceeded its budget: what is left is the janitor's ==");
        // What the reaper was waiting for must not go on when the lock is free.
        if let Err(error) = tagged::end_all(&self.plan.tag(), Duration::ZERO) {
            self.console.say(&format!("!! {error}"));
        }
        self.facts.no_reaper = true;
    }

    /// A reaper of our own, tried again while it dies. True when it left nothing.
    pub(super) fn reap(&mut self, lock: &AppLock, mode: Mode, until: Deadline) -> anyhow::Result<bool> {
        let tries = if weaken::on(Protection::ReaperRetry) { REAPER_TRIES } else { 1 };
        for _ in 0..tries {
            let Some(part) = self.start_reaper(lock, mode, until)? else {
                return self.reap_ourselves(lock, mode, until);
            };
            match self.wait_for(part, until)? {
                Some(Ended::Exited(reaper::CLEAN)) => return Ok(true),
                Some(Ended::Exited(reaper::RESIDUE)) => return Ok(false),
                Some(other) => self.console.say(&format!("== reaper died ({other}) ==")),
                None => {
                    self.give_up_reaping();
                    return Ok(false);
                }
            }
        }
        self.facts.no_reaper = true;
        Ok(false)
    }

    /// Starts a reaper; tried again while the host cannot start anything, the run's own processes ended, until half
    /// of the time is over. `None`: it is for this process to do the work.
    fn start_reaper(&mut self, lock: &AppLock, mode: Mode, until: Deadline) -> anyhow::Result<Option<Child>> {
        let last_try = Deadline::after(until.left().saturating_sub(REAPER_SLACK) / 2);
        let mut said = false;
        loop {
            let within = until.left().saturating_sub(REAPER_SLACK);
            let args: Vec<OsString> =
                reaper::args(&self.dir, lock.raw_fd(), mode, Some(within)).into_iter().map(OsString::from).collect();
            // No death signal: a reaper whose keeper is gone simply finishes.
            let (keep_fd, keep_claim) = (Some(lock.raw_fd()), self.dir.claim_fd());
            let birth = Birth { block_cancel: true, keep_fd, keep_claim, ..Birth::default() };
            let error = match spawn_part(&args, self.part_env(), birth) {
                Ok(part) => return Ok(Some(part)),
                Err(error) if !weaken::on(Protection::ReaperStart) => return Err(error.into()),
                Err(error) => error,
            };
            if !said {
                said = true;
                self.console.say(&format!("== no reaper can be started ({error}) — trying again =="));
                // What takes up the host is, first of all, the run itself.
                self.end_processes(mode);
                continue;
            }
            if last_try.passed() {
                return Ok(None);
            }
            self.pause(Deadline::after(REAPER_PAUSE.min(last_try.left())))?;
        }
    }

    /// Ends what still runs of this run, or of the one before it that is cleaned up.
    fn end_processes(&mut self, mode: Mode) {
        let tag = match mode {
            Mode::Teardown => self.plan.tag(),
            Mode::Preclean => Tag::Lock(self.plan.lock_mark()),
        };
        if let Err(error) = tagged::end_all(&tag, Duration::ZERO) {
            self.console.say(&format!("!! {error}"));
        }
    }

    /// Waits, and hears what comes meanwhile.
    fn pause(&mut self, until: Deadline) -> anyhow::Result<()> {
        loop {
            match self.ear.wait(&[], Some(until))? {
                Wake::Signal(received) => {
                    if let Some(cause) = self.hear(received) {
                        self.cancelled_in_clean_up(cause);
                    }
                }
                Wake::Time | Wake::Fd => return Ok(()),
            }
        }
    }

    fn cancelled_in_clean_up(&mut self, cause: Cause) {
        report(&self.dir, Event::Cancelled { cause: cause.clone() });
        self.console.say(&format!("== cancelled: {cause} — finishing the clean-up =="));
        self.facts.cause = Some(cause);
    }

    /// The reaper's work, in this process, which needs nothing more of the host for it. An exec would: memory for
    /// the new program, and files. What the supervisor knows of the run would go with it.
    fn reap_ourselves(&mut self, lock: &AppLock, mode: Mode, until: Deadline) -> anyhow::Result<bool> {
        self.console.say("== no reaper can be started — the supervisor does its work itself ==");
        let within = Deadline::after(until.left().saturating_sub(REAPER_SLACK));
        let code = reaper::reap(&self.plan, &self.dir, lock.share()?, mode, within)?;
        reaper::name_process("cc-ci-run");
        Ok(i32::from(code) == reaper::CLEAN)
    }

    /// Waits for a part to end; one that is still there at `until` is killed (`None`).
    pub(super) fn wait_for(&mut self, mut part: Child, until: Deadline) -> anyhow::Result<Option<Ended>> {
        let mut beat = Deadline::after(self.console.pace());
        loop {
            if let Some(ended) = part.try_wait()? {
                return Ok(Some(ended));
            }
            match self.ear.wait(&[], Some(until.min(beat)))? {
                Wake::Signal(received) => {
                    // During a preclean there is no worker yet: the cause keeps it from starting.
                    if let Some(cause) = self.hear(received) {
                        self.cancelled_in_clean_up(cause);
                        if !weaken::on(Protection::SecondSignal) {
                            part.signal(Signal::SIGKILL);
                            self.facts.no_reaper = true;
                            return Ok(Some(Ended::Exited(reaper::RESIDUE)));
                        }
                    }
                }
                Wake::Time if until.passed() => {
                    part.signal(Signal::SIGKILL);
                    return Ok(self.see_killed(&mut part).filter(|end| matches!(end, Ended::Exited(_))));
                }
                Wake::Time | Wake::Fd => beat = self.beat_if_due(beat),
            }
        }
    }

    /// The end of a part that was sent SIGKILL, which only one in the middle of a system call outlives. It may have
    /// been done just before.
    fn see_killed(&mut self, part: &mut Child) -> Option<Ended> {
        let mut wait = || {
            if let Some(end) = handle_of(part.pid)? {
                wait_ready(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], Some(KILLED))?;
            }
            part.try_wait()
        };
        let ended = wait();
        match &ended {
            Ok(Some(_)) => {}
            Ok(None) => self.console.say(&format!("!! process {} still runs after SIGKILL", part.pid)),
            Err(error) => self.console.say(&format!("!! cannot tell whether process {} has ended: {error}", part.pid)),
        }
        ended.ok().flatten()
    }
}
