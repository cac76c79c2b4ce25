//! `cc-ci-run conclude DIR`: the end of a run that died before it had a result. The janitor starts it; it is no part of
//! the janitor, because what a run came to, and how a forge is told, is known here alone.

use std::process::ExitCode;

use anyhow::Context as _;
use ccci_core::lifetime::cause::exit;
use ccci_core::rundir::RunDir;
use ccci_core::rundir::unfinished::{self, DeadRun, Owed};

use crate::console::Console;
use crate::forge;
use crate::plan::Plan;
use crate::results;

/// Concludes the run, if it is dead and somebody else has not: under the claim on its directory.
///
/// # Errors
/// When it cannot be told what became of it, or that cannot be written.
pub(crate) fn main(dir: &RunDir) -> anyhow::Result<ExitCode> {
    let unreadable = || format!("cannot conclude the run of {}", dir.path().display());
    let Some(dead) = DeadRun::of(dir.path()).with_context(unreadable)? else { return Ok(ExitCode::SUCCESS) };
    let Some(dead) = dead.claim().with_context(unreadable)? else { return Ok(ExitCode::SUCCESS) };
    if dead.owed() != Owed::Conclusion {
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::read(dead.dir())?;
    let mut console = Console::in_log(&plan, dead.dir());
    let results = results::of_dead(&plan, dead.dir(), None, &mut console)?;
    dead.dir().unclaim();
    // A newer run of the name tells its own end: what this one says must not come after it.
    if let Some(results) = results
        && !newer_run(&plan)?
    {
        forge::conclude(None, &plan, &results, &mut console);
    }
    Ok(ExitCode::from(exit::GREEN))
}

/// Whether a run of the same name was asked for later, be it alive or over.
fn newer_run(plan: &Plan) -> anyhow::Result<bool> {
    let runs_dir = &plan.places.runs_dir;
    let open = ccci_core::rundir::open::entries(runs_dir).context("cannot read the index of unfinished runs")?;
    let waits = open.iter().filter(|entry| entry.lock == plan.lock).any(|entry| {
        // One that is gone by now has told its end.
        Plan::read(&RunDir::open(entry.dir.clone())).is_ok_and(|other| other.started > plan.started)
    });
    let over = || {
        let ended = crate::history::runs(runs_dir)?;
        std::io::Result::Ok(ended.take_while(|past| past.results.finished > plan.started).any(|past| {
            past.results.domain == plan.subject()
                && past.results.started > plan.started
                && past.results.run_id != plan.run_id
        }))
    };
    Ok(waits || over().context("cannot read the results of other runs")?)
}

/// Removes the directory of a dead run of which nothing is owed any more. What cannot be removed is the janitor's.
pub(crate) fn discard(dir: &RunDir) {
    if let Err(error) = unfinished::remove(dir) {
        tracing::warn!(%error, dir = %dir.path().display(), "the run directory stays");
    }
}
