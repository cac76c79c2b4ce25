//! The runs that died before they were concluded, found by their directories.
//!
//! A lock file is on a tmpfs and anybody may remove it; what a run was and how far it came is in its directory. A run is
//! dead when nobody claims its directory ([`claim`](super::claim)), and unfinished until it has a result; a guard, until
//! its teardown was done. The next owner of the name, or the janitor, finishes it, under the claim.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;

use super::claim::is_claimed;
use super::open::{self, Entry};
use super::{RunDir, file};
use crate::lifetime::clock::Deadline;
use crate::name::LockName;
use crate::process::wait_ready;

/// The longest that somebody may be finishing, or removing, what we want to finish; and how often it is asked.
const FINISHED: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// As much of `run.json` as says what a dead run leaves to do.
#[derive(Debug, Clone, Deserialize)]
struct Plan {
    run_id: String,
    lock: String,
    started: Timestamp,
    job: Kind,
    #[serde(default)]
    recipe: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    teardown: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Recipe,
    Guard,
}

/// As much of an event as says what kind it is.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
}

/// As much of a receipt as says whether anything is left.
#[derive(Debug, Deserialize)]
struct Receipt {
    residue: Vec<serde::de::IgnoredAny>,
    verified: bool,
}

/// What is left to do for a dead run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// A guard's teardown; the next guard of the name runs it.
    Teardown,
    /// A recipe's result, or a guard's end: nothing of it needs rights or an environment.
    Conclusion,
    /// Nothing: its entry is stale.
    Nothing,
}

/// A run that nobody claims, and that is not concluded.
#[derive(Debug, Clone)]
pub struct DeadRun {
    dir: RunDir,
    plan: Plan,
    owed: Owed,
}

impl PartialEq for DeadRun {
    fn eq(&self, other: &Self) -> bool {
        self.dir.path() == other.dir.path()
    }
}

impl Eq for DeadRun {}

impl DeadRun {
    /// The run whose directory this is; `None` while any part of it is alive, when it is gone, when it died before it
    /// could say what it was, and when nothing is owed.
    ///
    /// # Errors
    /// When its directory, or a record in it, cannot be read.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        if is_claimed(path)? {
            return Ok(None);
        }
        let dir = RunDir::open(path.to_owned());
        let Some(plan) = plan_of(&dir)? else { return Ok(None) };
        let owed = owed(&dir, &plan)?;
        Ok((owed != Owed::Nothing).then_some(Self { dir, plan, owed }))
    }

    /// Its directory.
    #[must_use]
    pub const fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Its id.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.plan.run_id
    }

    /// The name of its lock file.
    #[must_use]
    pub fn lock(&self) -> &str {
        &self.plan.lock
    }

    /// The recipe, or a guard's command, shortened.
    #[must_use]
    pub fn what(&self) -> String {
        let command = || self.plan.command.join(" ");
        crate::lock::owner::shorten(&self.plan.recipe.clone().unwrap_or_else(command))
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        self.plan.started
    }

    /// When it was last heard of.
    #[must_use]
    pub fn last_heard_of(&self) -> Timestamp {
        let events = self.dir.join(file::EVENTS).metadata().and_then(|meta| meta.modified());
        // A run that died before its first event was last heard of when it began.
        events.ok().and_then(|time: SystemTime| Timestamp::try_from(time).ok()).unwrap_or(self.plan.started)
    }

    /// What is left to do.
    #[must_use]
    pub const fn owed(&self) -> Owed {
        self.owed
    }

    /// Claims it, to finish it, until what is returned is dropped; `None` when somebody else has finished it.
    ///
    /// # Errors
    /// When its directory, or a record in it, cannot be read, or somebody else keeps the claim.
    pub fn claim(&self) -> io::Result<Option<Self>> {
        let Some(dir) = claimed(self.dir.path(), FINISHED)? else { return Ok(None) };
        // Looked at again: it may have been finished since.
        let Some(plan) = plan_of(&dir)? else { return Ok(None) };
        let owed = owed(&dir, &plan)?;
        Ok((owed != Owed::Nothing).then_some(Self { dir, plan, owed }))
    }
}

/// A run's directory with a claim on it; `None` when it is gone.
fn claimed(path: &Path, within: Duration) -> io::Result<Option<RunDir>> {
    let opened = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let limit = Deadline::after(within);
    loop {
        match fs2::FileExt::try_lock_exclusive(&opened) {
            Ok(()) => return Ok(Some(RunDir { path: path.to_owned(), claim: Some(Arc::new(opened)) })),
            // Somebody who only looks has it for an instant.
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() && !limit.passed() => {
                wait_ready(&mut [], Some(ASK_AGAIN))?;
            }
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                return Err(io::Error::other(format!("{} is claimed by somebody else", path.display())));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Puts a directory right that the index names and of which nothing is owed: one whose run died before it could say
/// what it was, or that is half removed, goes; of any other only the entry does. One that is claimed is left alone.
///
/// # Errors
/// When it cannot be read or removed.
pub fn tidy(path: &Path) -> io::Result<()> {
    if is_claimed(path)? {
        return Ok(());
    }
    let Some(dir) = claimed(path, Duration::ZERO)? else {
        return RunDir::open(path.to_owned()).leave_index();
    };
    match plan_of(&dir)? {
        None => remove(&dir),
        Some(plan) if owed(&dir, &plan)? == Owed::Nothing => {
            dir.clear_temporary().map_err(io::Error::other)?;
            dir.leave_index()
        }
        Some(_) => Ok(()),
    }
}

/// The plan. One of which a power cut left no byte was not waited for until it was on the disk: that of a guard
/// without a teardown.
fn plan_of(dir: &RunDir) -> io::Result<Option<Plan>> {
    match dir.read_json(file::RUN) {
        Err(_) if std::fs::read(dir.join(file::RUN))?.iter().all(|byte| *byte == 0) => Ok(None),
        other => other.map_err(io::Error::other),
    }
}

fn owed(dir: &RunDir, plan: &Plan) -> io::Result<Owed> {
    if plan.job == Kind::Recipe {
        return Ok(if exists(dir, file::RESULTS)? { Owed::Nothing } else { Owed::Conclusion });
    }
    if exists(dir, file::CLEAN)? {
        return Ok(Owed::Nothing);
    }
    if plan.teardown.is_none() {
        return Ok(Owed::Conclusion);
    }
    let events = dir.lines::<Event>(file::EVENTS).map_err(io::Error::other)?;
    // An earlier version says no more than that a phase began.
    let begun = events.items.iter().any(|line| line.event == "begun" || line.event == "phase");
    Ok(if begun && !torn_down(dir) { Owed::Teardown } else { Owed::Conclusion })
}

/// Whether a guard's teardown was done. A receipt that a power cut made unreadable proves nothing: better once more.
fn torn_down(dir: &RunDir) -> bool {
    matches!(dir.read_json::<Receipt>(file::RECEIPT), Ok(Some(receipt)) if receipt.residue.is_empty() && receipt.verified)
}

fn exists(dir: &RunDir, name: &str) -> io::Result<bool> {
    dir.join(name).try_exists()
}

/// Removes a run's directory, with its entry in the index. The plan goes first: half of a directory whose plan is
/// there would tell of a teardown that is still to come.
///
/// # Errors
/// What the kernel says; what is left has no plan, and the janitor removes it.
pub fn remove(dir: &RunDir) -> io::Result<()> {
    match std::fs::remove_file(dir.join(file::RUN)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::remove_dir_all(dir.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    dir.leave_index()
}

/// The dead runs of a name that are not concluded, but for `own`, the one that began first first.
///
/// # Errors
/// When the index, or a directory that it names, cannot be read.
pub fn dead_runs(runs_dir: &Path, name: &LockName, own: Option<&Path>) -> io::Result<Vec<DeadRun>> {
    let name = name.file_name();
    let mut dead = Vec::new();
    for Entry { dir, lock } in open::entries(runs_dir)? {
        if lock == name && own != Some(&dir) {
            dead.extend(DeadRun::of(&dir)?);
        }
    }
    dead.sort_by_key(DeadRun::started);
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{GuardName, RunId};

    fn guard(runs: &Path, id: &str, teardown: Option<&str>) -> RunDir {
        let (dir, _) = RunDir::create(runs, &RunId::new(id).unwrap()).unwrap();
        dir.enter(&name().file_name()).unwrap();
        let plan = serde_json::json!({
            "run_id": id, "lock": name().file_name(), "started": "2026-01-01T00:00:00Z", "job": "guard", "command": ["true"], "teardown": teardown,
        });
        dir.write_json(file::RUN, &plan).unwrap();
        dir
    }

    fn name() -> LockName {
        LockName::Guard(GuardName::new("db").unwrap())
    }

    fn only(runs: &Path) -> Option<(String, Owed)> {
        let dead = dead_runs(runs, &name(), None).unwrap();
        assert!(dead.len() <= 1, "{dead:?}");
        dead.first().map(|run| (run.run_id().to_owned(), run.owed()))
    }

    #[test]
    fn a_guard_owes_its_teardown_from_its_begin_to_its_clean_receipt() {
        let runs = tempfile::tempdir().unwrap();
        let dir = guard(runs.path(), "7", Some("down"));
        assert_eq!(only(runs.path()), None, "it is alive");
        dir.unclaim();
        assert_eq!(only(runs.path()), Some(("7".to_owned(), Owed::Conclusion)), "it never began");
        dir.append(file::EVENTS, &serde_json::json!({"event": "begun"})).unwrap();
        assert_eq!(only(runs.path()), Some(("7".to_owned(), Owed::Teardown)));
        dir.write(file::RECEIPT, b"{\"resi").unwrap();
        assert_eq!(only(runs.path()), Some(("7".to_owned(), Owed::Teardown)), "an unreadable receipt proves nothing");
        dir.write_json(file::RECEIPT, &serde_json::json!({"residue": [{}], "verified": true})).unwrap();
        assert_eq!(only(runs.path()), Some(("7".to_owned(), Owed::Teardown)), "it failed");
        dir.write_json(file::RECEIPT, &serde_json::json!({"residue": [], "verified": true})).unwrap();
        assert_eq!(only(runs.path()), Some(("7".to_owned(), Owed::Conclusion)));
        dir.mark(file::CLEAN).unwrap();
        assert_eq!(only(runs.path()), None);
    }

    #[test]
    fn one_claims_a_dead_run_and_what_cannot_be_read_is_an_error() {
        let runs = tempfile::tempdir().unwrap();
        let dir = guard(runs.path(), "7", None);
        let other = LockName::Guard(GuardName::new("web").unwrap());
        dir.unclaim();
        assert!(dead_runs(runs.path(), &other, None).unwrap().is_empty());
        let dead = dead_runs(runs.path(), &name(), None).unwrap().pop().unwrap();
        let claimed = dead.claim().unwrap().unwrap();
        assert!(super::claimed(dir.path(), Duration::ZERO).is_err(), "somebody finishes it");
        assert_eq!(only(runs.path()), None);
        drop(claimed);
        std::fs::write(dir.join(file::RUN), b"{").unwrap();
        assert!(dead_runs(runs.path(), &name(), None).is_err(), "unreadable is not none");
    }
}
