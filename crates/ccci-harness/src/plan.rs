//! What the keeper decided, for the worker and the reaper: `run.json`.
//!
//! The parts of a run are separate processes, and each may have to go on when the others are gone.
//! So everything that they need is in the run directory and nothing is in memory alone. (The worker, a copy of the
//! keeper, does not read it again.)

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ccci_core::config::forge::Repository;
use ccci_core::config::{Places, Settings, duration};
use ccci_core::lock::LockPath;
use ccci_core::name::{BaseDomain, Domain, LockName, NameError, RecipeName};
use ccci_core::process::Programs;
use ccci_core::process::procfs::Process;
use ccci_core::process::tagged::{self, DOMAIN_VAR, LOCK_VAR, RUN_ID_VAR, Tag};
use ccci_core::rundir::{RunDir, file};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::history::Expected;
use crate::outcome::Tier;

/// Which engine deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineName {
    /// abra, as Co-op Cloud's operators deploy.
    Abra,
    /// The recipe's compose files, straight onto Docker Swarm.
    Swarm,
    /// Plain processes, declared in the test folder. Needs nothing installed.
    Local,
}

impl std::fmt::Display for EngineName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Abra => "abra",
            Self::Swarm => "swarm",
            Self::Local => "local",
        })
    }
}

/// What a run does under its lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a process has one plan")]
pub(crate) enum Job {
    /// Tests a recipe.
    Recipe(RecipeJob),
    /// Runs somebody's own command.
    Guard(GuardJob),
}

/// A recipe's test run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecipeJob {
    /// The recipe's name.
    pub(crate) recipe: String,
    /// The app's domain.
    pub(crate) domain: String,
    /// The pull request; `0` when there is none.
    pub(crate) pr: String,
    /// The ref, as it was asked for; empty for the source's own HEAD.
    #[serde(rename = "ref")]
    pub(crate) git_ref: String,
    /// Where the recipe is fetched from.
    pub(crate) src: String,
    /// Copy the clone that is staged in the canonical `ABRA_DIR` instead of fetching.
    pub(crate) skip_fetch: bool,
    /// The recipe's test folder.
    pub(crate) tests: PathBuf,
    /// Which stages run.
    pub(crate) stages: Vec<Tier>,
    /// Begin with the kept data of a release, where there are any; nothing hangs on such a run.
    #[serde(default)]
    pub(crate) quick: bool,
    /// The version to upgrade from, if it was asked for.
    pub(crate) base_version: Option<String>,
    /// How it is deployed.
    pub(crate) engine: EngineName,
    /// Variables for the app's env file, from whoever asked for the run.
    pub(crate) extra_env: BTreeMap<String, String>,
    /// How long the app stays up after the tests, for a person to look at.
    #[serde(with = "duration::optional")]
    pub(crate) keep: Option<Duration>,
    /// The repository that the pull request is of, where it is not the settings' own.
    #[serde(default)]
    pub(crate) repository: Option<Repository>,
    /// The CI's page of the build that this run is part of.
    #[serde(default)]
    pub(crate) link: Option<String>,
    /// Who asked for it and which commit of whom they approved, in the bridge's words.
    #[serde(default)]
    pub(crate) approval: Option<String>,
}

/// Somebody's own command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GuardJob {
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// Where it runs.
    pub(crate) dir: PathBuf,
    /// What cleans up after it, for `sh -c`.
    pub(crate) teardown: Option<String>,
    /// Whether only what went wrong is said.
    #[serde(default)]
    pub(crate) quiet: bool,
    /// Whether the command has the caller's stdin.
    #[serde(default)]
    pub(crate) stdin: bool,
}

/// Everything about a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The run.
    pub(crate) run_id: String,
    /// The name of its lock file.
    pub(crate) lock: String,
    /// The keeper.
    pub(crate) keeper: i32,
    /// When its process began, in clock ticks since boot: with the pid it names one process for ever.
    #[serde(default)]
    pub(crate) keeper_ticks: Option<u64>,
    /// When the run was asked for, in nanoseconds of the clock since boot: the order in which runs supersede.
    #[serde(default)]
    pub(crate) arrived: u64,
    /// The children that the caller had, where a shell became the keeper by an exec: none of the run's.
    #[serde(default)]
    pub(crate) before: Vec<Process>,
    /// When the run began.
    pub(crate) started: Timestamp,
    /// The longest it may take, from the moment it has the lock.
    #[serde(with = "duration")]
    pub(crate) deadline: Duration,
    /// The host's settings.
    pub(crate) settings: Settings,
    /// Where everything is.
    pub(crate) places: Places,
    /// Where Docker is, as it was found when the run began: `$HOME`, and a context in it, may go.
    pub(crate) docker_host: Option<String>,
    /// Where programs are, as they were found when the run began.
    #[serde(default)]
    pub(crate) programs: Programs,
    /// Whether stdout belongs to data or to the guarded command, so that talk goes to stderr.
    pub(crate) stdout_is_data: bool,
    /// How long its phases usually take.
    #[serde(default)]
    pub(crate) expected: Expected,
    /// What it does.
    #[serde(flatten)]
    pub(crate) job: Job,
}

impl Plan {
    /// The lock's name.
    ///
    /// # Errors
    /// When the file was written by something else.
    pub(crate) fn lock_path(&self) -> Result<LockPath, NameError> {
        let base = BaseDomain::new(&self.settings.base_domain)?;
        let name =
            LockName::parse(&self.lock, &base).ok_or_else(|| NameError::Domain(self.lock.clone(), base.to_string()))?;
        Ok(LockPath::new(&self.places.lock_dir, name))
    }

    /// What the processes of its runs carry of the lock.
    pub(crate) fn lock_mark(&self) -> String {
        tagged::lock_mark(&self.places.lock_dir.join(&self.lock))
    }

    /// What is excluded on: the domain or the guard's name.
    pub(crate) fn subject(&self) -> String {
        match &self.job {
            Job::Recipe(job) => job.domain.clone(),
            Job::Guard(_) => self.lock.trim_start_matches("cc-ci-guard-").trim_end_matches(".lock").to_owned(),
        }
    }

    /// The app's domain, for a recipe's run.
    pub(crate) fn domain(&self) -> Option<Domain> {
        match self.lock_path().ok()?.name() {
            LockName::App(domain) => Some(domain.clone()),
            LockName::Guard(_) => None,
        }
    }

    /// Whether something of the run may be there when the host comes back from a power cut. A guard without a teardown
    /// has processes and nothing else.
    pub(crate) const fn outlasts_the_host(&self) -> bool {
        !matches!(&self.job, Job::Guard(GuardJob { teardown: None, .. }))
    }

    /// The tag of this run's processes.
    pub(crate) fn tag(&self) -> Tag {
        Tag::Run {
            run_id: self.run_id.clone(),
            lock: self.lock_mark(),
            keeper: self.keeper.cast_unsigned(),
            before: self.before.clone(),
        }
    }

    /// The variables that tag this run's processes.
    pub(crate) fn tag_vars(&self) -> [(&'static str, String); 3] {
        [(RUN_ID_VAR, self.run_id.clone()), (DOMAIN_VAR, self.subject()), (LOCK_VAR, self.lock_mark())]
    }

    /// The domain of an app that this run's own depends on: its own for each app that needs one.
    pub(crate) fn dependency_domain(&self, recipe: &RecipeName) -> Option<Domain> {
        let Job::Recipe(job) = &self.job else { return None };
        let base = BaseDomain::new(&self.settings.base_domain).ok()?;
        Some(Domain::derive(recipe, &job.pr, &job.domain, &base))
    }

    /// Reads the plan of the run whose directory this is.
    ///
    /// # Errors
    /// When it is not there or cannot be understood.
    pub(crate) fn read(dir: &RunDir) -> anyhow::Result<Self> {
        let plan = dir.read_json(file::RUN)?;
        plan.ok_or_else(|| anyhow::anyhow!("{} is missing: not a run's directory", dir.join(file::RUN).display()))
    }
}
