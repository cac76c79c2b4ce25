//! The worker: does everything risky, and ends by becoming the reaper.
//!
//! It is a copy of the keeper (`ccci_core::lifetime::fork`). SIGTERM (from the keeper, or from the kernel when the
//! keeper dies) makes it replace itself by the reaper at once, wherever it is; its ordinary end makes it the reaper
//! too, a recipe's by the same exec and a guard's by going on as one. The reaper begins by ending what the worker had
//! started.

pub(crate) mod dependencies;
pub(crate) mod kept;
mod leaks;
mod lint;
pub(crate) mod pipeline;
mod screenshot;
pub(crate) mod stage;
pub(crate) mod suite;

use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Context;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::exec::{adopt_fd, succeed, succeed_on_signal};
use ccci_core::lifetime::signals;
use ccci_core::lock::AppLock;
use ccci_core::process::{group, orphans, tagged};
use ccci_core::rundir::RunDir;
use ccci_core::weaken::{self, Protection};

use crate::console::Console;
use crate::event::{self, Event, WorkerEnd, report};
use crate::guard;
use crate::plan::{Job, Plan, RecipeJob};
use crate::reaper::{self, Mode};
use dependencies::Dependencies;

/// A disk that is full at the end is waited for so long.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Runs as the worker, and then as the reaper. Its exit code; other than the reaper's, it could not become one, and
/// the keeper starts one.
///
/// # Errors
/// Before the work could begin, or the teardown.
pub(crate) fn main(plan: &Plan, dir: &RunDir, lock: RawFd, alive: RawFd, claim: Option<RawFd>) -> anyhow::Result<u8> {
    reaper::name_process("ccci-worker");
    // What loses its parent stays below the part that started it.
    orphans::adopt().context("cannot adopt orphans")?;
    event::begin_numbers();
    let fd = adopt_fd(lock).with_context(|| format!("fd {lock} is not the lock's"))?;
    // Closed where this becomes the reaper, and by the exec that makes it one: that is how the keeper knows.
    let alive = adopt_fd(alive).with_context(|| format!("fd {alive} is not the keeper's pipe"))?;
    let dir = &reaper::shared_dir(dir.path().to_owned(), claim)?;
    let args = std::iter::once("cc-ci-run".to_owned())
        .chain(reaper::args(dir, lock, Mode::Teardown, None))
        .collect::<Vec<_>>();
    // The reaper does not carry the run's tag: it would end itself.
    let ours = [tagged::RUN_ID_VAR, tagged::DOMAIN_VAR, tagged::LOCK_VAR];
    let env = std::env::vars_os().filter(|(key, _)| !ours.iter().any(|own| key == own));
    if weaken::on(Protection::BecomeReaper) {
        succeed_on_signal(args.iter().map(String::as_str), env, [Some(lock), dir.claim_fd()])?;
    } else {
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
    }
    // Held until the end of the teardown, or the exec: the reaper goes on with the same fd.
    let lock = AppLock::adopt(plan.lock_path()?, fd)?;
    let _where_it_can_be_made = group::make(&plan.lock_mark(), &plan.settings.limits);
    work(plan, dir, &lock);
    if !weaken::on(Protection::BecomeReaper) {
        return Ok(0);
    }
    match &plan.job {
        // Pulls, tests and the network may have left anything in this process: nothing of it goes on.
        Job::Recipe(_) => Err(succeed()).context("cannot become the reaper"),
        // It has waited for a command and nothing else, and is as good a reaper as a fresh one.
        Job::Guard(_) => {
            signals::cancel_set().thread_block()?;
            drop(alive);
            reaper::reap(plan, dir, lock, Mode::Teardown, Deadline::after(plan.settings.teardown_budget))
        }
    }
}

fn work(plan: &Plan, dir: &RunDir, lock: &AppLock) {
    let mut console = Console::of(plan, dir);
    // A bug of ours must still end in a teardown and in an honest report.
    let mut dependencies = Dependencies::default();
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| match &plan.job {
        Job::Recipe(job) => pipeline::run(plan, job, dir, lock, &mut dependencies, &mut console),
        Job::Guard(job) => guard::work(plan, job, dir, &mut console),
    }));
    let end = done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        WorkerEnd::Host { message: format!("the harness itself failed: {}", text.unwrap_or("panic")) }
    });
    let finished = end == WorkerEnd::Finished;
    report(dir, Event::Done { end });
    // What is not on the disk when this becomes the reaper is lost.
    event::settle(LAST_WORD);
    if let Job::Recipe(RecipeJob { keep: Some(keep), .. }) = &plan.job
        && finished
    {
        pipeline::keep_up(plan, *keep, dir, lock, &mut console);
    }
    // Their locks end here, or where a signal made this process the reaper.
    drop(dependencies);
}
