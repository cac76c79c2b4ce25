//! From arguments and environment to a [`Plan`]: who this run is and what it was asked for.
//!
//! Everything relative is resolved here, against the caller's directory; from then on the run works
//! from `/` and depends on nothing of the caller's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use ccci_core::abra::Abra;
use ccci_core::config::{Places, Settings};
use ccci_core::docker::{Docker, Endpoint};
use ccci_core::lifetime::clock::since_boot;
use ccci_core::name::{BaseDomain, Domain, GuardName, LockName, RecipeName, RunId};
use ccci_core::process::procfs::Process;
use ccci_core::process::programs;
use ccci_core::process::tagged::RUN_ID_VAR;
use ccci_core::process::tree;
use jiff::Timestamp;

use crate::cli::{EngineChoice, Guard, Holding, Run};
use crate::exit::Usage;
use crate::history::Expected;
use crate::outcome::Tier;
use crate::plan::{EngineName, GuardJob, Job, Plan, RecipeJob};

/// Where the test folders are, unless somebody says otherwise.
const TESTS_DIR: &str = "tests/recipes";

/// A run as it was asked for, before it has a directory.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id it would like.
    pub(crate) id: RunId,
    /// All the rest; the run id in it is still the wished one.
    pub(crate) plan: Plan,
}

/// The request of `cc-ci-run run`.
///
/// # Errors
/// What is wrong with it, for the person who asked.
pub(crate) fn of_run(run: Run, mut settings: Settings, cwd: &Path) -> anyhow::Result<Request> {
    apply(&mut settings, &run.holding);
    let recipe = RecipeName::new(&run.recipe)?;
    let base = BaseDomain::new(&settings.base_domain)?;
    ensure!(
        !run.git_ref.starts_with('-') && !run.git_ref.contains(char::is_whitespace),
        "`{}` is not a git ref",
        run.git_ref
    );
    let domain = Domain::derive(&recipe, &run.pr, &run.git_ref, &base);
    let src = match run.src {
        Some(src) if is_remote(&src) => src,
        Some(src) => {
            let path = cwd.join(&src);
            path.canonicalize().with_context(|| format!("--src {src}: no such folder"))?.display().to_string()
        }
        None => settings.recipe_url.replace("{recipe}", recipe.as_str()),
    };
    let docker = Endpoint::find().map_err(|error| anyhow::anyhow!("{error}"));
    let engine = choose_engine(run.engine, docker.as_ref().ok().and_then(Option::as_ref));
    let docker_host = match (engine, docker) {
        (EngineName::Local, _) => None,
        (_, found) => found?.map(|endpoint| endpoint.to_string()),
    };
    let tests_dir = cwd.join(run.tests_dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(TESTS_DIR.into()));
    let stages = stages(&run.stages, run.quick);
    let job = Job::Recipe(RecipeJob {
        recipe: recipe.to_string(),
        domain: domain.to_string(),
        pr: run.pr,
        git_ref: run.git_ref,
        src,
        skip_fetch: std::env::var("CCCI_SKIP_FETCH").is_ok_and(|value| value == "1"),
        tests: tests_dir.join(recipe.as_str()),
        stages,
        quick: run.quick,
        base_version: run.version_from.filter(|version| !version.is_empty()),
        engine,
        extra_env: run.env.into_iter().filter(|(name, _)| !name.is_empty()).collect(),
        keep: run.keep,
        repository: run.repository,
        link: std::env::var("DRONE_BUILD_LINK").ok().filter(|link| !link.is_empty()),
        // Shown and nothing else: what it says was decided before the build was started.
        approval: std::env::var("CCCI_APPROVAL").ok().filter(|text| !text.is_empty()),
    });
    let build = std::env::var("DRONE_BUILD_NUMBER").ok().filter(|number| !number.is_empty());
    let fallback = build.unwrap_or_else(|| format!("manual-{}", std::process::id()));
    let keep = run.keep.unwrap_or_default();
    let plan = plan(settings, &LockName::App(domain), job, run.output.json)?;
    // What the app stays up for comes on top: the tests keep their time.
    let plan = Plan { docker_host, deadline: plan.deadline.saturating_add(keep), ..plan };
    Ok(Request { id: run_id(&fallback)?, plan })
}

/// The request of `cc-ci-run guard`.
///
/// # Errors
/// What is wrong with it, for the person who asked.
pub(crate) fn of_guard(guard: Guard, mut settings: Settings, cwd: &Path) -> anyhow::Result<Request> {
    apply(&mut settings, &guard.holding);
    let name = GuardName::new(&guard.name)?;
    let id = format!("guard-{}-{}", guard.name.chars().take(40).collect::<String>(), std::process::id());
    let job = Job::Guard(GuardJob {
        command: guard.command,
        dir: cwd.to_owned(),
        teardown: guard.teardown,
        quiet: guard.quiet,
        stdin: !guard.no_stdin,
    });
    Ok(Request { id: RunId::new(&id)?, plan: plan(settings, &LockName::Guard(name), job, true)? })
}

fn plan(settings: Settings, lock: &LockName, job: Job, stdout_is_data: bool) -> anyhow::Result<Plan> {
    let places = Places::find(&settings)?;
    Ok(Plan {
        run_id: String::new(),
        lock: lock.file_name(),
        keeper: nix::unistd::getpid().as_raw(),
        keeper_ticks: Some(Process::own().start_ticks),
        arrived: u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX),
        before: tree::own_children(),
        started: Timestamp::now(),
        deadline: settings.deadline,
        settings,
        docker_host: None,
        programs: programs().clone(),
        stdout_is_data,
        expected: match &job {
            // What is usual is so for whole runs.
            Job::Recipe(job) if job.quick => Expected::default(),
            Job::Recipe(job) => Expected::of(&places.runs_dir, &job.recipe, &job.engine.to_string()),
            Job::Guard(_) => Expected::default(),
        },
        places,
        job,
    })
}

/// The stages that were asked for by name, with those that they need; else those of a quick run, or all.
fn stages(named: &[Tier], quick: bool) -> Vec<Tier> {
    let wanted = match (named.is_empty(), quick) {
        (false, _) => named,
        (true, true) => &Tier::QUICK,
        (true, false) => &Tier::ALL,
    };
    let needed = |tier: Tier| wanted.iter().any(|wanted| *wanted == tier || wanted.needs().contains(&tier));
    Tier::ALL.into_iter().filter(|tier| needed(*tier)).collect()
}

/// `auto`: where this node can deploy onto a Swarm, by abra if it is installed; else `local`.
fn choose_engine(wanted: EngineChoice, docker: Option<&Endpoint>) -> EngineName {
    let swarm = || {
        docker.is_some_and(|endpoint| Docker::new(endpoint.clone()).info().is_ok_and(|info| info.swarm.is_manager()))
    };
    match wanted {
        EngineChoice::Local => EngineName::Local,
        EngineChoice::Swarm => EngineName::Swarm,
        EngineChoice::Abra => EngineName::Abra,
        EngineChoice::Auto if Abra::installed().is_some() && swarm() => EngineName::Abra,
        EngineChoice::Auto if swarm() => EngineName::Swarm,
        EngineChoice::Auto => EngineName::Local,
    }
}

fn apply(settings: &mut Settings, holding: &Holding) {
    if let Some(deadline) = holding.deadline {
        settings.deadline = deadline;
    }
    if let Some(timeout) = holding.wait_timeout {
        settings.wait_timeout = Some(timeout);
    }
    if let Some(conflict) = holding.on_conflict {
        settings.on_conflict = conflict.into();
    }
}

fn run_id(fallback: &str) -> anyhow::Result<RunId> {
    let wished = std::env::var(RUN_ID_VAR).ok().filter(|id| !id.is_empty());
    Ok(RunId::new(wished.as_deref().unwrap_or(fallback))?)
}

fn is_remote(src: &str) -> bool {
    src.contains("://") || (src.contains('@') && src.contains(':'))
}

/// The caller's directory, before the guards leave it.
///
/// # Errors
/// When it is gone.
pub(crate) fn caller_dir() -> anyhow::Result<PathBuf> {
    std::env::current_dir()
        .context("the directory that this was started in is gone or closed to this user: start it in one that is there")
        .context(Usage)
}

/// What the CI runner leaves of its step's time, once the teardown's share is put aside. `None` when
/// the runner's limit is not known.
pub(crate) fn step_left(settings: &Settings) -> Option<Duration> {
    let limit = settings.step_limit?;
    let started: i64 = std::env::var("DRONE_STAGE_STARTED").ok()?.parse().ok()?;
    Some(left_of(limit, settings.teardown_budget, Timestamp::now().as_second().saturating_sub(started)))
}

fn left_of(limit: Duration, teardown: Duration, gone: i64) -> Duration {
    let gone = Duration::from_secs(u64::try_from(gone).unwrap_or(0));
    limit.saturating_sub(teardown).saturating_sub(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teardown_gets_its_share_of_the_step() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(left_of(minutes(60), minutes(10), 20 * 60), minutes(30));
        assert_eq!(left_of(minutes(60), minutes(10), 3600), Duration::ZERO);
        assert_eq!(left_of(minutes(60), minutes(10), -5), minutes(50), "a clock that runs behind");
    }

    #[test]
    fn a_quick_run_leaves_backup_and_restore_out_unless_stages_are_named() {
        assert_eq!(stages(&[], true), [Tier::Install, Tier::Upgrade, Tier::Custom]);
        assert_eq!(stages(&[Tier::Backup], true), [Tier::Install, Tier::Backup]);
        assert_eq!(stages(&[], false), Tier::ALL);
    }

    #[test]
    fn a_stage_brings_those_that_it_needs_in_their_order_and_once() {
        use Tier::{Backup, Custom, Install, Restore, Upgrade};
        assert_eq!(stages(&[Restore], false), [Install, Backup, Restore]);
        assert_eq!(stages(&[Custom, Custom, Upgrade], false), [Install, Upgrade, Custom]);
        assert_eq!(stages(&[Install], false), [Install]);
    }

    #[test]
    fn urls_and_folders_are_told_apart() {
        for url in ["https://example.org/x.git", "ssh://git@example.org/x", "git@example.org:x.git", "file:///x"] {
            assert!(is_remote(url), "{url}");
        }
        for folder in ["hello", "./hello", "/srv/hello", "../x"] {
            assert!(!is_remote(folder), "{folder}");
        }
    }
}
