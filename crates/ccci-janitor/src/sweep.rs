//! One sweep: the lock decides about every candidate, and what is reaped is reaped under it.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::signals::{CANCEL, Signals};
use ccci_core::lock::{AppLock, LockError, LockPath, Owner, owner};
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::process::read_limited;
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::file;
use ccci_core::substrate::{self, Substrate};
use ccci_core::teardown::take_down;
use jiff::{SignedDuration, Timestamp};

use crate::memory::Memory;
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
        memory: Memory::load(&places.state_dir),
        report: Report { dry_run: options.dry_run, ..Report::default() },
    };
    let survey = survey::look(places, &base, &sweep.substrates);
    sweep.report.unreadable =
        survey.unreadable.iter().chain(&survey.no_locks).chain(&survey.no_runs).cloned().collect();
    let actions = plan(&survey, &sweep.memory, &settings.retention, SystemTime::now());
    for (number, action) in actions.iter().enumerate() {
        if sweep.until.passed() || cancelled(signals) {
            sweep.report.not_reached = actions.len() - number;
            break;
        }
        sweep.carry_out(action, &survey);
    }
    sweep.finish(&survey)?;
    sweep.report.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(sweep.report)
}

/// A stop between two candidates is honoured; a reap that has begun is not interrupted.
fn cancelled(signals: &Signals) -> bool {
    let _fd = signals.as_fd();
    std::iter::from_fn(|| signals.next().ok().flatten()).any(|received| CANCEL.contains(&received.signal))
}

impl Sweep<'_> {
    fn carry_out(&mut self, action: &Action, survey: &Survey) {
        match action {
            Action::Reap(domain) => self.reap(domain),
            Action::Unlink(name) => self.unlink(name, survey),
            Action::Skip { what, why } => self.found(Finding::Skipped { what: what.clone(), why: why.clone() }),
            Action::Quarantined { domain, failures } => {
                self.found(Finding::Quarantined { domain: domain.to_string(), failures: *failures });
            }
            Action::RemoveRun(path) => self.remove_run(path),
        }
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    /// Takes the lock, or says why the app is left alone.
    fn ask_the_lock(&mut self, at: &LockPath, create: bool) -> Option<AppLock> {
        match at.try_acquire(create) {
            Ok(lock) => lock,
            Err(LockError::Held { path }) => {
                self.report_holder(at.name(), &path);
                None
            }
            Err(error) => {
                self.found(Finding::Skipped { what: at.name().to_string(), why: error.to_string() });
                None
            }
        }
    }

    fn report_holder(&mut self, name: &LockName, path: &Path) {
        let owner = read_limited(path, 16 * 1024).ok().and_then(|bytes| owner::parse(&bytes));
        let holder = owner.as_ref().map_or_else(|| "no record of the holder".to_owned(), Owner::describe);
        let name = name.to_string();
        let leaked = owner.is_some_and(|owner| outlived(&owner, Timestamp::now()));
        self.found(if leaked { Finding::PossiblyLeaked { name, holder } } else { Finding::Live { name, holder } });
    }

    fn reap(&mut self, domain: &Domain) {
        let at = LockPath::new(&self.places.lock_dir, LockName::App(domain.clone()));
        if self.options.dry_run {
            return self.would_reap(&at, domain);
        }
        let Some(lock) = self.ask_the_lock(&at, true) else { return };
        let budget = self.until.left().min(self.settings.teardown_budget).max(Duration::from_secs(1));
        let receipt = take_down(
            &lock,
            &self.substrates,
            domain,
            &Tag::Lock(at.path().to_owned()),
            Duration::ZERO,
            budget,
            &mut |_| {},
        );
        let domain_name = domain.to_string();
        let clean = receipt.is_clean();
        self.memory.note(domain, clean, SystemTime::now());
        self.found(if clean {
            Finding::Reaped { domain: domain_name, receipt }
        } else {
            Finding::Failed { domain: domain_name, receipt }
        });
        // Of an app that would not go the file stays, with its record.
        if clean && let Err(error) = lock.release() {
            self.found(Finding::Skipped { what: at.path().display().to_string(), why: error.to_string() });
        }
    }

    fn would_reap(&mut self, at: &LockPath, domain: &Domain) {
        // A dry run makes no lock file; one that is there is asked.
        match at.try_acquire(false) {
            Err(LockError::Held { path }) => return self.report_holder(at.name(), &path),
            Err(error) => return self.found(Finding::Skipped { what: domain.to_string(), why: error.to_string() }),
            Ok(_) => {}
        }
        let objects = self.substrates.iter().filter_map(|substrate| substrate.objects(domain).ok()).flatten();
        let objects = objects.map(|object| object.to_string()).collect();
        self.found(Finding::WouldReap { domain: domain.to_string(), objects });
    }

    /// A lock file without an app: remove it if it is free. Should an app have appeared since the
    /// survey, and its run have died already, the next sweep finds it without the file.
    fn unlink(&mut self, name: &LockName, survey: &Survey) {
        let at = LockPath::new(&self.places.lock_dir, name.clone());
        let Some(lock) = self.ask_the_lock(&at, false) else { return };
        if let LockName::Guard(guard) = name {
            if !self.options.dry_run
                && survey.guards.contains(guard.as_str())
                && let Err(error) = tagged::end_all(&Tag::Lock(at.path().to_owned()), Duration::ZERO)
            {
                return self.found(Finding::Skipped { what: name.to_string(), why: error.to_string() });
            }
            let unfinished = |owner: &Owner| owner.run_dir.is_dir() && !owner.run_dir.join(file::CLEAN).exists();
            if let Some(owner) = lock.read_owner().filter(unfinished) {
                // The record leads the next guard of this name to the teardown; it stays.
                return self.found(Finding::DeadGuard {
                    name: name.to_string(),
                    run_dir: owner.run_dir.display().to_string(),
                });
            }
        }
        if !self.options.dry_run
            && let Err(error) = lock.release()
        {
            return self.found(Finding::Skipped { what: at.path().display().to_string(), why: error.to_string() });
        }
        self.report.lock_files_removed += 1;
    }

    /// A run's directory past its retention, if its keeper is dead: a living one holds a lock on it.
    fn remove_run(&mut self, path: &Path) {
        let what = path.display().to_string();
        let claimed = fs::File::open(path).and_then(|dir| fs2::FileExt::try_lock_exclusive(&dir).map(|()| dir));
        let claim = match claimed {
            Ok(claim) => claim,
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => return,
            Err(error) => return self.found(Finding::Skipped { what, why: error.to_string() }),
        };
        if !self.options.dry_run
            && let Err(error) = fs::remove_dir_all(path)
        {
            return self.found(Finding::Skipped { what, why: format!("cannot remove it: {error}") });
        }
        drop(claim);
        self.report.run_dirs_removed += 1;
    }

    fn finish(&mut self, survey: &Survey) -> anyhow::Result<()> {
        let apps = &survey.apps;
        if survey.unreadable.is_empty() {
            self.memory.keep_only(|domain| apps.keys().any(|app| app.as_str() == domain));
        }
        (self.report.reaped_total, self.report.failed_total) = (self.memory.reaped, self.memory.failed);
        let worth = self.report.findings.iter().any(|f| matches!(f, Finding::Reaped { .. } | Finding::Failed { .. }));
        if self.options.dry_run || !worth {
            return Ok(());
        }
        self.memory
            .save(&self.places.state_dir)
            .with_context(|| format!("cannot remember in {}", self.places.state_dir.display()))
    }
}

/// Whether a lock is held for longer than twice the run's own deadline.
fn outlived(owner: &Owner, now: Timestamp) -> bool {
    let allowed = owner.deadline.duration_since(owner.since).saturating_mul(2);
    now.duration_since(owner.since) > allowed.max(SignedDuration::from_secs(60))
}
