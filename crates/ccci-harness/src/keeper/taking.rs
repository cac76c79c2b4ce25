//! Taking the lock and a slot: visibly, cancellably, within the wait's own clock.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use ccci_core::config::duration::brief;
use ccci_core::config::{OnConflict, duration};
use ccci_core::lifetime::Cause;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::slots::{Host, Share, Slot, Slots, Turn};
use ccci_core::lock::{AppLock, LockError, LockPath, Owner, Unreadable, owner, proc_locks};
use ccci_core::name::NameError;
use ccci_core::process::tagged::LOCK_VAR;
use ccci_core::rundir::claim::{LiveRun, live_runs};
use ccci_core::rundir::file;
use ccci_core::weaken::{self, Protection};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{Job, Keeper, Wake};
use crate::event::{Event, millis, report};

/// So long after it was told of a change a [`Turn`] is asked.
const SETTLES: Duration = Duration::from_millis(20);

/// Why there was no run. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Cancelled while waiting.
    #[error("cancelled while waiting: {0}")]
    Cancelled(Cause),
    /// The wait's clock ran out.
    #[error("{subject} was not free within {waited}; it is held by {holder}")]
    TimedOut { subject: String, waited: String, holder: String },
    /// `--on-conflict fail`.
    #[error("{subject} is held by {holder}, and --on-conflict is `fail`")]
    Refused { subject: String, holder: String },
    /// Too little of the step's time is left to be useful.
    #[error("only {left} of the step's time are left, less than min_time_left ({needed}); not starting")]
    TooLate { left: String, needed: String },
    /// The lock cannot be had on this host.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The lock's name is not ours.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The kernel refused something else.
    #[error("cannot wait for the lock: {0}")]
    Os(#[from] io::Error),
}

impl Keeper {
    /// Takes the lock, waiting for it as the settings say.
    pub(super) fn take_lock(&mut self) -> Result<AppLock, NotTaken> {
        let path = self.plan.lock_path()?;
        let begun = Deadline::after(Duration::ZERO);
        let lock = match path.try_acquire(true) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(NotTaken::Os(io::ErrorKind::NotFound.into())),
            Err(LockError::Held { .. }) => self.wait_for_lock(&path, begun)?,
            Err(other) => return Err(other.into()),
        };
        let waited = begun.elapsed();
        self.console.say(&format!("== app lock: {} acquired after {}s ==", self.plan.subject(), waited.as_secs()));
        report(&self.dir, Event::Locked { waited_ms: millis(waited) });
        Ok(lock)
    }

    fn wait_for_lock(&mut self, path: &LockPath, begun: Deadline) -> Result<AppLock, NotTaken> {
        let subject = self.plan.subject();
        self.console.say(&format!("== app lock: another run of {subject} in flight — waiting =="));
        self.console.say(&format!("   held by {}", holder(path)));
        match self.plan.settings.on_conflict {
            OnConflict::Wait => {}
            OnConflict::Fail => return Err(NotTaken::Refused { subject, holder: holder(path) }),
            OnConflict::Supersede => self.supersede(path)?,
        }
        self.unless_superseded(path)?;
        if std::env::var(LOCK_VAR).is_ok_and(|mark| mark == self.plan.lock_mark()) {
            self.console.say(&format!(
                "!! this was started by the holder of {subject} itself: it waits for itself, until the holder's deadline; \
                 use another name inside"
            ));
        }
        self.wait_clock();
        // It also makes the file of the events, so that no disk is in the way once the lock is had.
        report(&self.dir, Event::Waiting { what: "the lock".to_owned() });
        let mut waiting = path.wait()?;
        let mut line = Deadline::after(self.console.pace());
        loop {
            if let Some(outcome) = waiting.outcome() {
                return Ok(outcome?);
            }
            let end = self.wait_clock();
            let until = end.map_or(line, |limit| limit.min(line));
            match self.ear.wait(&[waiting.as_fd()], Some(until))? {
                Wake::Signal(received) => {
                    if let Some(cause) = self.hear(received)
                        && weaken::on(Protection::CancelWait)
                    {
                        return Err(NotTaken::Cancelled(cause));
                    }
                }
                // The outcome is there: the next turn takes it.
                Wake::Fd => {}
                Wake::Time => {
                    if end.is_some_and(Deadline::passed) {
                        let waited = duration::show(Duration::from_secs(begun.elapsed().as_secs()));
                        return Err(NotTaken::TimedOut { subject, waited, holder: holder(path) });
                    }
                    self.console.beat(&format!("waiting {}, held by {}", brief(begun.elapsed()), holder(path)));
                    line = Deadline::after(self.console.pace());
                }
            }
        }
    }

    /// When the wait ends: its own timeout, or when too little of the step would be left.
    fn wait_clock(&mut self) -> Option<Deadline> {
        if self.wait_until.is_none() {
            let step = crate::request::step_left(&self.plan.settings)
                .map(|left| left.saturating_sub(self.plan.settings.min_time_left));
            let limit = [self.plan.settings.wait_timeout, step].into_iter().flatten().min();
            self.wait_until = limit.map(Deadline::after);
        }
        self.wait_until
    }

    /// Shortens the run's deadline to what the runner leaves.
    pub(super) fn fit_into_step(&mut self) -> Result<(), NotTaken> {
        if let Some(left) = crate::request::step_left(&self.plan.settings) {
            if left < self.plan.settings.min_time_left {
                let needed = duration::show(self.plan.settings.min_time_left);
                return Err(NotTaken::TooLate { left: duration::show(Duration::from_secs(left.as_secs())), needed });
            }
            self.plan.deadline = self.plan.deadline.min(left);
        }
        Ok(())
    }

    /// `supersede`: SIGTERM to every run of the name that was asked for earlier, the holder and those that wait, once
    /// run directory and kernel agree on who that is, and the holder's record does not name another.
    fn supersede(&mut self, path: &LockPath) -> Result<(), NotTaken> {
        let entries = proc_locks::of(path.path())?;
        let contradicted = matches!(holder_record(path), Ok(Some((_, false))));
        let mut holder_known = false;
        for run in live_runs(&self.plan.places.runs_dir, path.name(), Some(self.dir.path()))? {
            let supervisor = run.supervisor().cast_unsigned();
            // One that is not in the kernel's list yet looks for us before it waits.
            let Some(entry) = entries.iter().find(|entry| entry.pid == supervisor) else { continue };
            let earlier = run.order() < self.order();
            if !earlier || (entry.waits && !weaken::on(Protection::SupersedeAll)) || (!entry.waits && contradicted) {
                continue;
            }
            holder_known |= !entry.waits;
            self.ask_to_stop(&run, entry.waits);
        }
        if !holder_known {
            self.console.say("   cannot tell the holder for certain, so it is not asked to stop; waiting");
        }
        Ok(())
    }

    fn ask_to_stop(&mut self, run: &LiveRun, waits: bool) {
        let (id, pid) = (run.run_id(), run.supervisor());
        let by = Superseded { by: self.plan.run_id.clone(), pid: self.identity.0.pid };
        // Before the signal, so that it can say why it ends. Without it it says who sent the signal.
        if let Err(error) = run.dir().put_json(file::SUPERSEDED, &by) {
            tracing::warn!(%error, "run {id} is not told what it makes room for");
        }
        let line = match run.signal(Signal::SIGTERM) {
            Ok(true) if waits => format!("   asked run {id} (pid {pid}), which waits, to give up"),
            Ok(true) => format!("   asked run {id} (pid {pid}) to stop; waiting for its teardown"),
            Ok(false) => format!("   run {id} is gone already; waiting for its teardown"),
            Err(error) => format!("   cannot ask run {id} to stop: {error}; waiting"),
        };
        self.console.say(&line);
    }

    fn order(&self) -> (u64, &str) {
        (self.plan.arrived, &self.plan.run_id)
    }

    /// Ends this run before it begins if a newer one of its name is alive that supersedes. Of two that came at the
    /// same moment, one sees the other: each makes its directory first and looks second.
    pub(super) fn unless_superseded(&self, path: &LockPath) -> Result<(), NotTaken> {
        if !weaken::on(Protection::SupersedeAll) {
            return Ok(());
        }
        let live = live_runs(&self.plan.places.runs_dir, path.name(), Some(self.dir.path()))?;
        let newer = live.iter().filter(|run| run.supersedes() && run.order() > self.order());
        match newer.max_by_key(|run| run.order()) {
            Some(run) => {
                let cause = Cause::Superseded { by: run.run_id().to_owned(), pid: run.supervisor().cast_unsigned() };
                report(&self.dir, Event::Cancelled { cause: cause.clone() });
                Err(NotTaken::Cancelled(cause))
            }
            None => Ok(()),
        }
    }

    /// The cause of a signal: whoever supersedes leaves word before it sends one.
    pub(super) fn told(&self, cause: Cause) -> Cause {
        let Cause::Operator { signal, pid } = &cause else { return cause };
        if signal != "SIGTERM" {
            return cause;
        }
        match self.dir.read_json::<Superseded>(file::SUPERSEDED) {
            // A sender in another pid namespace shows as 0.
            Ok(Some(word)) if word.pid == *pid || *pid == 0 => Cause::Superseded { by: word.by, pid: word.pid },
            Ok(_) => cause,
            Err(error) => {
                tracing::warn!(%error, "cannot tell who supersedes this run");
                cause
            }
        }
    }

    /// Takes a slot, if the host has a number of them.
    pub(super) fn take_slot(&mut self) -> Result<Option<Slot>, NotTaken> {
        let Some(count) = self.plan.settings.max_tests.filter(|_| weaken::on(Protection::Slots)) else {
            return Ok(None);
        };
        let slots = Slots::new(&self.plan.places.lock_dir, count);
        let busy = format!("all {count} slots of this host are taken");
        self.take_turn(slots, "slot", &busy, "other runs").map(Some)
    }

    /// Takes a share of the host lock: a recipe's run and an image prune exclude each other (`[prune]`).
    pub(super) fn share_host(&mut self) -> Result<Option<Share>, NotTaken> {
        let Job::Recipe(_) = &self.plan.job else { return Ok(None) };
        if !weaken::on(Protection::HostLock) {
            return Ok(None);
        }
        let host = Host::new(&self.plan.places.lock_dir);
        self.take_turn(host, "host lock", "images are being pruned on this host", "an image prune").map(Some)
    }

    pub(super) fn take_turn<T: Turn>(
        &mut self,
        mut turn: T,
        what: &str,
        busy: &str,
        holder: &str,
    ) -> Result<T::Taken, NotTaken> {
        let begun = Deadline::after(Duration::ZERO);
        let mut said = false;
        loop {
            if let Some(taken) = turn.try_take()? {
                if said {
                    self.console.say(&format!("== {what} acquired after {}s ==", begun.elapsed().as_secs()));
                    report(&self.dir, Event::Step { name: "look for leftovers".to_owned() });
                    self.fit_into_step()?;
                }
                return Ok(taken);
            }
            if !said {
                said = true;
                self.console.say(&format!("== {busy} — waiting =="));
                report(&self.dir, Event::Step { name: format!("wait for the {what}") });
                self.settle()?;
                continue;
            }
            let end = self.wait_clock();
            let line = Deadline::after(self.console.pace());
            match self.ear.wait(turn.changes().as_slice(), Some(end.map_or(line, |limit| limit.min(line))))? {
                Wake::Signal(received) => {
                    if let Some(cause) = self.hear(received) {
                        return Err(NotTaken::Cancelled(cause));
                    }
                }
                Wake::Fd => {
                    turn.forget_changes();
                    self.settle()?;
                }
                Wake::Time if end.is_some_and(Deadline::passed) => {
                    let waited = duration::show(Duration::from_secs(begun.elapsed().as_secs()));
                    return Err(NotTaken::TimedOut {
                        subject: format!("the {what}"),
                        waited,
                        holder: holder.to_owned(),
                    });
                }
                Wake::Time => {
                    self.console.beat(&format!("waiting {} for the {what}", brief(begun.elapsed())));
                }
            }
        }
    }

    /// Waits until what was told of has happened, or ends with the run's cancel.
    fn settle(&mut self) -> Result<(), NotTaken> {
        let end = Deadline::after(SETTLES);
        loop {
            match self.ear.wait(&[], Some(end))? {
                Wake::Signal(received) => {
                    if let Some(cause) = self.hear(received) {
                        return Err(NotTaken::Cancelled(cause));
                    }
                }
                Wake::Time | Wake::Fd => return Ok(()),
            }
        }
    }
}

/// What a run leaves in another's directory that it supersedes.
#[derive(Debug, Serialize, Deserialize)]
struct Superseded {
    by: String,
    pid: u32,
}

/// The record of a lock's holder, and whether the kernel names the same process.
///
/// # Errors
/// When there is a record that cannot be read.
pub(crate) fn holder_record(path: &LockPath) -> Result<Option<(Owner, bool)>, Unreadable> {
    let Some(owner) = owner::of(path.path())? else { return Ok(None) };
    let entries = proc_locks::of(path.path()).unwrap_or_default();
    let agrees =
        entries.iter().any(|entry| !entry.waits && entry.pid == owner.pid) || !weaken::on(Protection::HolderAgreed);
    Ok(Some((owner, agrees)))
}

/// The holder, for a person who waits.
pub(crate) fn holder(path: &LockPath) -> String {
    match holder_record(path) {
        Ok(Some((owner, true))) => owner.describe(),
        Ok(Some((owner, false))) => {
            format!("{}, of which /proc/locks does not know (another part of it may hold on)", owner.describe())
        }
        unknown => match proc_locks::of(path.path()).ok().and_then(|entries| entries.first().copied()) {
            Some(entry) if entry.waits => format!("nobody at this moment; pid {} is about to take it", entry.pid),
            Some(entry) if unknown.is_err() => format!("pid {}, whose record cannot be read", entry.pid),
            Some(entry) => format!("pid {}, which left no record", entry.pid),
            None => "a run that left no record".to_owned(),
        },
    }
}
