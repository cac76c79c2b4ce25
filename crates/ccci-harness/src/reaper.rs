//! The reaper: takes the app down under the lock, and writes the receipt.
//!
//! It starts in one of three ways: the worker became it, the keeper started it because the worker died,
//! or the keeper sent it ahead to clear what an earlier run left. The cancelling signals are blocked
//! from its first instruction on, so that nothing but its budget ends it. When the keeper is gone it also
//! does what the keeper would have done last: results, unlink, unlock.

mod dependencies;

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ccci_core::lifetime::Cause;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::exec::adopt_fd;
use ccci_core::lifetime::shield;
use ccci_core::lifetime::signals::parent_gone;
use ccci_core::lock::{AppLock, LockError};
use ccci_core::process::orphans;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::unfinished::dead_runs;
use ccci_core::rundir::{RunDir, RunDirError, file};
use ccci_core::teardown::{Receipt, Removed, Residue, Teardown, take_down};
use ccci_core::weaken::{self, Protection};
use nix::unistd::Pid;

use crate::console::Console;
use crate::engine;
use crate::event::{Event, report};
use crate::forge;
use crate::guard;
use crate::keeper::Facts;
use crate::plan::{Job, Plan};
use crate::results;

/// Nothing is left.
pub(crate) const CLEAN: i32 = 0;
/// Something is left; the receipt names it. No code that an error or a panic exits with.
pub(crate) const RESIDUE: i32 = 3;

/// What is begun when the budget is nearly over gets this long all the same: one try.
const LEAST: Duration = Duration::from_secs(1);
/// Who holds a dependency's lock is waited for a share of the budget only: the app itself comes first.
const DEPENDENCY_SHARE: u32 = 10;

/// What is left of a reaper's time for its next piece of work.
pub(crate) fn left(until: Deadline) -> Duration {
    until.left().max(LEAST)
}

/// A pause before the host is asked again for what it has too little of; nothing announces that it has more.
pub(crate) fn pause(until: Deadline) {
    #[expect(clippy::disallowed_methods, reason = "the retry's pause, with the cancelling signals blocked")]
    std::thread::sleep(LEAST.min(until.left()));
}

/// What a reaper is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The end of this run.
    Teardown,
    /// What earlier runs of the same name left, before this run begins.
    Preclean,
}

/// The arguments that make this program a reaper: one that has to be done `within` what others left of the
/// teardown's budget, or has all of it.
pub(crate) fn args(dir: &RunDir, lock: RawFd, mode: Mode, within: Option<Duration>) -> Vec<String> {
    let mut args = vec!["reaper".to_owned(), dir.path().display().to_string(), lock.to_string()];
    if let Some(claim) = dir.claim_fd() {
        args.extend(["--claim".to_owned(), claim.to_string()]);
    }
    if let Some(within) = within {
        args.extend(["--within".to_owned(), within.as_millis().to_string()]);
    }
    if mode == Mode::Preclean {
        args.push("--preclean".to_owned());
    }
    args
}

/// The run's directory for a part of the run, with the share of its claim that was handed down as `claim`.
///
/// # Errors
/// When that is no fd of this process.
pub(crate) fn shared_dir(path: PathBuf, claim: Option<RawFd>) -> anyhow::Result<RunDir> {
    let Some(claim) = claim else { return Ok(RunDir::open(path)) };
    let fd = adopt_fd(claim).with_context(|| format!("fd {claim} is not the claim on the run's directory"))?;
    Ok(RunDir::adopt(path, fd))
}

/// Runs as the reaper.
///
/// # Errors
/// Before the teardown could begin; the keeper then starts another.
pub(crate) fn main(dir: &RunDir, lock: RawFd, mode: Mode, within: Option<Duration>) -> anyhow::Result<u8> {
    shield::raise().context("cannot ignore signals")?;
    orphans::adopt().context("cannot adopt orphans")?;
    let fd = adopt_fd(lock).with_context(|| format!("fd {lock} is not the lock's"))?;
    let plan = Plan::read(dir)?;
    plan.programs.clone().know();
    let lock = AppLock::adopt(plan.lock_path()?, fd)?;
    let budget = within.unwrap_or(plan.settings.teardown_budget);
    reap(&plan, dir, lock, mode, Deadline::after(budget))
}

/// The reaper's work, under the lock that was handed down, to be done by `until`. The cancelling signals are
/// blocked.
///
/// # Errors
/// As [`main`].
pub(crate) fn reap(plan: &Plan, dir: &RunDir, lock: AppLock, mode: Mode, until: Deadline) -> anyhow::Result<u8> {
    name_process("ccci-reaper");
    let mut console = Console::of(plan, dir);
    let handed_down = lock.raw_fd();
    let receipt_file = match mode {
        Mode::Teardown => file::RECEIPT,
        Mode::Preclean => file::PRECLEAN,
    };
    if mode == Mode::Teardown {
        report(dir, Event::Phase { name: "teardown".to_owned() });
        console.say("== teardown ==");
    }
    let (receipt, lock) = match lock.regain() {
        Ok(lock) => (under_the_lock(plan, dir, &lock, mode, until, &mut console), Some(lock)),
        Err(error @ LockError::Lost { .. }) => (lost(plan, &error), None),
        Err(other) => return Err(other.into()),
    };
    for residue in &receipt.residue {
        console.say(&format!("!! left over: {}: {}", residue.what, residue.why));
    }
    // Another reaper could not write it either; how this one ended says whether anything is left.
    let written = if plan.outlasts_the_host() {
        // Whoever finds the directory knows by it whether a teardown is still to come.
        dir.insist(|dir| dir.write_json(receipt_file, &receipt))
    } else {
        // For its supervisor alone: a clean guard's directory goes with it.
        dir.insist(|dir| dir.put_json(receipt_file, &receipt))
    };
    if let Err(error) = written {
        console.say(&format!("!! there is no receipt: {error}"));
    }
    // The supervisor itself, where no reaper could be started, has nobody to go on for.
    let supervisor = i32::try_from(std::process::id()).is_ok_and(|own| own == plan.keeper);
    if !supervisor && parent_gone(Pid::from_raw(plan.keeper)) {
        orphaned(plan, dir, lock, receipt.is_clean(), &mut console)?;
    } else if let Some(regained) = lock.filter(|lock| lock.raw_fd() != handed_down) {
        // The keeper's share is of the file that somebody removed: this one is ours alone to give up.
        regained.release()?;
    }
    Ok(if receipt.is_clean() { CLEAN as u8 } else { RESIDUE as u8 })
}

fn under_the_lock(
    plan: &Plan,
    dir: &RunDir,
    lock: &AppLock,
    mode: Mode,
    until: Deadline,
    console: &mut Console,
) -> Receipt {
    if mode == Mode::Teardown
        && let Err(error) = lock.write_phase("teardown")
    {
        tracing::warn!(%error, "the owner record is out of date");
    }
    let (tag, grace) = match mode {
        Mode::Teardown => (plan.tag(), plan.settings.grace),
        // Nobody owns them any more: no grace.
        Mode::Preclean => (Tag::Lock(plan.lock_mark()), Duration::ZERO),
    };
    match (&plan.job, plan.domain()) {
        (Job::Recipe(job), Some(domain)) => {
            let teardown = mode == Mode::Teardown;
            let mut journal = |removed: &Removed| {
                if teardown && let Err(error) = dir.append(file::REMOVED, removed) {
                    tracing::warn!(%error, "a removal is missing from the journal");
                }
            };
            let substrates = engine::substrate(job.engine, &plan.places);
            // Its dependencies' locks first, so that nobody reaps one under the app that uses it.
            let mut unread = Vec::new();
            let mut note = |what: &str, error: &RunDirError| unread.push(dependencies::unread(what, error));
            let share = until.left() / DEPENDENCY_SHARE;
            let dependencies = if teardown { dependencies::taken(plan, dir, share) } else { Ok(Vec::new()) };
            let dependencies = dependencies.unwrap_or_else(|error| {
                note("the apps that this one needed", &error);
                Vec::new()
            });
            // What exists is found all the same.
            let planned = if teardown { dir.planned() } else { Ok(Vec::new()) };
            let planned = planned.unwrap_or_else(|error| {
                note("what only the record of what was planned names", &error);
                Vec::new()
            });
            let own = Teardown {
                lock,
                substrates: &substrates,
                domain: &domain,
                planned: &planned,
                tag: &tag,
                grace,
                budget: left(until),
            };
            let mut receipt = take_down(&own, &mut journal);
            receipt.residue.extend(unread);
            for dependency in dependencies {
                let next = Teardown { budget: left(until), ..own };
                dependency.take_down(&next, dir, &mut receipt, &mut journal);
            }
            if teardown && let Ok(removed) = dir.lines::<Removed>(file::REMOVED) {
                // A reaper before this one may have died half-way: what it removed is on the receipt too.
                let removed = removed.items;
                let before = removed.len().saturating_sub(receipt.removed.len());
                receipt.removed.splice(..0, removed.into_iter().take(before));
            }
            if !teardown {
                conclude_dead(plan, dir, lock, &receipt);
            }
            receipt
        }
        (Job::Guard(job), _) => guard::tear_down(plan, job, dir, mode, &tag, (grace, until), console),
        (Job::Recipe(job), None) => residue(&job.domain, "is not a domain of this host"),
    }
}

/// Concludes the earlier runs of this name that died without a result. The forge hears of this run instead of them.
/// What cannot be concluded now is the janitor's.
fn conclude_dead(plan: &Plan, dir: &RunDir, lock: &AppLock, reaped: &Receipt) {
    if !weaken::on(Protection::ConcludeDead) {
        return;
    }
    let conclude = || -> anyhow::Result<()> {
        for dead in dead_runs(&plan.places.runs_dir, lock.at().name(), Some(dir.path()))? {
            if let Some(dead) = dead.claim()? {
                let earlier = Plan::read(dead.dir())?;
                results::of_dead(&earlier, dead.dir(), Some(reaped), &mut Console::in_log(&earlier, dead.dir()))?;
            }
        }
        Ok(())
    };
    if let Err(error) = conclude() {
        tracing::warn!(error = format!("{error:#}"), "an earlier run is not concluded yet");
    }
}

/// Another run owns the app by now, and reaps what it finds: nothing may be touched.
fn lost(plan: &Plan, error: &LockError) -> Receipt {
    // Our own processes are still ours to end.
    let mut receipt = residue(&plan.subject(), &error.to_string());
    match tagged::end_all(&plan.tag(), plan.settings.grace) {
        Ok(ended) => receipt.processes = ended,
        Err(error) => receipt.residue.push(Residue { what: "processes of the run".to_owned(), why: error.to_string() }),
    }
    receipt
}

fn residue(what: &str, why: &str) -> Receipt {
    Receipt { residue: vec![Residue { what: what.to_owned(), why: why.to_owned() }], ..Receipt::default() }
}

/// The keeper was killed: conclude the run in its place.
fn orphaned(
    plan: &Plan,
    dir: &RunDir,
    lock: Option<AppLock>,
    clean: bool,
    console: &mut Console,
) -> anyhow::Result<()> {
    console.say("== the keeper is gone: the reaper concludes the run ==");
    let facts = Facts { cause: Some(Cause::KeeperDied), worked: true, ..Facts::default() };
    report(dir, Event::Cancelled { cause: Cause::KeeperDied });
    let concluded = match &plan.job {
        Job::Recipe(_) => results::conclude(plan, dir, &facts, console).map(Some),
        Job::Guard(job) => results::guard::conclude(plan, job, dir, &facts, console)
            .and_then(|result| result.write(dir))
            .map(|()| None),
    };
    let marked = if clean { dir.insist(|dir| dir.mark(file::CLEAN)) } else { Ok(()) };
    // A guard that left something stays in the index: the next one of the name runs its teardown.
    if concluded.is_ok()
        && marked.is_ok()
        && (clean || matches!(plan.job, Job::Recipe(_)))
        && let Err(error) = dir.leave_index()
    {
        tracing::warn!(%error, "the janitor concludes the run once more");
    }
    dir.unclaim();
    let released = lock.map_or(Ok(()), AppLock::release);
    if let Ok(Some(results)) = &concluded {
        // What the keeper had begun to tell ended with it.
        forge::conclude(None, plan, results, console);
    }
    // A report that cannot be written (full disk) is no reason to keep the lock.
    released?;
    marked?;
    concluded.map(drop)
}

/// The name in a process list; an exec of `/proc/self/exe` would leave `exe` there.
pub(crate) fn name_process(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name)
        && let Err(error) = nix::sys::prctl::set_name(&name)
    {
        tracing::debug!(%error, "the process keeps its name");
    }
}
