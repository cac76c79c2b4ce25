//! One sweep: the lock decides about every candidate, and what is reaped is reaped under it.

mod conclude;
mod free;
mod holder;
mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::signals::{CANCEL, Signals};
use ccci_core::lock::proc_locks::Entry;
use ccci_core::lock::{AppLock, LockError, LockPath};
use ccci_core::memory::{History, Memory};
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::unfinished::DeadRun;
use ccci_core::rundir::{RunDir, claim, unfinished};
use ccci_core::snapshot::{Store, Stray};
use ccci_core::substrate::{self, Substrate};
use ccci_core::teardown::{Receipt, Teardown, cleaner, take_down};
use ccci_core::weaken::{self, Protection};

use crate::plan::{Action, plan};
use crate::report::{Finding, Report};
use crate::survey::{self, Survey};

/// How to sweep.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) dry_run: bool,
    /// Nothing new is begun after this long.
    pub(crate) budget: Duration,
}

struct Sweep<'host> {
    settings: &'host Settings,
    places: &'host Places,
    substrates: Vec<Box<dyn Substrate>>,
    options: &'host Options,
    until: Deadline,
    memory: Memory,
    report: Report,
    /// The runs that ended, counted before retention removes their directories.
    history: History,
    /// Run directories that a dead guard's teardown is still in.
    needed: BTreeSet<PathBuf>,
    /// What was removed of the apps that this sweep reaped, by the name of their lock file.
    receipts: BTreeMap<String, Receipt>,
    /// The host's locks as the kernel told of them last; nothing once time has passed over it.
    locks: Vec<Entry>,
}

/// Sweeps once.
///
/// # Errors
/// When the settings cannot be used. What could not be read or reaped is in the report.
pub(crate) fn run(
    settings: &Settings,
    places: &Places,
    options: &Options,
    signals: &Signals,
) -> anyhow::Result<Report> {
    let begun = Deadline::after(Duration::ZERO);
    let base = BaseDomain::new(&settings.base_domain)?;
    let mut sweep = Sweep {
        settings,
        places,
        substrates: substrate::available(places),
        options,
        until: Deadline::after(options.budget),
        memory: Memory::default(),
        report: Report { dry_run: options.dry_run, ..Report::default() },
        history: History::default(),
        needed: BTreeSet::new(),
        receipts: BTreeMap::new(),
        locks: Vec::new(),
    };
    let looked = SystemTime::now();
    let forgot = sweep.recall();
    let mut survey = survey::look(places, &base, &sweep.substrates, &sweep.memory);
    // Without its memory it cannot tell which substrates should be there.
    survey.unreadable.extend(forgot);
    sweep.report.unreadable =
        survey.unreadable.iter().chain(&survey.no_locks).chain(&survey.no_runs).cloned().collect();
    let runs = survey.runs.iter().map(|run| (run.path.as_path(), run.modified));
    sweep.history = sweep.memory.history.clone().counting(runs, looked);
    let actions = plan(&survey, &sweep.memory, &base, &settings.retention, SystemTime::now());
    for (number, action) in actions.iter().enumerate() {
        if sweep.until.passed() || cancelled(signals) {
            sweep.report.not_reached = actions[number..].iter().filter(|action| action.is_counted()).count();
            break;
        }
        sweep.carry_out(action, &survey);
    }
    sweep.clear_candidates(&base);
    sweep.look_after_images(&survey);
    sweep.remember(&survey);
    sweep.report.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(sweep.report)
}

/// Removes a run's directory. While that takes it is in the index, which leads the next sweep to what is left of it.
fn remove_whole(path: &Path) -> io::Result<()> {
    let dir = RunDir::open(path.to_owned());
    dir.enter("removed").map_err(io::Error::other)?;
    unfinished::remove(&dir)
}

/// A stop between two candidates is honoured; a reap that has begun is not interrupted.
fn cancelled(signals: &Signals) -> bool {
    std::iter::from_fn(|| signals.next().ok().flatten()).any(|received| CANCEL.contains(&received.signal))
}

impl Sweep<'_> {
    fn carry_out(&mut self, action: &Action, survey: &Survey) {
        match action {
            Action::Reap(domain) => self.reap(domain),
            Action::Unlink(name) => self.unlink(name, survey),
            Action::Skip { what, why } => self.skipped(what.clone(), why),
            Action::Quarantined { domain, failures } => {
                self.found(Finding::Quarantined { domain: domain.to_string(), failures: *failures });
            }
            Action::Conclude(name) => self.conclude(name),
            Action::Enter(run) => self.enter(run),
            Action::Tidy(path) => self.tidy(path),
            Action::RemoveRun(path) => self.remove_run(path, remove_whole),
            Action::RemoveEmpty(path) => self.remove_run(path, |path| fs::remove_dir(path)),
        }
    }

    /// Remembers. A memory that cannot be understood is put aside; nothing is reaped until the next sweep, which
    /// begins a new one.
    fn recall(&mut self) -> Option<String> {
        let state_dir = &self.places.state_dir;
        let why = match Memory::load(state_dir) {
            Ok(memory) => {
                self.memory = memory;
                return None;
            }
            // It cannot be written either, which is said when something is to be remembered.
            Err(_) if !Memory::file(state_dir).is_file() => return None,
            Err(error) => format!("{}: {error}", Memory::file(state_dir).display()),
        };
        if self.options.dry_run {
            return Some(why);
        }
        Some(match Memory::put_aside(state_dir) {
            Ok(aside) => format!("{why}; it is at {} now, and the next sweep begins a new one", aside.display()),
            Err(error) => format!("{why}; and it cannot be put aside: {error}"),
        })
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn skipped(&mut self, what: impl Into<String>, why: impl ToString) {
        self.found(Finding::Skipped { what: what.into(), why: why.to_string() });
    }

    /// Takes the lock, or says why it is left alone.
    fn ask_the_lock(&mut self, at: &LockPath, create: bool) -> Option<AppLock> {
        match at.probe(create) {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => {
                self.report_holder(at);
                None
            }
            Err(error) => {
                self.skipped(at.name().to_string(), error);
                None
            }
        }
    }

    /// Rule 4, also where somebody unlinked the lock file of a live run: that run still has its app.
    fn unless_a_run_lives(&mut self, lock: AppLock) -> Option<AppLock> {
        let name = lock.at().name().clone();
        match self.live_run(&name) {
            Ok(None) => return Some(lock),
            Ok(Some(run_id)) => self.found(Finding::Live {
                name: name.to_string(),
                holder: format!("run {run_id} is about to take its lock, or somebody removed the lock's file"),
                waiting: 0,
            }),
            Err(error) => self.skipped(name.to_string(), format!("cannot tell whether a run of it is alive: {error}")),
        }
        self.give_back(lock);
        None
    }

    /// A live run of this name, whether or not it has the lock.
    fn live_run(&self, name: &LockName) -> io::Result<Option<String>> {
        if !weaken::on(Protection::Patience) {
            return Ok(None);
        }
        let live = claim::live_runs(&self.places.runs_dir, name, None)?;
        Ok(live.first().map(|run| run.run_id().to_owned()))
    }

    /// Lets go of a lock under which nothing was done.
    fn give_back(&mut self, lock: AppLock) {
        let at = lock.at().path().display().to_string();
        if !matches!(lock.read_owner(), Ok(None)) || self.options.dry_run {
            // The record of a dead run stays; the kernel frees the lock.
            drop(lock);
        } else if let Err(error) = lock.release() {
            self.skipped(at, error);
        }
    }

    fn reap(&mut self, domain: &Domain) {
        let at = LockPath::new(&self.places.lock_dir, LockName::App(domain.clone()));
        // A dry run makes no lock file; one that is there is asked.
        let lock = match self.options.dry_run && !at.path().exists() {
            true => None,
            false => match self.ask_the_lock(&at, !self.options.dry_run).and_then(|lock| self.unless_a_run_lives(lock))
            {
                Some(lock) => Some(lock),
                None => return,
            },
        };
        let Some(lock) = lock.filter(|_| !self.options.dry_run) else { return self.would_reap(&at, domain) };
        // At most half of what is left: one that will not go must not cost the others their turn.
        let budget = (self.until.left() / 2).min(self.settings.teardown_budget).max(Duration::from_secs(1));
        // One that cannot be read tells nothing about whose it was.
        let before = lock.read_owner().ok().flatten();
        let record = cleaner::record("janitor", "reaping an orphan", &at, before, budget);
        if let Err(error) = lock.write_owner(&record) {
            // On a full disk the reap is what makes room.
            self.skipped(at.path().display().to_string(), format!("the owner record is out of date: {error}"));
        }
        let tag = Tag::Lock(tagged::lock_mark(at.path()));
        let teardown = Teardown {
            lock: &lock,
            substrates: &self.substrates,
            domain,
            planned: &[],
            tag: &tag,
            grace: Duration::ZERO,
            budget,
        };
        let receipt = take_down(&teardown, &mut |_| {});
        self.locks.clear();
        let clean = receipt.is_clean();
        if !clean && let Err(lost) = lock.verify() {
            // That is no app that would not go: who has the lock now reaps it, or the next sweep.
            return self.skipped(domain.to_string(), lost);
        }
        self.receipts.insert(at.name().file_name(), receipt.clone());
        // A run that ended by itself since the survey left nothing to reap.
        if !receipt.is_empty() {
            self.note(domain, clean);
            let domain = domain.to_string();
            self.found(if clean { Finding::Reaped { domain, receipt } } else { Finding::Failed { domain, receipt } });
        }
        // Of an app that would not go the file stays, with a record of who tried.
        if clean && let Err(error) = lock.release() {
            self.skipped(at.path().display().to_string(), error);
        }
    }

    fn would_reap(&mut self, at: &LockPath, domain: &Domain) {
        if let Ok(Some(run_id)) = self.live_run(at.name()) {
            let holder = format!("run {run_id} is alive; the lock's file is gone");
            return self.found(Finding::Live { name: domain.to_string(), holder, waiting: 0 });
        }
        let (mut objects, mut why) = (Vec::new(), None);
        for substrate in &self.substrates {
            match substrate.objects(domain) {
                Ok(found) => objects.extend(found.iter().map(ToString::to_string)),
                Err(error) => why = Some(error.to_string()),
            }
        }
        match tagged::find(&Tag::Lock(tagged::lock_mark(at.path()))) {
            Ok(found) => {
                objects.extend(found.iter().map(|process| format!("process {} ({})", process.name, process.pid)))
            }
            Err(error) => why = Some(error.to_string()),
        }
        if let Some(why) = why {
            self.skipped(domain.to_string(), why);
        }
        if !objects.is_empty() {
            self.found(Finding::WouldReap { domain: domain.to_string(), objects });
        }
    }

    fn note(&mut self, domain: &Domain, clean: bool) {
        let now = SystemTime::now();
        let changed = self.memory.change(&self.places.state_dir, |memory| memory.note(domain, clean, now));
        if let Err(error) = changed {
            self.forgets(&error);
        }
    }

    /// A memory that cannot be written only makes the janitor try more often.
    fn forgets(&mut self, error: &io::Error) {
        let file = Memory::file(&self.places.state_dir).display().to_string();
        let said = |finding: &Finding| matches!(finding, Finding::Skipped { what, .. } if *what == file);
        if self.report.findings.iter().any(said) {
            return;
        }
        self.skipped(file, format!("cannot remember: {error}"));
    }

    /// A run's directory past its retention, if no part of the run is alive: those hold a lock on it.
    fn remove_run(&mut self, path: &Path, remove: impl Fn(&Path) -> io::Result<()>) {
        // What was concluded just now is there for whoever looks, and counted, until the next sweep.
        let fresh = self.report.concluded.iter().any(|run| Path::new(&run.run_dir) == path);
        if self.needed.contains(path) || fresh {
            return;
        }
        // One that cannot be read was said to be so at every sweep until its retention was over.
        if !self.options.dry_run && matches!(DeadRun::of(path), Ok(Some(_))) {
            return;
        }
        let what = path.display().to_string();
        let claimed = fs::File::open(path).and_then(|dir| fs2::FileExt::try_lock_exclusive(&dir).map(|()| dir));
        let claim = match claimed {
            Ok(claim) => claim,
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => return,
            // Another janitor was here first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.skipped(what, error),
        };
        if !self.options.dry_run
            && let Err(error) = remove(path)
        {
            return self.skipped(what, format!("cannot remove it: {error}"));
        }
        drop(claim);
        self.report.run_dirs_removed += 1;
    }

    /// Data that a run was about to hand on when it died: its app's lock says whether it did.
    fn clear_candidates(&mut self, base: &BaseDomain) {
        let strays = match Store::new(&self.places.state_dir).candidates(base) {
            Ok(strays) => strays,
            Err(error) => return self.skipped("snapshots", error),
        };
        for Stray { path, domain } in strays {
            let at = LockPath::new(&self.places.lock_dir, LockName::App(domain));
            // A dry run makes no lock file: where there is none, nobody has it.
            let lock = match at.probe(!self.options.dry_run) {
                Ok(lock) => lock,
                Err(LockError::Held { .. }) => continue,
                Err(error) => {
                    self.skipped(path.display().to_string(), error);
                    continue;
                }
            };
            if !self.options.dry_run
                && let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                self.skipped(path.display().to_string(), format!("cannot remove it: {error}"));
            } else {
                self.report.candidates_removed += 1;
            }
            if let Some(lock) = lock {
                self.give_back(lock);
            }
        }
    }

    fn remember(&mut self, survey: &Survey) {
        if !self.options.dry_run {
            let readable = survey.unreadable.is_empty();
            let changed = self.memory.change(&self.places.state_dir, |memory| {
                memory.saw(survey.answered.iter().copied().filter(|name| *name != "local"));
                memory.history.extend_to(&self.history);
                if readable {
                    memory.keep_only(|domain| survey.apps.keys().any(|app| app.as_str() == domain));
                }
            });
            if let Err(error) = changed {
                self.forgets(&error);
            }
        }
        (self.report.reaped_total, self.report.failed_total) = (self.memory.reaped, self.memory.failed);
        self.report.history = self.memory.history.clone();
    }
}
