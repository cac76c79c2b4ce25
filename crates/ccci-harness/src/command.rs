//! The commands, from arguments to exit code.

pub(crate) mod bridge;
pub(crate) mod conclude;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod reap;
pub(crate) mod report;
pub(crate) mod status;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ccci_core::config::Settings;
use ccci_core::lifetime::parent;
use ccci_core::lifetime::signals::Signals;
use ccci_core::process::{group, orphans};
use ccci_core::reason;
use ccci_core::rundir::{RunDir, file};
use ccci_core::visible;
use ccci_core::weaken::{self, Protection};

use crate::cli::{Guard, Run};
use crate::command::conclude::discard;
use crate::console::Console;
use crate::console::outlet::Outlet;
use crate::exit::{Failure, verdict_of};
pub(crate) use crate::exit::{Unable, Usage};
use crate::forge;
use crate::keeper::{Ear, Keeper, Kept, NotTaken};
use crate::plan::Job;
use crate::recipe::Folder;
use crate::request::{self, Request};
use crate::results::{self, Results};

/// How long the reader of `--json` may take nothing.
const READER: Duration = Duration::from_secs(60);

/// `cc-ci-run run`.
///
/// # Errors
/// Before the run had its lock; [`Failure`] says what that means.
pub(crate) fn run(run: Run, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let json = run.output.json;
    let (ear, request) = begin(|cwd| request::of_run(run, Settings::load(config)?, cwd))?;
    let (dir, request, mut console) = open(request)?;
    if let Job::Recipe(job) = &request.plan.job {
        console.say(&format!("== run {}: {} on {} ({}) ==", request.plan.run_id, job.recipe, job.domain, job.engine));
        console.say(&format!("== per-run ABRA_DIR: {} ==", dir.join("abra").display()));
    }
    if let Some(note) = request.plan.places.stand_in() {
        console.say(&format!("   {note}"));
    }
    let plan = request.plan.clone();
    let mut announcement = forge::announce(&plan, &dir);
    let (results, mut console) = match Keeper::new(ear, console, dir.clone(), request.plan).keep() {
        Ok(mut kept) => {
            let concluded = results::conclude(&plan, &dir, &kept.facts, &mut kept.console);
            if !weaken::on(Protection::ToldAfterRelease)
                && let Ok(results) = &concluded
            {
                forge::conclude(announcement.take(), &plan, results, &mut kept.console);
            }
            if concluded.is_ok() {
                leave_index(&dir);
            }
            // Also when the report cannot be written.
            let console = give_up(kept, &dir);
            (concluded?, console)
        }
        Err(not_taken) => not_started(&plan, &dir, &not_taken)?,
    };
    // Nothing hangs on it any more: the lock is free.
    forge::conclude(announcement, &plan, &results, &mut console);
    if json && let Err(error) = give_json(&results) {
        console.say(&format!("!! the result is in {} alone: {error:#}", dir.join(file::RESULTS).display()));
    }
    Ok(ExitCode::from(results.verdict.exit_code()))
}

/// `cc-ci-run guard`.
///
/// # Errors
/// Before the guard had its lock; [`Failure`] says what that means.
pub(crate) fn guard(guard: Guard, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (ear, request) = begin(|cwd| request::of_guard(guard, Settings::load(config)?, cwd))?;
    let (dir, request, mut console) = open(request)?;
    if let Some(note) = request.plan.places.stand_in() {
        console.say(&format!("   {note}"));
    }
    let Job::Guard(job) = request.plan.job.clone() else {
        return Err(anyhow::anyhow!("this is no guard's plan").context(Unable));
    };
    if let Err(error) = crate::guard::save_teardown(&job, &dir) {
        discard(&dir);
        return Err(error.context(Usage));
    }
    match Keeper::new(ear, console, dir.clone(), request.plan.clone()).keep() {
        Ok(mut kept) => {
            let result = results::guard::conclude(&request.plan, &job, &dir, &kept.facts, &mut kept.console)?;
            if !result.clean {
                if let Err(error) = result.write(&dir) {
                    kept.console.say(&format!("!! {error}"));
                }
                // Its directory leads the next guard to what this one left.
                give_up(kept, &dir);
                return Ok(ExitCode::from(result.exit_code));
            }
            discard(&dir);
            give_up(kept, &dir);
            Ok(ExitCode::from(result.exit_code))
        }
        Err(not_taken) => {
            discard(&dir);
            Err(not_taken.into())
        }
    }
}

/// The lock goes last: who gets it next finds a clean app and a finished report. Where a part of the
/// run may still be at work it is not given up here: it lasts until that part is gone too.
fn give_up(kept: Kept, dir: &RunDir) -> Console {
    if kept.facts.no_reaper {
        return kept.console;
    }
    dir.unclaim();
    if let Err(error) = kept.lock.release() {
        tracing::error!(%error, "the lock's file stays; the kernel frees the lock with this process");
    }
    kept.console
}

/// Guards first: signals, parent; then the request, with the caller's directory.
fn begin(request: impl FnOnce(&Path) -> anyhow::Result<Request>) -> anyhow::Result<(Ear, Request)> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let cwd = request::caller_dir()?;
    let parent = parent::arm()?;
    group::leave_anothers();
    orphans::adopt().context("cannot adopt orphans")?;
    spare_the_keeper();
    let request = request(&cwd)
        .map_err(|error| if Failure::of(&error) == Failure::Ours { error.context(Usage) } else { error })?;
    Ok((Ear::new(signals, parent).context("cannot make a timer")?, request))
}

/// Where it may, the guardian asks to be killed last when memory runs out.
fn spare_the_keeper() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-500") {
        tracing::debug!(%error, "the keeper's oom_score_adj stays");
    }
}

/// The run's own directory, with its plan in it. Nothing shared is touched before the lock.
fn open(mut request: Request) -> anyhow::Result<(RunDir, Request, Console)> {
    let (dir, id) = RunDir::create(&request.plan.places.runs_dir, &request.id)?;
    request.plan.run_id = id.to_string();
    // What the run leaves is found by this, also after a power cut.
    let write = || -> anyhow::Result<()> {
        dir.enter(&request.plan.lock)?;
        if request.plan.outlasts_the_host() {
            dir.write_json(file::RUN, &request.plan)?;
            dir.sync()?;
            dir.sync_entry()?;
        } else {
            dir.put_json(file::RUN, &request.plan)?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        discard(&dir);
        return Err(error);
    }
    let console = Console::of(&request.plan, &dir);
    Ok((dir, request, console))
}

/// The run ended before it began: its result says why.
fn not_started(plan: &crate::plan::Plan, dir: &RunDir, why: &NotTaken) -> anyhow::Result<(Results, Console)> {
    let mut console = Console::of(plan, dir);
    let verdict = verdict_of(why);
    let cause = match why {
        NotTaken::Cancelled(cause) => Some(cause.clone()),
        _ => None,
    };
    let results = results::without_lock(plan, dir, verdict, cause, &why.to_string(), &mut console)?;
    leave_index(dir);
    Ok((results, console))
}

/// `cc-ci-run config check`.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn config_check(path: &Path) -> anyhow::Result<ExitCode> {
    if path.is_dir() {
        expect_test_folder(path).map_err(|error| error.context(Usage))?;
        let copy = tempfile::tempdir().context("cannot make a temporary folder")?;
        Folder::snapshot(path, &copy.path().join("tests")).map_err(|error| error.context(Usage))?;
    } else {
        Settings::read(path)?;
    }
    say(&format!("{}: ok", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The folder that holds the test folders has nothing to judge, and would pass.
fn expect_test_folder(path: &Path) -> anyhow::Result<()> {
    let is_one = |dir: &Path| dir.join("recipe.toml").is_file();
    if is_one(path) {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    match entries.flatten().map(|entry| entry.path()).find(|dir| is_one(dir)) {
        Some(one) => {
            anyhow::bail!("{} is a folder of test folders: name one, such as {}", path.display(), one.display())
        }
        None => Ok(()),
    }
}

/// `cc-ci-run generate`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn generate(what: &ccci_manual::Generate) -> anyhow::Result<ExitCode> {
    what.write(<crate::cli::Cli as clap::CommandFactory>::command())?;
    Ok(ExitCode::SUCCESS)
}

/// The exit code of what a part of this program did; an error is said on stderr, and a closed stderr is no reason to
/// fail differently.
pub(crate) fn code(done: anyhow::Result<u8>) -> u8 {
    done.unwrap_or_else(|error| {
        Outlet::of(true).show(&format!("cc-ci-run: {}\n", visible::text(&words(&error))));
        Failure::of(&error).exit_code()
    })
}

/// The error for a person. Whose it is shows in the exit code.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let marked = error.is::<Usage>() || error.is::<Unable>();
    match error.chain().nth(usize::from(marked)) {
        Some(error) => reason::of(error),
        None => error.to_string(),
    }
}

/// The run is concluded. An entry that stays costs the janitor a look.
fn leave_index(dir: &RunDir) {
    if let Err(error) = dir.leave_index() {
        tracing::warn!(%error, "the run stays in the index of unfinished runs");
    }
}

/// This host's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Data on stdout.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever closed it has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The result on stdout, for a reader who may be slow, and who does not hold the run up who reads nothing at all.
fn give_json(results: &Results) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)? + "\n";
    Ok(Outlet::of(false).give(text.as_bytes(), READER)?)
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?)
}
