//! The keeper: guards, clock, lock, children, verdict. It does no work of its own.
//!
//! ```text
//! wait for the lock ─ preclean ─ worker ──────────────▶ reaper ─ results ─ exit code
//!        │ cancel                  │ ends, or SIGTERM ──▶ (the same process)
//!        ▼                         │ killed ────────────▶ (a new process)
//!       143                        ╰ deaf to SIGTERM: SIGKILL after the grace
//! ```
//! From the moment it has the lock, no single SIGKILL leaks: the worker's last act is to become the
//! reaper, so there is no moment in which only the keeper knows of the app.

mod ear;
mod reaping;
mod robbed;
mod taking;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use ccci_core::config::duration;
use ccci_core::lifetime::Cause;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::exec::Birth;
use ccci_core::lifetime::parent::PARENT_PID_VAR;
use ccci_core::lifetime::signals::{CANCEL, Phase, Response};
use ccci_core::lock::slots::{Share, Slot};
use ccci_core::lock::{AppLock, Owner};
use ccci_core::process::foreground::Foreground;
use ccci_core::process::procfs::{Process, boot_id};
use ccci_core::process::{Change, Child, fork_part, tagged};
use ccci_core::rundir::unfinished::dead_runs;
use ccci_core::rundir::{RunDir, file};
use ccci_core::teardown::Receipt;
use ccci_core::weaken::{self, Protection};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use crate::command;
use crate::console::{Console, count};
use crate::event::{Event, begin, report};
use crate::guard;
use crate::plan::{Job, Plan};
use crate::progress::Progress;
use crate::reaper::Mode;
use crate::worker;
pub(crate) use ear::{Ear, Wake};
pub(crate) use taking::{NotTaken, holder};

/// How a run under the lock ended, as far as the keeper knows.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Who or what ended it early.
    pub(crate) cause: Option<Cause>,
    /// How the worker ended, if it did not become the reaper.
    pub(crate) worker_died: Option<String>,
    /// What the host could not do.
    pub(crate) host: Option<String>,
    /// Every reaper died.
    pub(crate) no_reaper: bool,
    /// A worker was started, so there is something to take down.
    pub(crate) worked: bool,
}

/// Keeps one run.
pub(crate) struct Keeper {
    ear: Ear,
    console: Console,
    dir: RunDir,
    plan: Plan,
    /// This process and its boot, for the lock's record; known before there is a lock, so that it is not looked up
    /// between the lock and the work.
    identity: (Process, String),
    phase: Phase,
    facts: Facts,
    /// When a wait for lock or slot is over; fixed when the waiting begins.
    wait_until: Option<Deadline>,
}

impl Keeper {
    pub(crate) fn new(ear: Ear, console: Console, dir: RunDir, plan: Plan) -> Self {
        let (phase, facts) = (Phase::Waiting, Facts::default());
        let identity = (Process::own(), boot_id());
        Self { ear, console, dir, plan, identity, phase, facts, wait_until: None }
    }

    /// Keeps the run from the taking of its lock to the end of its teardown.
    ///
    /// # Errors
    /// [`NotTaken`] when there was no lock and so nothing to undo.
    pub(crate) fn keep(mut self) -> Result<Kept, NotTaken> {
        let lock = self.take_lock()?;
        let turns = match self.take_turns(&lock) {
            Ok(turns) => turns,
            Err(not_taken) => {
                self.dir.unclaim();
                give_back(lock);
                return Err(not_taken);
            }
        };
        self.phase = Phase::Working;
        let facts = match self.under_the_lock(&lock) {
            Ok(()) => self.facts,
            Err(error) => Facts { host: Some(format!("{error:#}")), no_reaper: true, ..self.facts },
        };
        Ok(Kept { lock, facts, console: self.console, _turns: turns })
    }

    /// All that a run waits for once it has its lock.
    fn take_turns(&mut self, lock: &AppLock) -> Result<(Option<Slot>, Option<Share>), NotTaken> {
        self.outlast_the_robbed(lock)?;
        self.fit_into_step()?;
        // The slot first: a prune that waits for nobody's share to end need not wait for a queue.
        let turns = (self.take_slot()?, self.share_host()?);
        self.unless_superseded(lock.at())?;
        Ok(turns)
    }

    fn under_the_lock(&mut self, lock: &AppLock) -> anyhow::Result<()> {
        let owner = self.owner();
        if self.needs_preclean(lock)? {
            lock.write_owner(&owner)?;
            if !self.preclean(lock)? {
                return Ok(());
            }
        }
        lock.write_owner(&Owner { phase: "starting".to_owned(), ..owner })?;
        if let Job::Guard(_) = self.plan.job {
            begin(&self.dir, self.plan.outlasts_the_host()).context("so nothing was begun")?;
        }
        self.work(lock)
    }

    fn owner(&self) -> Owner {
        let now = Timestamp::now();
        let deadline = SignedDuration::try_from(self.plan.deadline).ok().and_then(|left| now.checked_add(left).ok());
        let Process { pid, start_ticks } = self.identity.0;
        let (recipe, pr, git_ref) = match &self.plan.job {
            Job::Recipe(job) => (job.recipe.clone(), Some(job.pr.clone()), Some(job.git_ref.clone())),
            Job::Guard(job) => (job.command.join(" "), None, None),
        };
        Owner {
            run_id: self.plan.run_id.clone(),
            pid,
            start_ticks,
            boot_id: self.identity.1.clone(),
            run_dir: self.dir.path().to_owned(),
            recipe,
            pr,
            git_ref,
            phase: "preclean".to_owned(),
            since: now,
            deadline: deadline.unwrap_or(now),
        }
    }

    /// A guard has something to clean only if an earlier one did not get to it: it left its record in the lock's file,
    /// be it one that cannot be read, or a directory that is not finished.
    fn needs_preclean(&self, lock: &AppLock) -> anyhow::Result<bool> {
        if !weaken::on(Protection::DirtyOnAcquire) {
            return Ok(false);
        }
        if matches!(self.plan.job, Job::Recipe(_)) || !matches!(lock.read_owner(), Ok(None)) {
            return Ok(true);
        }
        let dead = dead_runs(&self.plan.places.runs_dir, lock.at().name(), Some(self.dir.path()));
        let dead = dead.context("cannot tell what earlier guards of this name left; look at it by hand")?;
        Ok(!dead.is_empty())
    }

    /// Dirty on acquire: ends what a dead run of this domain left running and reaps what it left
    /// behind. False when the run must not start.
    fn preclean(&mut self, lock: &AppLock) -> anyhow::Result<bool> {
        let clean = self.reap(lock, Mode::Preclean, self.teardown_end())?;
        let receipt = self.dir.read_json::<Receipt>(file::PRECLEAN)?.filter(|receipt| !receipt.is_empty());
        let left = receipt.as_ref().and_then(|receipt| receipt.residue.first());
        let left = left.map_or_else(|| "see preclean.json".to_owned(), |left| format!("{}: {}", left.what, left.why));
        if let Some(receipt) = receipt {
            self.console.say(&format!(
                "== preclean: an earlier run left {} behind; removed {} and ended {} ==",
                count(receipt.removed.len() + receipt.residue.len(), "object"),
                count(receipt.removed.len(), "object"),
                count(receipt.processes.len(), "process"),
            ));
        }
        if !clean {
            self.facts.host = Some(format!("what an earlier run left behind could not be removed; {left}"));
        }
        Ok(clean && self.facts.cause.is_none())
    }

    /// The worker, from its start to the end of the reaper that it becomes.
    fn work(&mut self, lock: &AppLock) -> anyhow::Result<()> {
        let waited = if weaken::on(Protection::OwnClock) { Duration::ZERO } else { self.age() };
        let deadline = Deadline::after(self.plan.deadline.saturating_sub(waited));
        // Closed on exec: its end tells that the worker has become the reaper, or is dead.
        let (alive, alive_end) = std::io::pipe().context("cannot make a pipe")?;
        let terminal = Foreground::of_caller().filter(|_| matches!(self.plan.job, Job::Guard(_)));
        let worker = match self.start_worker(lock, &alive_end) {
            Ok(worker) => worker,
            // Nothing has begun, so that nothing is to be taken down.
            Err(error) => {
                self.facts.host = Some(format!("{error:#}"));
                return Ok(());
            }
        };
        self.facts.worked = true;
        drop(alive_end);
        let mut grace: Option<Deadline> = None;
        let mut beat = Deadline::after(self.console.pace());
        loop {
            // Once it is the cause, it is over: what comes next is the grace.
            let open = weaken::on(Protection::DeadlineClock) && self.facts.cause.is_none();
            let clock = Some(deadline).filter(|_| open);
            let until = grace.or(clock).map_or(beat, |until| until.min(beat));
            match self.ear.wait(&[alive.as_fd()], Some(until))? {
                Wake::Fd => break,
                Wake::Signal(received) => {
                    if let Some(cause) = self.hear(received) {
                        self.begin_teardown(cause, &worker);
                        grace = Some(Deadline::after(self.plan.settings.grace));
                    }
                }
                Wake::Time if grace.is_some_and(Deadline::passed) => {
                    // Deaf (stopped, or in uninterruptible sleep): its death closes the pipe.
                    self.console.say("== the worker does not answer SIGTERM — killing it ==");
                    worker.signal(Signal::SIGKILL);
                    grace = None;
                }
                Wake::Time if clock.is_some_and(Deadline::passed) && self.facts.cause.is_none() => {
                    self.begin_teardown(Cause::Deadline, &worker);
                    grace = Some(Deadline::after(self.plan.settings.grace));
                }
                Wake::Time => {
                    beat = self.beat_if_due(beat);
                }
            }
        }
        self.phase = Phase::TearingDown;
        let done = if weaken::on(Protection::BecomeReaper) {
            self.see_reaper_through(lock, worker)
        } else {
            self.wait_for(worker, Deadline::after(self.plan.settings.grace))?;
            self.reap(lock, Mode::Teardown, self.teardown_end()).map(drop)
        };
        if let Some(terminal) = terminal {
            let killed = self.facts.cause.is_some() || guard::was_killed(&self.dir);
            if let Err(error) = terminal.take_back(killed) {
                self.console.say(&format!("!! the terminal is not as it was: {error}"));
            }
        }
        done
    }

    /// How long ago the run was asked for, its wait included.
    fn age(&self) -> Duration {
        Duration::try_from(Timestamp::now().duration_since(self.plan.started)).unwrap_or_default()
    }

    /// Ends the worker for `cause`.
    fn begin_teardown(&mut self, cause: Cause, worker: &Child) {
        let line = match &cause {
            Cause::Deadline | Cause::Alarm { .. } => {
                format!("== run exceeded {} hard deadline — tearing down ==", figure(self.plan.deadline))
            }
            other => format!("== cancelled: {other} — tearing down =="),
        };
        self.console.say(&line);
        report(&self.dir, Event::Cancelled { cause: cause.clone() });
        self.facts.cause = Some(cause);
        self.phase = Phase::TearingDown;
        worker.signal(Signal::SIGTERM);
        // What is stopped hears it only when it goes on.
        if weaken::on(Protection::Continue) {
            worker.signal(Signal::SIGCONT);
        }
    }

    fn start_worker(&self, lock: &AppLock, alive: &std::io::PipeWriter) -> anyhow::Result<Child> {
        use std::os::fd::AsRawFd as _;
        let (lock, alive) = (lock.raw_fd(), alive.as_raw_fd());
        let birth = Birth {
            death_signal: weaken::on(Protection::WorkerDeathSignal).then_some(Signal::SIGTERM),
            block_cancel: true,
            keep_fd: Some(lock),
            keep_fd_too: Some(alive),
            keep_stdin: matches!(&self.plan.job, Job::Guard(job) if job.stdin),
            keep_claim: self.dir.claim_fd(),
            ..Birth::default()
        };
        let docker = self.plan.docker_host.clone().map(|host| ("DOCKER_HOST", Some(host)));
        let tags = self.plan.tag_vars().map(|(key, value)| (key, Some(value)));
        let changes = std::iter::once((PARENT_PID_VAR, None)).chain(docker).chain(tags);
        let env: Vec<Change> = changes.map(|(key, value)| (key.into(), value.map(OsString::from))).collect();
        let claim = self.dir.claim_fd();
        // A copy: the thread that waited for the lock has ended, so that nothing is lost with an exec but time.
        let dir = RunDir::open(self.dir.path().to_owned());
        Ok(fork_part("worker", &env, birth, || command::code(worker::main(&self.plan, &dir, lock, alive, claim)))?)
    }

    /// What a signal means now: a cause to end the run for, or nothing.
    fn hear(&mut self, received: ccci_core::lifetime::signals::Received) -> Option<Cause> {
        // Typed, it is for the guarded command, which has heard it too and may go on, as under a shell.
        let typed = received.by_kernel && matches!(received.signal, Signal::SIGINT | Signal::SIGQUIT);
        if typed && self.phase == Phase::Working && matches!(self.plan.job, Job::Guard(_)) {
            return None;
        }
        match self.ear.judge(received, self.phase) {
            Response::Cancel(cause) if self.facts.cause.is_none() || !weaken::on(Protection::SecondSignal) => {
                Some(self.told(cause))
            }
            Response::Cancel(_) | Response::Note => {
                if CANCEL.contains(&received.signal) {
                    self.console.say(&format!("== {} during teardown: noted, teardown goes on ==", received.signal));
                }
                None
            }
            Response::Children => None,
        }
    }

    /// The environment for our own parts: what we were given, less what concerns the keeper alone and
    /// less a tag of ours that a caller may have set.
    fn part_env(&self) -> impl Iterator<Item = (OsString, OsString)> + use<> {
        let ours = [PARENT_PID_VAR, tagged::RUN_ID_VAR, tagged::DOMAIN_VAR, tagged::LOCK_VAR];
        let docker = self.plan.docker_host.clone().map(|host| ("DOCKER_HOST".into(), host.into()));
        std::env::vars_os().filter(move |(key, _)| !ours.iter().any(|own| key == own)).chain(docker)
    }

    /// Tells where the run is, when it is time to. When it is time again.
    fn beat_if_due(&mut self, due: Deadline) -> Deadline {
        // A guard's command has stdout and stderr to itself.
        if let Job::Recipe(_) = self.plan.job
            && due.passed()
            && let Some(progress) = Progress::read(&self.dir)
        {
            self.console.beat(&progress.line(Timestamp::now(), &self.plan.expected));
        }
        if due.passed() { Deadline::after(self.console.pace()) } else { due }
    }
}

/// A run whose teardown is over, its lock still held.
pub(crate) struct Kept {
    pub(crate) lock: AppLock,
    pub(crate) facts: Facts,
    pub(crate) console: Console,
    _turns: (Option<Slot>, Option<Share>),
}

/// Gives up the lock of a run that never began. The record of a dead run stays: it tells the next
/// holder what there is to clean.
fn give_back(lock: AppLock) {
    if matches!(lock.read_owner(), Ok(None))
        && let Err(error) = lock.release()
    {
        tracing::warn!(%error, "the lock's file stays; the kernel frees the lock");
    }
}

/// `60-minute`, or the seconds where it is no whole number of minutes.
fn figure(deadline: Duration) -> String {
    match deadline.as_secs() {
        seconds if seconds > 0 && seconds % 60 == 0 && deadline.subsec_nanos() == 0 => {
            format!("{}-minute", seconds / 60)
        }
        _ => format!("{} ", duration::show(deadline)).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_said_with_its_real_figure() {
        assert_eq!(figure(Duration::from_secs(3600)), "60-minute");
        assert_eq!(figure(Duration::from_secs(2)), "2s");
    }
}
