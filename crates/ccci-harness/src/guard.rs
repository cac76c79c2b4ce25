//! `guard`: the same lock, keeper, clock and funnel for anybody's command.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ccci_core::lifetime::Cause;
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::signals::parent_gone;
use ccci_core::process::foreground::has_terminal;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::process::{Ended, Job as Process, ProcessError};
use ccci_core::rundir::unfinished::{DeadRun, Owed, dead_runs};
use ccci_core::rundir::{RunDir, file};
use ccci_core::teardown::{Receipt, Residue};
use ccci_core::weaken::{self, Protection};

use nix::unistd::Pid;

use crate::command::conclude::discard;
use crate::console::Console;
use crate::event::{Event, Stamped, WorkerEnd, report};
use crate::plan::{GuardJob, Plan};
use crate::reaper::{self, Mode};

/// The saved copy of a teardown script, in the run's directory: a CI deletes the workspace with the
/// script in it while the teardown is still to come.
const SAVED_TEARDOWN: &str = "teardown";
/// How often a teardown that fails is tried.
const TEARDOWN_TRIES: u32 = 3;

/// Saves the teardown if it is a script of the caller's.
///
/// # Errors
/// When it is one and cannot be copied.
pub(crate) fn save_teardown(job: &GuardJob, dir: &RunDir) -> anyhow::Result<()> {
    let script = job.teardown.as_ref().map(|command| job.dir.join(command)).filter(|path| path.is_file());
    let Some(path) = script.filter(|_| weaken::on(Protection::SavedTeardown)) else {
        return Ok(());
    };
    let saved = dir.join(SAVED_TEARDOWN);
    std::fs::copy(&path, &saved).with_context(|| format!("cannot save the teardown {}", path.display()))?;
    let executable = std::fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
    anyhow::ensure!(executable, "the teardown {} is not executable: chmod +x it", path.display());
    Ok(())
}

/// The worker of a guard: runs the command with the caller's own stdout and stderr.
pub(crate) fn work(plan: &Plan, job: &GuardJob, dir: &RunDir, console: &mut Console) -> WorkerEnd {
    report(dir, Event::Phase { name: "command".to_owned() });
    let Some((program, args)) = job.command.split_first() else {
        return WorkerEnd::Usage { message: "no command".to_owned() };
    };
    if !job.dir.is_dir() {
        return WorkerEnd::Usage {
            message: format!("{} is gone: it is where the command was to run", job.dir.display()),
        };
    }
    let process = Process::new(program).args(args).env(plan.tag_vars()).dir(&job.dir).timeout(Duration::MAX);
    let supervisor = Pid::from_raw(plan.keeper);
    // Where there is a terminal, it is the caller's group that a person types to, stops and continues.
    let group = if has_terminal() { nix::unistd::getpgid(Some(supervisor)).ok() } else { None };
    // Stopped, the supervisor would let its deadline pass.
    let resume = group.map(|_| (Deadline::after(plan.deadline), supervisor));
    match process.run_as_callers(job.stdin, group, resume) {
        Ok(ended) => {
            report(dir, Event::Command { status: status(ended), text: ended.to_string() });
            WorkerEnd::Finished
        }
        Err(error) if error.is_the_hosts() => WorkerEnd::Host { message: error.to_string() },
        Err(error) => {
            console.say(&format!("cc-ci-run: {error}"));
            report(dir, Event::Command { status: unstartable(&error), text: error.to_string() });
            WorkerEnd::Finished
        }
    }
}

/// What a shell says of a command that it cannot start.
fn unstartable(error: &ProcessError) -> u8 {
    let kind = match error {
        ProcessError::Start { source, .. } => source.kind(),
        ProcessError::Watch { .. } | ProcessError::Failed { .. } => io::ErrorKind::Other,
    };
    if kind == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Whether a guard's command was ended by a signal, and may have left the terminal as it liked it.
pub(crate) fn was_killed(dir: &RunDir) -> bool {
    how_it_ended(dir).1.is_none_or(|status| status > 128)
}

/// Who or what ended a guard early, and how its command ended, as far as was written down.
fn how_it_ended(dir: &RunDir) -> (Option<Cause>, Option<u8>) {
    let mut end = (None, None);
    // What cannot be read is what nobody wrote down: a teardown runs all the same.
    let Ok(events) = dir.lines::<Stamped>(file::EVENTS) else { return end };
    for Stamped { event, .. } in events.items {
        match event {
            Event::Cancelled { cause } => end.0 = end.0.or(Some(cause)),
            Event::Command { status, .. } => end.1 = Some(status),
            _ => {}
        }
    }
    end
}

/// What a teardown is told of how it came to it: `CCCI_CAUSE` and `CCCI_EXIT`.
fn told(plan: &Plan, saved_in: &Path) -> [(&'static str, String); 2] {
    let (cause, command) = how_it_ended(&RunDir::open(saved_in.to_owned()));
    let supervised = std::process::id().cast_signed() == plan.keeper || !parent_gone(Pid::from_raw(plan.keeper));
    let cause = cause.or_else(|| (!supervised).then_some(Cause::KeeperDied));
    let word = match (&cause, command) {
        (Some(cause), _) => {
            serde_json::to_value(cause).ok().and_then(|value| Some(value["cause"].as_str()?.to_owned()))
        }
        (None, Some(_)) => Some("ended".to_owned()),
        (None, None) => None,
    };
    let exit = cause.as_ref().map(Cause::exit_code).or(command).unwrap_or(exit::HOST);
    // What nobody wrote down was killed before it could.
    [("CCCI_CAUSE", word.unwrap_or_else(|| "killed".to_owned())), ("CCCI_EXIT", exit.to_string())]
}

/// A command's end as a shell would report it.
fn status(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Ended::TimedOut(_) => 124,
    }
}

/// The teardown of a guard: ends what still runs of it, then runs its teardown command.
pub(crate) fn tear_down(
    plan: &Plan,
    job: &GuardJob,
    dir: &RunDir,
    mode: Mode,
    tag: &Tag,
    (grace, until): (Duration, Deadline),
    console: &mut Console,
) -> Receipt {
    let mut receipt = Receipt { verified: true, ..Receipt::default() };
    let mut left = |what: &str, why: String| receipt.residue.push(Residue { what: what.to_owned(), why });
    match tagged::end_all(tag, grace) {
        Ok(ended) => receipt.processes = ended,
        Err(error) => left("processes of the guard", error.to_string()),
    }
    match mode {
        Mode::Teardown => {
            if let Some(command) = &job.teardown
                && let Err(error) = run_teardown(plan, job, command, dir.path(), until, console)
            {
                left("what the teardown was to remove", error);
            }
        }
        // A process that would not die still uses what the teardown removes.
        Mode::Preclean if receipt.residue.is_empty() => finish_dead(plan, dir, until, console, &mut receipt),
        Mode::Preclean => {}
    }
    receipt
}

/// Runs the teardowns of the earlier guards of this name that died before theirs, the oldest first, each with what it
/// had saved, not with this one's.
fn finish_dead(plan: &Plan, dir: &RunDir, until: Deadline, console: &mut Console, receipt: &mut Receipt) {
    let mut left = |what: String, why: String| receipt.residue.push(Residue { what, why });
    let dead = plan.lock_path().map_err(anyhow::Error::new).and_then(|at| {
        dead_runs(&plan.places.runs_dir, at.name(), Some(dir.path())).context("cannot tell which guards died")
    });
    let dead = match dead {
        Ok(dead) => dead,
        Err(error) => return left("earlier guards".to_owned(), format!("{error:#}")),
    };
    for run in dead {
        let what = format!("what the teardown of {} was to remove ({})", run.run_id(), run.dir().path().display());
        let finished = match run.claim() {
            // Somebody else has just finished it.
            Ok(None) => continue,
            Ok(Some(run)) => finish(plan, &run, until, console),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = finished {
            left(what, why);
        }
    }
}

fn finish(plan: &Plan, run: &DeadRun, until: Deadline, console: &mut Console) -> Result<(), String> {
    if run.owed() == Owed::Teardown {
        let earlier = Plan::read(run.dir()).map_err(|error| format!("{error:#}"))?;
        if let crate::plan::Job::Guard(job) = &earlier.job
            && let Some(command) = &job.teardown
        {
            console.say(&format!("== {} died before its teardown: running it ==", run.run_id()));
            run_teardown(plan, job, command, run.dir().path(), until, console)?;
            // Whatever happens next, it is not run again.
            let done = Receipt { verified: true, ..Receipt::default() };
            run.dir().write_json(file::RECEIPT, &done).map_err(|error| error.to_string())?;
        }
    }
    discard(run.dir());
    Ok(())
}

fn run_teardown(
    plan: &Plan,
    job: &GuardJob,
    command: &str,
    saved_in: &Path,
    until: Deadline,
    console: &mut Console,
) -> Result<(), String> {
    let saved = saved_in.join(SAVED_TEARDOWN);
    let workspace = job.dir.is_dir();
    let place = if workspace { job.dir.clone() } else { PathBuf::from("/") };
    let original = workspace && job.dir.join(command).is_file();
    let process = if saved.is_file() && !original {
        console.say(&format!("== {command} is gone with its workspace; running the copy that was saved =="));
        Process::new(&saved)
    } else {
        Process::new("/bin/sh").args(["-c", command])
    };
    let process = process.env(plan.tag_vars()).env(told(plan, saved_in)).dir(&place);
    let mut last = String::new();
    let mut tried = 0;
    while tried < TEARDOWN_TRIES {
        if tried > 0 && until.passed() {
            break;
        }
        match process.clone().timeout(reaper::left(until)).run_ok(&mut |line| console.say(line)) {
            Ok(_) => return Ok(()),
            // It was not even begun: as long as there is time, that is no try.
            Err(error) if error.is_the_hosts() && !until.passed() => {
                last = error.to_string();
                reaper::pause(until);
            }
            Err(error) => {
                last = error.to_string();
                tried += 1;
            }
        }
    }
    Err(last)
}
