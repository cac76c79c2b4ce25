//! The apps that a recipe needs: deployed before it, each under a domain and a lock of its own.
//!
//! A dependency is written down before anything else is done about it (`[48]`): its taker-down works from
//! that record. Its lock is the worker's alone; the reaper takes it anew, and whoever gets it in between
//! finds an app whose run is over. So the law holds for it as for any app.

use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::{AppLock, LockError, Owner};
use ccci_core::name::{Domain, LockName, RecipeName};
use ccci_core::process::tagged::{self, Tag};
use ccci_core::rundir::{RunDir, file};
use ccci_core::teardown::{Teardown, take_down};
use serde::{Deserialize, Serialize};

use super::pipeline::{AbraDir, Stop};
use crate::console::Console;
use crate::engine::door::{self, Asked};
use crate::engine::{self, App, Deployment, Engine, EngineError, Role, converge, shape};
use crate::plan::{Plan, RecipeJob};
use crate::recipe::source::Source;
use crate::recipe::{Dependency, Folder};

/// A line of the run's record of dependencies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it is.
    pub(crate) recipe: String,
    /// Where it is.
    pub(crate) domain: String,
}

impl Record {
    /// The file of the run's directory in which stands what was to be made of it.
    pub(crate) fn planned(&self) -> String {
        format!("planned-{}.jsonl", self.domain)
    }
}

/// The dependencies of a run, up.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// Held until the worker is the reaper.
    pub(super) locks: Vec<AppLock>,
    /// Where each is, by recipe.
    pub(super) domains: BTreeMap<String, String>,
    /// The values of their secrets.
    pub(super) secrets: Vec<String>,
}

/// Who brings dependencies up.
pub(super) struct Provider<'run> {
    pub(super) plan: &'run Plan,
    pub(super) job: &'run RecipeJob,
    pub(super) dir: &'run RunDir,
    pub(super) abra: &'run AbraDir,
    pub(super) engine: &'run dyn Engine,
    /// The lock of the app that needs them.
    pub(super) lock: &'run AppLock,
}

impl Provider<'_> {
    /// Brings up everything that the recipe needs, in order. What is up when this fails is in `up`.
    pub(super) fn provide(
        &self,
        wanted: &[Dependency],
        up: &mut Dependencies,
        console: &mut Console,
    ) -> Result<(), Stop> {
        wanted.iter().try_for_each(|dependency| self.one(dependency, up, console))
    }

    fn one(&self, wanted: &Dependency, up: &mut Dependencies, console: &mut Console) -> Result<(), Stop> {
        let name = RecipeName::new(&wanted.recipe).map_err(|error| Stop::Usage(error.to_string()))?;
        let domain = self
            .plan
            .dependency_domain(&name)
            .ok_or_else(|| Stop::Usage(format!("{name} can have no domain on this host")))?;
        let record = Record { recipe: name.to_string(), domain: domain.to_string() };
        self.dir.record(file::DEPENDENCIES, std::slice::from_ref(&record)).map_err(EngineError::from)?;
        up.locks.push(self.take(&domain, &wanted.recipe)?);
        let Some(lock) = up.locks.last() else { return Ok(()) };
        self.clear(lock, &domain)?;

        let source = self.fetch(wanted, console)?;
        let tests = self.job.tests.with_file_name(&wanted.recipe);
        let folder = Folder::snapshot(&tests, &self.dir.join(&format!("tests-{name}")))
            .map_err(|error| Stop::Usage(format!("{error:#}")))?;
        let env = shape::fill(&folder.toml.env, domain.as_str(), &up.domains).map_err(Stop::Usage)?;
        console.say(&format!("== dependency {name} {} on {domain} ==", source.head.version));
        let tree = source.tree().to_owned();
        let app = App {
            domain,
            folder: &folder,
            dir: self.dir,
            tree,
            env,
            upgrade_env: BTreeMap::new(),
            record: record.planned(),
            secrets: BTreeMap::new(),
        };
        let deployed = self.deploy(lock, &app, &source, &mut up.secrets, console);
        deployed.map_err(|error| Stop::Host(format!("dependency {name}: {error}")))?;
        up.domains.insert(record.recipe, record.domain);
        Ok(())
    }

    /// Waits for the lock: at most a janitor has it, which takes away what an earlier run left.
    fn take(&self, domain: &Domain, recipe: &str) -> Result<AppLock, Stop> {
        let at = ccci_core::lock::LockPath::new(&self.plan.places.lock_dir, LockName::App(domain.clone()));
        let taken = take_within(&at, self.plan.settings.teardown_budget);
        let lock = taken.map_err(|error| Stop::Host(format!("dependency {recipe}: {error}")))?;
        if let Some(owner) = self.lock.read_owner().map_err(|error| Stop::Host(error.to_string()))? {
            let owner = Owner { recipe: recipe.to_owned(), phase: "dependency".to_owned(), ..owner };
            lock.write_owner(&owner).map_err(EngineError::from)?;
        }
        Ok(lock)
    }

    /// Removes what an earlier run left of it.
    fn clear(&self, lock: &AppLock, domain: &Domain) -> Result<(), Stop> {
        let substrates = engine::substrate(self.job.engine, &self.plan.places);
        let teardown = Teardown {
            lock,
            substrates: &substrates,
            domain,
            planned: &[],
            tag: &Tag::Lock(tagged::lock_mark(lock.at().path())),
            grace: Duration::ZERO,
            budget: self.plan.settings.teardown_budget,
        };
        let receipt = take_down(&teardown, &mut |_| {});
        match receipt.residue.first() {
            None => Ok(()),
            Some(left) => Err(Stop::Host(format!("an earlier run left {} of {domain}: {}", left.what, left.why))),
        }
    }

    fn fetch(&self, wanted: &Dependency, console: &mut Console) -> Result<Source, Stop> {
        let staged = self.plan.places.abra_dir.join("recipes").join(&wanted.recipe);
        let from = if self.job.skip_fetch {
            staged.display().to_string()
        } else {
            self.plan.settings.recipe_url.replace("{recipe}", &wanted.recipe)
        };
        let version = wanted.version.as_deref().unwrap_or_default();
        let source = Source::fetch(&from, version, &self.abra.recipe(&wanted.recipe), console)?;
        Ok(if version.is_empty() { source.newest()? } else { source })
    }

    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        source: &Source,
        secrets: &mut Vec<String>,
        console: &mut Console,
    ) -> Result<(), EngineError> {
        engine::policy::expect_tree(app, &self.plan.settings.policy)?;
        let made = self.engine.create(lock, app, &source.head, &mut |line| console.say(&format!("     | {line}")))?;
        for secret in made.into_values() {
            console.learn(&secret);
            secrets.push(secret);
        }
        super::stage::count_deploy(app)?;
        let (release, overlay) = (&source.head, app.folder.overlay());
        let deployment = Deployment { release, role: Role::Base, overlay, env: BTreeMap::new(), data: None };
        self.engine.deploy(lock, app, &deployment, &mut |line| console.say(&format!("     | {line}")))?;
        let timeouts = &app.folder.toml.timeouts;
        let asked = door::of(self.engine, app)?;
        converge::settled(self.engine, lock, app, timeouts.deploy)?;
        match asked {
            Asked::Health | Asked::Probes(_) => converge::healthy(self.engine, lock, app, timeouts.http),
            Asked::Nothing(_) => Ok(()),
        }
    }
}

/// Takes a lock that nobody has for long.
///
/// # Errors
/// [`LockError::Held`] when it was not free within the limit.
pub(crate) fn take_within(at: &ccci_core::lock::LockPath, limit: Duration) -> Result<AppLock, LockError> {
    use std::os::fd::AsFd as _;
    let until = Deadline::after(limit);
    match at.try_acquire(true) {
        Ok(Some(lock)) => return Ok(lock),
        Ok(None) | Err(LockError::Held { .. }) => {}
        Err(other) => return Err(other),
    }
    let mut waiting = at.wait()?;
    loop {
        if let Some(outcome) = waiting.outcome() {
            return outcome;
        }
        if until.passed() {
            return Err(LockError::Held { path: at.path().to_owned() });
        }
        let mut bell = [nix::poll::PollFd::new(waiting.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _woken = ccci_core::process::wait_ready(&mut bell, Some(until.left()));
    }
}
