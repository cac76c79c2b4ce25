//! `cc-ci-run status`: who holds what, since when, in which phase, who waits, and what is left over.
//!
//! Looks only: no lock is taken, not even for a moment, so that a status never gets in a run's way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ccci_core::config::{Places, Settings};
use ccci_core::lock::{Owner, owner, proc_locks};
use ccci_core::name::{BaseDomain, LockName};
use ccci_core::substrate;
use serde::Serialize;

use crate::cli::Output;

/// A lock file.
#[derive(Debug, Serialize)]
struct Lock {
    name: String,
    path: PathBuf,
    /// Whether the kernel says that it is held.
    held: bool,
    /// The pid that the kernel names.
    holder_pid: Option<u32>,
    /// Pids that wait, in order.
    waiters: Vec<u32>,
    /// What the file says.
    owner: Option<Owner>,
    /// Whether record and kernel agree.
    record_agrees: bool,
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct Status {
    lock_dir: PathBuf,
    runs_dir: PathBuf,
    locks: Vec<Lock>,
    /// Apps without a held lock: for the janitor.
    leftovers: Vec<String>,
    slots: Option<Slots>,
}

#[derive(Debug, Serialize)]
struct Slots {
    total: u32,
    taken: usize,
}

/// Shows it.
///
/// # Errors
/// When a source cannot be read.
pub(crate) fn main(output: Output, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let places = Places::find(&settings)?;
    let base = BaseDomain::new(&settings.base_domain)?;
    let mut locks = Vec::new();
    let mut taken = 0;
    let entries = match std::fs::read_dir(&places.lock_dir) {
        Ok(entries) => entries,
        Err(error) => anyhow::bail!(ccci_core::lock::LockError::Os {
            doing: "list the directory of",
            path: places.lock_dir,
            source: error
        }),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("cc-ci-slot-") && proc_locks::of(&path).is_ok_and(|locks| !locks.is_empty()) {
            taken += 1;
        }
        if let Some(lock) = LockName::parse(&name, &base) {
            locks.push(look(&lock, path));
        }
    }
    locks.sort_by(|one, other| one.name.cmp(&other.name));
    let held: BTreeSet<&str> = locks.iter().filter(|lock| lock.held).map(|lock| lock.name.as_str()).collect();
    let mut leftovers = BTreeSet::new();
    for substrate in substrate::available(&places) {
        leftovers.extend(
            substrate
                .apps(&base)?
                .into_iter()
                .map(|domain| domain.to_string())
                .filter(|domain| !held.contains(domain.as_str())),
        );
    }
    let status = Status {
        leftovers: leftovers.into_iter().collect(),
        slots: settings.max_tests.map(|total| Slots { total: total.get(), taken }),
        locks,
        lock_dir: places.lock_dir,
        runs_dir: places.runs_dir,
    };
    if output.json {
        super::print_json(&status)?
    } else {
        show(&status)?
    }
    Ok(ExitCode::SUCCESS)
}

fn look(name: &LockName, path: PathBuf) -> Lock {
    let entries = proc_locks::of(&path).unwrap_or_default();
    let owner = ccci_core::process::read_limited(&path, 16 * 1024).ok().and_then(|bytes| owner::parse(&bytes));
    let holder = entries.iter().find(|entry| !entry.waits).map(|entry| entry.pid);
    Lock {
        name: name.to_string(),
        held: holder.is_some(),
        record_agrees: holder.is_some() && owner.as_ref().map(|owner| owner.pid) == holder,
        holder_pid: holder,
        waiters: entries.iter().filter(|entry| entry.waits).map(|entry| entry.pid).collect(),
        owner,
        path,
    }
}

fn show(status: &Status) -> anyhow::Result<()> {
    let held: Vec<_> = status.locks.iter().filter(|lock| lock.held).collect();
    if held.is_empty() {
        super::say("no lock is held")?;
    }
    for lock in held {
        let who = lock.owner.as_ref().map_or_else(
            || "no record".to_owned(),
            |owner| format!("{} {}, deadline {:.0}", owner.recipe, owner.describe(), owner.deadline),
        );
        super::say(&format!("held  {}  {who}", lock.name))?;
        if !lock.record_agrees {
            super::say(&format!(
                "      the kernel names pid {} as the one that locked it, the record does not",
                lock.holder_pid.unwrap_or(0)
            ))?;
        }
        for (place, pid) in lock.waiters.iter().enumerate() {
            super::say(&format!("      waits: pid {pid} ({})", place + 1))?;
        }
    }
    for lock in status.locks.iter().filter(|lock| !lock.held) {
        super::say(&format!("free  {}  ({})", lock.name, lock.path.display()))?;
    }
    for domain in &status.leftovers {
        super::say(&format!("left over  {domain}  (cc-ci-run reap {domain})"))?;
    }
    if let Some(slots) = &status.slots {
        super::say(&format!("slots: {} of {} taken", slots.taken, slots.total))?;
    }
    Ok(())
}
