//! The recipe's way through a run: fetch → test folder → base → app → deploy → tiers.

use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::abra::Abra;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::policy::{Policy, judge_tree};
use ccci_core::process::{Job as Process, wait_ready};
use ccci_core::rundir::{RunDir, file};
use ccci_core::weaken::{self, Protection};

use super::dependencies::{Dependencies, Provider};
use super::stage::Stages;
use super::{kept, leaks, lint, screenshot};
use crate::console::Console;
use crate::engine::{self, App, EngineError, shape};
use crate::event::{Event, WorkerEnd, report};
use crate::exit::Failure;
use crate::outcome::{Outcome, Rung, Tier};
use crate::plan::{EngineName, Plan, RecipeJob};
use crate::recipe::Folder;
use crate::recipe::source::{Source, SourceError};

/// What ends a run before its tiers have spoken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The arguments or the test folder are wrong.
    #[error("{0}")]
    Usage(String),
    /// The host cannot do it.
    #[error("{0}")]
    Host(String),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::NoSuch(_) => Self::Usage(error.to_string()),
            SourceError::Host(_) => Self::Host(error.to_string()),
        }
    }
}

/// Goes through the whole run; whatever happens, the caller becomes the reaper.
pub(super) fn run(
    plan: &Plan,
    job: &RecipeJob,
    dir: &RunDir,
    lock: &AppLock,
    up: &mut Dependencies,
    console: &mut Console,
) -> WorkerEnd {
    let end = match through(plan, job, dir, lock, up, console) {
        Ok(()) => WorkerEnd::Finished,
        Err(Stop::Usage(message)) => WorkerEnd::Usage { message },
        Err(Stop::Host(message)) => WorkerEnd::Host { message: console.clean(&message) },
    };
    if let WorkerEnd::Usage { message } | WorkerEnd::Host { message } = &end {
        console.say(&format!("!! {message}"));
    }
    end
}

fn through(
    plan: &Plan,
    job: &RecipeJob,
    dir: &RunDir,
    lock: &AppLock,
    up: &mut Dependencies,
    console: &mut Console,
) -> Result<(), Stop> {
    let mut phases = Phases { dir, lock };
    phases.begin("fetch");
    let abra =
        AbraDir::make(plan, dir).map_err(|error| Stop::Host(format!("cannot make the per-run ABRA_DIR: {error}")))?;
    let staged = plan.places.abra_dir.join("recipes").join(&job.recipe).display().to_string();
    let from = if job.skip_fetch { &staged } else { &job.src };
    let source = Source::fetch(from, &job.git_ref, &abra.recipe(&job.recipe), console)?;
    for caveat in source.caveats()? {
        console.say(&format!("!! {caveat}"));
        report(dir, Event::Note { text: caveat });
    }
    let folder = test_folder(plan, job, dir, &source, console)?;
    let kept = match job.quick {
        true => Some(kept::look(plan, job, &folder, &source, dir, console)?),
        false => None,
    };
    let base = match &kept {
        Some(Ok(kept)) => Ok(kept.release.clone()),
        Some(Err(why)) if job.stages == Tier::QUICK => Err(why.clone()),
        _ => base(job, &folder, &source)?,
    };
    let kept = kept.and_then(Result::ok);
    report(
        dir,
        Event::Version {
            version: source.head.version.clone(),
            commit: source.head.commit.clone(),
            base: base.as_ref().ok().map(|release| release.version.clone()),
        },
    );
    console.say(&format!("== {} {} (commit {:.12}) ==", job.recipe, source.head.version, source.head.commit));
    // The head's tree is here now, and nothing has read it yet but git.
    let found = judge_tree(source.tree(), &Policy::of(&plan.settings.policy, &job.recipe));
    let refused = found.accept().err();
    let linted = if refused.is_some() {
        Outcome::unverified("the policy refuses the recipe")
    } else {
        if Abra::installed().is_some() {
            phases.begin("lint");
        }
        lint::rung(&source, &job.recipe, console)
    };
    report(dir, Event::Lint { outcome: linted });

    let domain = plan.domain().ok_or_else(|| Stop::Usage(format!("{} is not a domain of this host", job.domain)))?;
    let engine = engine::named(job.engine, plan, dir)?;
    let needed: &[_] = if refused.is_some() { &[] } else { &folder.toml.dependencies };
    if !needed.is_empty() {
        phases.begin("dependencies");
        let provider = Provider { plan, job, dir, abra: &abra, engine: engine.as_ref(), lock };
        let provided = provider.provide(needed, up, console);
        provided.inspect_err(|_| leaks::search(dir, &up.secrets, console))?;
    }
    let own = folder.toml.env.clone().into_iter().chain(job.extra_env.clone()).collect();
    let fill = |vars| match &refused {
        None => shape::fill(vars, domain.as_str(), &up.domains).map_err(Stop::Usage),
        // Nothing is deployed, and nothing that it would depend on is.
        Some(_) => Ok(BTreeMap::new()),
    };
    let (env, upgrade_env) = (fill(&own)?, fill(&folder.toml.upgrade.env)?);
    let record = file::PLANNED.to_owned();
    let secrets = kept.as_ref().map(|kept| kept.secrets.clone()).unwrap_or_default();
    let tree = source.tree().to_owned();
    let app = App { domain, folder: &folder, dir, tree, env, upgrade_env, record, secrets };
    let mut stages = Stages::new(plan, job, &app, engine.as_ref(), lock, console);
    stages.begin_with(kept.as_ref());
    stages.refuse(refused);
    stages.save_for_keeping(kept::is_of_a_release(job, &source));
    let done = stages.all(&mut phases, &source, base);
    let begun_with = app.secrets.values().cloned().collect();
    let secrets = [stages.secrets(), begun_with, up.secrets.clone()].concat();
    stages.count_deploys(needed.len());
    let target = engine.target(&app);
    if let (Ok(Some(target)), Some(browser), true) = (&target, screenshot::browser(), done.is_ok()) {
        phases.begin("screenshot");
        screenshot::take(&browser, target, &folder.toml.screenshot.path, dir, stages.console());
    }
    leaks::search(dir, &secrets, stages.console());
    if done.is_ok() {
        stages.hand_on(&source);
    }
    done?;
    if let Some(target) = target?.filter(|_| job.keep.is_some()) {
        let answers = format!("== {} answers at {} (Host: {}) ==", job.recipe, target.base_url(), job.domain);
        stages.console().say(&answers);
    }
    Ok(())
}

/// The test folder, judged, with those of the recipe's own tests that the operator has approved.
fn test_folder(
    plan: &Plan,
    job: &RecipeJob,
    dir: &RunDir,
    source: &Source,
    console: &mut Console,
) -> Result<Folder, Stop> {
    let usage = |error: anyhow::Error| match Failure::of(&error) {
        Failure::Host => Stop::Host(format!("{error:#}")),
        _ => Stop::Usage(format!("{error:#}")),
    };
    let mut folder = Folder::snapshot(&job.tests, &dir.join("tests")).map_err(usage)?;
    for declined in folder.admit(source.tree(), &plan.settings.approved_tests).map_err(usage)? {
        console.say(&format!("== not run: {declined} =="));
        report(dir, Event::Note { text: format!("not run: {declined}") });
    }
    if !job.tests.is_dir() {
        console.say(&format!("== no test folder {}: the generic tests alone ==", job.tests.display()));
    }
    if job.engine == EngineName::Local && folder.toml.local.services.is_empty() {
        return Err(Stop::Usage(engine::local::NOTHING_TO_RUN.to_owned()));
    }
    if job.engine == EngineName::Local && weaken::on(Protection::Asked) {
        engine::local::expect_to_be_asked(&folder.toml).map_err(Stop::Usage)?;
    }
    preflight(&folder)?;
    expect_to_execute(dir, job, &folder)?;
    Ok(folder)
}

/// Leaves the app up for a person to look at. Its tests have spoken: whatever ends this does not
/// change the verdict.
pub(super) fn keep_up(plan: &Plan, keep: Duration, dir: &RunDir, lock: &AppLock, console: &mut Console) {
    Phases { dir, lock }.begin(KEEP);
    let left = ccci_core::config::duration::show(keep);
    console.say(&format!("== {} stays up for {left}; end it with: kill {} ==", plan.subject(), plan.keeper));
    let until = Deadline::after(keep);
    while !until.passed() {
        // A signal makes this process the reaper at once.
        let _over = wait_ready(&mut [], Some(until.left()));
    }
}

/// The phase after the tests in which the app stays up.
pub(crate) const KEEP: &str = "keep";

/// Reports the phases, in the events and in the lock's record.
pub(super) struct Phases<'run> {
    dir: &'run RunDir,
    lock: &'run AppLock,
}

impl Phases<'_> {
    pub(super) fn begin(&mut self, name: &str) {
        report(self.dir, Event::Phase { name: name.to_owned() });
        if let Err(error) = self.lock.write_phase(name) {
            tracing::warn!(%error, "the owner record is out of date");
        }
    }
}

/// The run's own `ABRA_DIR`: servers and catalogue are the host's, recipes are its own.
pub(super) struct AbraDir(std::path::PathBuf);

impl AbraDir {
    fn make(plan: &Plan, dir: &RunDir) -> std::io::Result<Self> {
        let own = dir.join("abra");
        std::fs::create_dir_all(own.join("recipes"))?;
        for shared in ["servers", "catalogue"] {
            std::os::unix::fs::symlink(plan.places.abra_dir.join(shared), own.join(shared))?;
        }
        Ok(Self(own))
    }

    /// Where a recipe's tree is.
    pub(super) fn recipe(&self, name: &str) -> std::path::PathBuf {
        self.0.join("recipes").join(name)
    }
}

/// What would fail anyway is said before anything is deployed (incident `[tool-list]`).
fn preflight(folder: &Folder) -> Result<(), Stop> {
    if !folder.needs_pytest() {
        return Ok(());
    }
    let pytest = Process::tool("python3").args(["-m", "pytest", "--version"]);
    pytest
        .run_ok(&mut |_| {})
        .map(drop)
        .map_err(|error| Stop::Host(format!("the test folder has pytest tests, and pytest is not to be had: {error}")))
}

/// Tests, hooks and what the local engine runs are copied into the run's directory and executed there.
fn expect_to_execute(dir: &RunDir, job: &RecipeJob, folder: &Folder) -> Result<(), Stop> {
    let programs = job.engine == EngineName::Local || folder.has_programs();
    let mounted = rustix::fs::statvfs(dir.path())
        .map_err(|error| Stop::Host(format!("cannot look at {}: {error}", dir.path().display())))?;
    if programs && mounted.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Err(Stop::Host(format!(
            "{} is mounted noexec, and tests and hooks are executed there: mount it without, or set runs_dir \
             (CCCI_RUNS_DIR) to a place where programs may run",
            dir.path().display()
        )));
    }
    Ok(())
}

/// The release to upgrade from, or why there is no upgrade.
fn base(
    job: &RecipeJob,
    folder: &Folder,
    source: &Source,
) -> Result<Result<crate::recipe::source::Release, String>, Stop> {
    if !job.stages.contains(&Tier::Upgrade) {
        return Ok(Err("not asked for".to_owned()));
    }
    // Then the ref itself is deployed and tested: what does not apply is the way to it.
    if let Some(reason) = folder.toml.not_applicable.get(&Rung::Upgrade) {
        return Ok(Err(reason.clone()));
    }
    let wanted = job.base_version.as_deref().or(folder.toml.upgrade.base.as_deref());
    Ok(source.base(wanted)?)
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Usage(message) => Self::Usage(message),
            EngineError::Recipe(message) | EngineError::Host(message) => Self::Host(message),
        }
    }
}
