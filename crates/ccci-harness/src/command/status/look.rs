//! What there is to show: the kernel's word on who holds and who waits, with what the run directories
//! say about those processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ccci_core::lock::proc_locks::{self, Entry};
use ccci_core::lock::{LockError, Owner, owner};
use ccci_core::memory::Memory;
use ccci_core::name::LockName;
use ccci_core::rundir::unfinished::{DeadRun, Owed};
use ccci_core::rundir::{RunDir, file, open};
use ccci_core::substrate;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Host;
use crate::command::Unable;
use crate::history::Expected;
use crate::plan::{Job, Plan};
use crate::progress::Progress;

/// The version of the shape of `status --json`; fields may be added to it.
const SCHEMA: u32 = 1;

/// All that is shown. It changes only when something happens: times are moments, never ages.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) schema: u32,
    /// The host's name.
    pub(super) host: String,
    lock_dir: PathBuf,
    runs_dir: PathBuf,
    /// Where the user's own directories stand in for the system's: which.
    pub(super) stand_in: Option<String>,
    pub(super) locks: Vec<Lock>,
    /// Where the host has a number of slots.
    pub(super) slots: Option<Slots>,
    /// Apps without a held lock: for the janitor.
    pub(super) leftovers: Vec<Leftover>,
    /// What could not be looked at; anything may hide there.
    pub(super) unknown: Vec<String>,
}

/// A lock file.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Lock {
    /// The app's domain, or the guard's name.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Whether the kernel says that it is held.
    pub(super) held: bool,
    /// The pid that the kernel names.
    pub(super) holder_pid: Option<u32>,
    /// The run of that pid.
    pub(super) run: Option<Run>,
    /// Where that run is.
    pub(super) progress: Option<Progress>,
    /// How long its phases usually take, in milliseconds.
    pub(super) expected: Expected,
    /// What the file says.
    pub(super) owner: Option<Owner>,
    /// Whether record and kernel agree.
    pub(super) record_agrees: bool,
    /// Who waits, in order.
    pub(super) waiters: Vec<Waiter>,
}

/// A run, as its directory has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Run {
    pub(super) run_id: String,
    /// The recipe, or a guard's command.
    pub(super) what: String,
    pub(super) pr: Option<String>,
    #[serde(rename = "ref")]
    pub(super) git_ref: Option<String>,
    /// When it began, and so began to wait.
    pub(super) started: Timestamp,
    /// The CI's page of its build.
    pub(super) link: Option<String>,
    pub(super) dir: PathBuf,
}

/// A process that waits for a lock.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Waiter {
    pub(super) pid: u32,
    pub(super) run: Option<Run>,
}

/// The slots of the host.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Slots {
    pub(super) total: u32,
    pub(super) taken: usize,
    /// The ids of the runs that have one.
    pub(super) runs: Vec<String>,
}

/// What of a dead run is left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Left {
    /// An app that nobody owns any more.
    App,
    /// A guard's teardown is still to come.
    Teardown,
    /// A run has no result yet.
    Result,
}

/// What is left over, and by whom.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Leftover {
    /// The app's domain, or the guard's name.
    pub(super) domain: String,
    pub(super) left: Left,
    /// The dead run that left it, where its directory is there.
    pub(super) run: Option<Dead>,
    /// What its lock's file says of who left it.
    pub(super) owner: Option<Owner>,
    /// How often the janitor failed to reap it.
    pub(super) failures: u32,
    /// When the janitor tries again, where it has given up for a while.
    pub(super) quarantined_until: Option<Timestamp>,
}

/// A dead run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Dead {
    pub(super) run_id: String,
    /// The recipe, or a guard's command.
    pub(super) what: String,
    /// When it was last heard of.
    pub(super) left: Timestamp,
    pub(super) dir: PathBuf,
}

impl Dead {
    fn of(run: &DeadRun) -> Self {
        // To the second: what has not changed must not look as if it had.
        let left = Timestamp::from_second(run.last_heard_of().as_second()).unwrap_or_else(|_| run.started());
        let dir = run.dir().path().to_owned();
        Self { run_id: run.run_id().to_owned(), what: run.what(), left, dir }
    }
}

impl Status {
    /// Looks.
    ///
    /// # Errors
    /// When the lock directory cannot be read; any other source is named in `unknown`.
    pub(super) fn of(host: &Host) -> anyhow::Result<Self> {
        let lock_dir = host.places.lock_dir.clone();
        let runs = Runs::read(&host.places.runs_dir);
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => LockError::NoDirectory { dir: lock_dir.clone() }.into(),
            _ => anyhow::Error::new(error)
                .context(format!("cannot list the lock directory {}", lock_dir.display()))
                .context(Unable),
        };
        // Once for all of them: to show its locks the kernel stops them all for a moment.
        let kernel = proc_locks::all().unwrap_or_default();
        let of = |path: &Path| proc_locks::among(&kernel, path).unwrap_or_default();
        let (mut locks, mut slots) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&lock_dir).map_err(failed)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("cc-ci-slot-") {
                slots.extend(of(&path).first().map(|entry| runs.name(entry.pid)));
            } else if let Some(lock) = LockName::parse(&name, &host.base) {
                locks.push(look(&lock, &of(&path), path, &runs));
            }
        }
        locks.sort_by(|one: &Lock, other| (!one.held, &one.name).cmp(&(!other.held, &other.name)));
        slots.sort();
        let (leftovers, unknown) = left_over(host, &locks);
        Ok(Self {
            schema: SCHEMA,
            host: crate::command::host_name(),
            lock_dir: host.places.lock_dir.clone(),
            runs_dir: host.places.runs_dir.clone(),
            stand_in: host.places.stand_in(),
            slots: host.settings.max_tests.map(|total| Slots { total: total.get(), taken: slots.len(), runs: slots }),
            leftovers,
            unknown,
            locks,
        })
    }
}

fn look(name: &LockName, entries: &[Entry], path: PathBuf, runs: &Runs) -> Lock {
    let holder = entries.iter().find(|entry| !entry.waits).map(|entry| entry.pid);
    let owner = record(&path);
    let record_agrees = holder.is_some() && owner.as_ref().map(|owner| owner.pid) == holder;
    let known = holder.and_then(|pid| runs.0.get(&pid));
    let waiters = entries.iter().filter(|entry| entry.waits);
    Lock {
        name: name.to_string(),
        held: holder.is_some(),
        holder_pid: holder,
        run: known.map(|(run, _)| run.clone()),
        progress: known.and_then(|(run, _)| Progress::read(&RunDir::open(run.dir.clone()))),
        expected: known.map(|(_, expected)| expected.clone()).unwrap_or_default(),
        record_agrees,
        waiters: waiters.map(|entry| Waiter { pid: entry.pid, run: runs.of(entry.pid) }).collect(),
        owner,
        path,
    }
}

fn record(path: &Path) -> Option<Owner> {
    owner::of(path).ok().flatten()
}

/// The apps that nobody owns, and what could not be looked at.
fn left_over(host: &Host, locks: &[Lock]) -> (Vec<Leftover>, Vec<String>) {
    let now = SystemTime::now();
    let (mut apps, mut unknown) = (BTreeMap::new(), Vec::new());
    let memory = Memory::load(&host.places.state_dir).unwrap_or_else(|error| {
        unknown.push(format!("{}: {error}", Memory::file(&host.places.state_dir).display()));
        Memory::default()
    });
    for substrate in substrate::available(&host.places) {
        match substrate.apps(&host.base) {
            Ok(found) => apps.extend(found.into_iter().map(|domain| (domain.to_string(), domain))),
            Err(error) => unknown.push(format!("{}: {error}", substrate.name())),
        }
    }
    let mut dead: BTreeMap<String, Vec<DeadRun>> = BTreeMap::new();
    match open::entries(&host.places.runs_dir) {
        Ok(entries) => {
            for entry in entries {
                match (DeadRun::of(&entry.dir), LockName::parse(&entry.lock, &host.base)) {
                    (Ok(Some(run)), Some(name)) => dead.entry(name.to_string()).or_default().push(run),
                    // Alive, or another installation's.
                    (Ok(_), _) => {}
                    (Err(error), _) => unknown.push(format!("{}: {error}", entry.dir.display())),
                }
            }
        }
        Err(error) => unknown.push(format!("index of unfinished runs: {error}")),
    }
    let held = |domain: &str| locks.iter().any(|lock| lock.held && lock.name == domain);
    let own = |domain: &str| dead.get(domain).and_then(|runs| runs.last()).map(Dead::of);
    let mut leftovers: Vec<Leftover> = Vec::new();
    for (name, runs) in dead.iter().filter(|(name, _)| !apps.contains_key(*name)) {
        leftovers.extend(runs.iter().map(|run| Leftover {
            domain: name.clone(),
            left: if run.owed() == Owed::Teardown { Left::Teardown } else { Left::Result },
            run: Some(Dead::of(run)),
            owner: None,
            failures: 0,
            quarantined_until: None,
        }));
    }
    leftovers.extend(apps.into_values().filter(|domain| !held(domain.as_str())).map(|domain| Leftover {
        left: Left::App,
        run: own(domain.as_str()),
        failures: memory.failures(&domain),
        quarantined_until: memory.back_off_left(&domain, now).and_then(|left| {
            // To the second: what has not changed must not look as if it had.
            let until = Timestamp::now().checked_add(SignedDuration::try_from(left).ok()?).ok()?;
            Timestamp::from_second(until.as_second()).ok()
        }),
        owner: locks.iter().find(|lock| lock.name == domain.as_str()).and_then(|lock| lock.owner.clone()),
        domain: domain.to_string(),
    }));
    (leftovers, unknown)
}

/// The runs that may be alive, by their keeper's pid. The kernel says which are: a pid that it names
/// belongs to the run that began last.
struct Runs(BTreeMap<u32, (Run, Expected)>);

impl Runs {
    /// A run whose directory this user may not read shows as its pid.
    fn read(runs_dir: &Path) -> Self {
        let entries = std::fs::read_dir(runs_dir).into_iter().flatten().flatten();
        let open = entries
            .map(|entry| RunDir::open(entry.path()))
            .filter(|dir| ![file::RESULTS, file::GUARD].iter().any(|result| dir.join(result).exists()));
        let mut plans: Vec<(RunDir, Plan)> =
            open.filter_map(|dir| Some((dir.clone(), Plan::read(&dir).ok()?))).collect();
        plans.sort_by_key(|(_, plan)| plan.started);
        Self(
            plans
                .into_iter()
                .filter_map(|(dir, plan)| Some((u32::try_from(plan.keeper).ok()?, known(&dir, plan))))
                .collect(),
        )
    }

    fn of(&self, pid: u32) -> Option<Run> {
        self.0.get(&pid).map(|(run, _)| run.clone())
    }

    fn name(&self, pid: u32) -> String {
        self.0.get(&pid).map_or_else(|| format!("pid {pid}"), |(run, _)| run.run_id.clone())
    }
}

fn known(dir: &RunDir, plan: Plan) -> (Run, Expected) {
    let (what, pr, git_ref, link) = match plan.job {
        Job::Recipe(job) => (job.recipe, Some(job.pr), Some(job.git_ref), job.link.filter(|link| !link.is_empty())),
        Job::Guard(job) => (job.command.join(" "), None, None, None),
    };
    let dir = dir.path().to_owned();
    (Run { run_id: plan.run_id, what, pr, git_ref, started: plan.started, link, dir }, plan.expected)
}
