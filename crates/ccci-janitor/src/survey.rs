//! Looking: apps in every substrate, lock files, run directories. Nothing is changed here.
//!
//! A source that cannot be read is written down as such. It is never an empty list, because then an
//! orphan would look like a clean host, and a live app's leftovers like nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ccci_core::config::Places;
use ccci_core::memory::Memory;
use ccci_core::name::{BaseDomain, Domain, GuardName, LockName, RunId};
use ccci_core::process::tagged;
use ccci_core::rundir::unfinished::DeadRun;
use ccci_core::rundir::{file, open};
use ccci_core::substrate::Substrate;

/// A lock file of ours, or something that has its name.
#[derive(Debug, Clone)]
pub(crate) struct LockFile {
    pub(crate) name: LockName,
    pub(crate) path: PathBuf,
    /// What it is, if it is no regular file.
    pub(crate) oddity: Option<&'static str>,
}

/// A run's directory.
#[derive(Debug, Clone)]
pub(crate) struct RunDirectory {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
    /// Whether it says what its run was. Only a run that was killed in its first moments does not.
    pub(crate) planned: bool,
    /// Whether it has a result.
    pub(crate) concluded: bool,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every app of ours, with the substrates that know of it.
    pub(crate) apps: BTreeMap<Domain, BTreeSet<&'static str>>,
    pub(crate) locks: Vec<LockFile>,
    /// Guards of which processes still run.
    pub(crate) guards: BTreeSet<GuardName>,
    pub(crate) runs: Vec<RunDirectory>,
    /// Runs that died and are not concluded.
    pub(crate) dead: Vec<DeadRun>,
    /// Those of them that the index of unfinished runs lacks.
    pub(crate) unentered: Vec<DeadRun>,
    /// Directories that the index of unfinished runs names, of which nothing is owed and nobody claims any.
    pub(crate) stale: Vec<PathBuf>,
    /// Run directories that cannot be read, with the reason.
    pub(crate) odd_runs: Vec<(PathBuf, String)>,
    /// Substrates that answered.
    pub(crate) answered: BTreeSet<&'static str>,
    /// Sources of apps that could not be read, with the reason.
    pub(crate) unreadable: Vec<String>,
    /// Why the lock directory could not be read. Without it nobody can be asked who is alive.
    pub(crate) no_locks: Option<String>,
    /// Why the run directories could not be read.
    pub(crate) no_runs: Option<String>,
}

impl Survey {
    /// Whether a run of this name died and is not concluded.
    pub(crate) fn is_dead(&self, name: &LockName) -> bool {
        let name = name.file_name();
        self.dead.iter().any(|run| run.lock() == name)
    }
}

/// Looks at everything once.
pub(crate) fn look(places: &Places, base: &BaseDomain, substrates: &[Box<dyn Substrate>], memory: &Memory) -> Survey {
    let mut survey = Survey::default();
    let present: Vec<&str> = substrates.iter().map(|substrate| substrate.name()).collect();
    for name in memory.missing(&present) {
        // A daemon that was stopped takes its socket along: that is no host without Docker.
        survey.unreadable.push(format!(
            "{name}: it answered at an earlier sweep and is not there now; start it, or remove {} if it is gone for good",
            Memory::file(&places.state_dir).display()
        ));
    }
    for substrate in substrates {
        match substrate.apps(base) {
            Ok(apps) => {
                survey.answered.insert(substrate.name());
                for app in apps {
                    survey.apps.entry(app).or_default().insert(substrate.name());
                }
            }
            Err(error) => survey.unreadable.push(format!("{}: {error}", substrate.name())),
        }
    }
    // What a killed run left running counts as an app of its domain: it may be all that is left.
    match tagged::locks() {
        Ok(marks) => {
            for mark in marks {
                // Under a lock in another directory it is another installation's, whatever its name.
                let name = Path::new(&mark).file_name().and_then(|name| LockName::parse(name.to_str()?, base));
                match name.filter(|name| tagged::lock_mark(&places.lock_dir.join(name.file_name())) == mark) {
                    Some(LockName::App(domain)) => drop(survey.apps.entry(domain).or_default().insert("processes")),
                    Some(LockName::Guard(guard)) => drop(survey.guards.insert(guard)),
                    None => {}
                }
            }
        }
        Err(error) => survey.unreadable.push(format!("/proc: {error}")),
    }
    match lock_files(&places.lock_dir, base) {
        Ok(locks) => survey.locks = locks,
        Err(error) => survey.no_locks = Some(format!("lock directory {}: {error}", places.lock_dir.display())),
    }
    match run_directories(&places.runs_dir) {
        Ok(runs) => {
            survey.runs = runs;
            if let Err(error) = unfinished(&places.runs_dir, &mut survey) {
                survey.no_runs = Some(format!("index of unfinished runs in {}: {error}", places.runs_dir.display()));
            }
        }
        Err(error) => survey.no_runs = Some(format!("run directories {}: {error}", places.runs_dir.display())),
    }
    survey
}

fn lock_files(dir: &Path, base: &BaseDomain) -> io::Result<Vec<LockFile>> {
    let mut locks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // What does not parse is not ours: not even looked at.
        let Some(name) = LockName::parse(&entry.file_name().to_string_lossy(), base) else { continue };
        let kind = entry.file_type()?;
        let oddity = if kind.is_file() {
            None
        } else if kind.is_symlink() {
            Some("a symlink")
        } else if kind.is_dir() {
            Some("a directory")
        } else {
            Some("no regular file")
        };
        locks.push(LockFile { name, path: entry.path(), oddity });
    }
    locks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(locks)
}

fn run_directories(dir: &Path) -> io::Result<Vec<RunDirectory>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let found = match fs::symlink_metadata(path.join(file::RUN)) {
            Ok(plan) => {
                let results = fs::symlink_metadata(path.join(file::RESULTS)).ok();
                let concluded = results.is_some();
                Some((results.unwrap_or(plan).modified()?, true, concluded))
            }
            // A directory without a plan in it is not ours to remove, unless it is an empty one.
            Err(_) if RunId::new(&entry.file_name().to_string_lossy()).is_ok() && is_empty(&path) => {
                fs::symlink_metadata(&path)?.modified().ok().map(|modified| (modified, false, false))
            }
            Err(_) => None,
        };
        runs.extend(found.map(|(modified, planned, concluded)| RunDirectory { path, modified, planned, concluded }));
    }
    runs.sort_by_key(|run| run.modified);
    Ok(runs)
}

/// The runs that are not concluded: those in the index, and those without a result that are not in it. Of a guard that
/// has a result its teardown may still be owed; the index has it then.
fn unfinished(runs_dir: &Path, survey: &mut Survey) -> io::Result<()> {
    let entries: BTreeSet<PathBuf> = open::entries(runs_dir)?.into_iter().map(|entry| entry.dir).collect();
    let open = survey.runs.iter().filter(|run| run.planned && !run.concluded).map(|run| run.path.clone());
    let all: BTreeSet<PathBuf> = entries.iter().cloned().chain(open).collect();
    for path in all {
        match DeadRun::of(&path) {
            Ok(Some(dead)) => {
                if !entries.contains(&path) {
                    survey.unentered.push(dead.clone());
                }
                survey.dead.push(dead);
            }
            // Alive, concluded, or gone; whether an entry is stale is looked at again under the claim.
            Ok(None) if entries.contains(&path) => survey.stale.push(path),
            Ok(None) => {}
            Err(error) => survey.odd_runs.push((path, error.to_string())),
        }
    }
    survey.dead.sort_by_key(DeadRun::started);
    Ok(())
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
