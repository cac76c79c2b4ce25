//! Engines: how a recipe becomes a running app. All have the same lifecycle, the same results and the
//! same teardown guarantee; removal is never theirs but [`ccci_core::teardown`]'s.
//!
//! What deploys or changes an app takes `&AppLock`, and verifies it first.

pub(crate) mod abra;
pub(crate) mod converge;
pub(crate) mod door;
pub(crate) mod local;
pub(crate) mod policy;
pub(crate) mod shape;
mod sightings;
pub(crate) mod swarm;
pub(crate) mod tarball;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::config::Places;
use ccci_core::docker::DockerError;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::{AppLock, LockError};
use ccci_core::name::Domain;
use ccci_core::rundir::{RunDir, RunDirError};
use ccci_core::substrate::local::Local;
use ccci_core::substrate::swarm::Swarm;
use ccci_core::substrate::{Object, Substrate, SubstrateError};

use jiff::Timestamp;

use crate::health::Target;
use crate::plan::{EngineName, Plan};
use crate::recipe::Folder;
use crate::recipe::source::Release;

/// Why an engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The recipe's fault: the tier fails.
    #[error("{0}")]
    Recipe(String),
    /// The host's fault: the run ends with 69.
    #[error("{0}")]
    Host(String),
    /// The test folder asks for what cannot be: the run ends with 2.
    #[error("{0}")]
    Usage(String),
}

impl From<LockError> for EngineError {
    fn from(error: LockError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<DockerError> for EngineError {
    fn from(error: DockerError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<SubstrateError> for EngineError {
    fn from(error: SubstrateError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<RunDirError> for EngineError {
    fn from(error: RunDirError) -> Self {
        Self::Host(error.to_string())
    }
}

impl EngineError {
    /// Whose fault it is that Docker refused what a recipe's author wrote, such as a name or a size.
    fn of_authors(what: &str, error: DockerError) -> Self {
        match error {
            DockerError::Refused { status: 400 | 409, message, .. } => Self::Recipe(format!("{what}: {message}")),
            // Engine 20.10 has no status of its own for a name that is none.
            DockerError::Refused { message, .. } if message.contains("invalid reference format") => {
                Self::Recipe(format!("{what}: {message}"))
            }
            other => Self::Host(format!("{what}: {other}")),
        }
    }
}

/// The app under test.
#[derive(Debug)]
pub(crate) struct App<'run> {
    pub(crate) domain: Domain,
    pub(crate) folder: &'run Folder,
    pub(crate) dir: &'run RunDir,
    /// The recipe's files; what they are at the moment is what is deployed.
    pub(crate) tree: PathBuf,
    /// Variables for its env file.
    pub(crate) env: BTreeMap<String, String>,
    /// Variables for its upgrade alone.
    pub(crate) upgrade_env: BTreeMap<String, String>,
    /// The file of the run's directory in which stands what will be made of it.
    pub(crate) record: String,
    /// The values that its secrets must have, as its data are older than it; the others are generated.
    pub(crate) secrets: BTreeMap<String, String>,
}

impl App<'_> {
    /// Writes down what is about to be made (`[48]`).
    ///
    /// # Errors
    /// Then it must not be made.
    pub(crate) fn plan(&self, objects: &[Object]) -> Result<(), EngineError> {
        Ok(self.dir.record(&self.record, objects)?)
    }

    /// The recipe's name: its tree's.
    pub(crate) fn recipe(&self) -> &str {
        self.tree.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// One deploy of an app.
#[derive(Debug)]
pub(crate) struct Deployment<'run> {
    /// What is in the app's tree.
    pub(crate) release: &'run Release,
    /// What it is deployed for.
    pub(crate) role: Role,
    /// A compose file that is laid over the recipe's.
    pub(crate) overlay: Option<PathBuf>,
    /// Variables besides the env file's.
    pub(crate) env: BTreeMap<String, String>,
    /// Archives that its volumes are filled with before anything of it starts.
    pub(crate) data: Option<&'run BTreeMap<String, File>>,
}

/// What a deploy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be upgraded from, or to be depended on.
    Base,
    /// To be tested.
    Head,
}

/// Hears what a tool of an engine says, line by line.
pub(crate) type Say<'a> = dyn FnMut(&str) + 'a;

/// What is seen of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceState {
    pub(crate) name: String,
    /// How many of its tasks run, or came to the good end that they are meant to come to.
    pub(crate) running: u64,
    pub(crate) desired: u64,
    /// For how long the youngest of its running tasks has been seen to run.
    pub(crate) up: Option<Duration>,
    /// How long its health check takes to find out that it is sick.
    pub(crate) probation: Duration,
    /// What a task that is missing waits for, in the platform's words.
    pub(crate) waits_for: Option<String>,
    /// Whose fault it is that one is missing, as far as anybody knows.
    pub(crate) blame: Blame,
    /// Why it will never be there.
    pub(crate) never: Option<Never>,
    /// How often a task of it failed with none succeeding since.
    pub(crate) failures: u32,
    /// When the first of these failures was seen: of several services that fail, the first one is the reason.
    pub(crate) failing_since: Option<Deadline>,
    /// The last failure's own error.
    pub(crate) error: Option<String>,
    /// Its last log lines.
    pub(crate) log: String,
    /// How its last update goes.
    pub(crate) update: Update,
}

/// Whose fault something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Whoever wrote the recipe.
    #[default]
    Recipe,
    /// This host.
    Host,
}

/// Why a service will never be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Never {
    /// Nothing on this host can be what the recipe asks for.
    Impossible(String),
    /// This host cannot give it what it needs.
    Host(String),
    /// It ended and is not started again. It may have met with what is wrong with another.
    Ended(String),
}

/// How a service's last update goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Update {
    /// There was none, or it is done.
    #[default]
    Settled,
    /// It is registered or at work: N/N replicas mean nothing yet.
    Going,
    /// It stopped half-way or was taken back, in the platform's words.
    Failed(String),
}

/// What is seen of an app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub(crate) services: Vec<ServiceState>,
    /// The commit that it runs, as its label has it.
    pub(crate) commit: Option<String>,
    /// The version that it says it is.
    pub(crate) version: Option<String>,
}

/// A backup of an app.
#[derive(Debug)]
pub(crate) enum Archive {
    /// A file per volume, in the run's directory.
    Files(BTreeMap<String, PathBuf>),
    /// In the keeping of the host's backup bot, where nobody here can look at it.
    Kept,
}

/// Deploys, looks, saves and restores.
pub(crate) trait Engine {
    /// Makes the app's env file and secrets. Returns the secrets that no repository has, by name: their values
    /// nobody may ever see.
    ///
    /// # Errors
    /// [`EngineError`].
    fn create(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        release: &Release,
        say: &mut Say<'_>,
    ) -> Result<BTreeMap<String, String>, EngineError>;

    /// Deploys what is in the app's tree.
    ///
    /// # Errors
    /// [`EngineError`].
    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        deployment: &Deployment<'_>,
        say: &mut Say<'_>,
    ) -> Result<(), EngineError>;

    /// Looks at the app, and does what the platform does by itself: starts again what died.
    ///
    /// # Errors
    /// [`EngineError`].
    fn observe(&self, lock: &AppLock, app: &App<'_>) -> Result<Observation, EngineError>;

    /// The full id of the commit that the app runs.
    ///
    /// # Errors
    /// [`EngineError`].
    fn commit(&self, lock: &AppLock, app: &App<'_>) -> Result<Option<String>, EngineError> {
        Ok(self.observe(lock, app)?.commit)
    }

    /// Waits until something may have changed since `since`, but not longer than `at_most`. Whether
    /// something has.
    ///
    /// # Errors
    /// [`EngineError`].
    fn wait_for_change(&self, since: Timestamp, at_most: Duration) -> Result<bool, EngineError>;

    /// The last lines that a service said, for who waited for it in vain. Empty where there are none.
    fn last_lines(&self, app: &App<'_>, service: &ServiceState) -> String;

    /// Where the app answers; `None` when nothing of it can be asked, or not yet.
    ///
    /// # Errors
    /// [`EngineError`].
    fn target(&self, app: &App<'_>) -> Result<Option<Target>, EngineError>;

    /// Why nobody can ask the app that is deployed, and what to do about it; `None` when somebody can.
    ///
    /// # Errors
    /// [`EngineError`].
    fn unreachable(&self, app: &App<'_>) -> Result<Option<String>, EngineError>;

    /// Why there is nothing to back up; `None` when there is something.
    ///
    /// # Errors
    /// [`EngineError`].
    fn nothing_to_save(&self, app: &App<'_>) -> Result<Option<String>, EngineError>;

    /// Saves the app's data; files, if any, go to `dir`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn backup(&self, lock: &AppLock, app: &App<'_>, dir: &Path, say: &mut Say<'_>) -> Result<Archive, EngineError>;

    /// Puts the app's data back as they were saved.
    ///
    /// # Errors
    /// [`EngineError`].
    fn restore(&self, lock: &AppLock, app: &App<'_>, archive: &Archive, say: &mut Say<'_>) -> Result<(), EngineError>;

    /// The data of a backup that was made just now, as files that an app of any domain can be given: by the
    /// volumes' names in the recipe.
    ///
    /// # Errors
    /// [`EngineError`].
    fn portable(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        archive: &Archive,
        dir: &Path,
        most: u64,
    ) -> Result<BTreeMap<String, PathBuf>, EngineError>;
}

/// Why an app without volumes is not backed up.
const NO_VOLUMES: &str = "the app has no volumes";
/// Why an app is not backed up that does not ask for it.
const NOT_ASKED_FOR: &str = "no service of the recipe has the label backupbot.backup=true";

/// The engine of this name.
///
/// # Errors
/// [`EngineError::Host`] when the host does not have what it needs.
pub(crate) fn named(name: EngineName, plan: &Plan, dir: &RunDir) -> Result<Box<dyn Engine>, EngineError> {
    Ok(match name {
        EngineName::Abra => Box::new(abra::AbraEngine::find(plan, dir)?),
        EngineName::Local => Box::new(local::LocalEngine::new(&plan.places)),
        EngineName::Swarm => Box::new(swarm::SwarmEngine::find(plan)?),
    })
}

/// What an app of this engine is made of, for its teardown.
pub(crate) fn substrate(name: EngineName, places: &Places) -> Vec<Box<dyn Substrate>> {
    match name {
        EngineName::Local => vec![Box::new(Local::new(places))],
        // Without Docker there is nothing that could be looked at; every question is then an error.
        EngineName::Abra | EngineName::Swarm => {
            Swarm::find(places).map(|swarm| Box::new(swarm) as Box<dyn Substrate>).into_iter().collect()
        }
    }
}

/// A backup that another engine made.
fn not_here() -> EngineError {
    EngineError::Host("the backup is in the keeping of the backup bot, which this engine does not know".to_owned())
}

/// A file that only its owner may read: env files and stack files hold what is nobody else's business.
fn private_file(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let written = std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path))
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| EngineError::Host(format!("cannot write {}: {error}", path.display())))
}
