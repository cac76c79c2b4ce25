//! Engines: how a recipe becomes a running app. All have the same lifecycle, the same results and the
//! same teardown guarantee; removal is never theirs but [`ccci_core::teardown`]'s.
//!
//! What deploys or changes an app takes `&AppLock`, and verifies it first.

pub(crate) mod converge;
pub(crate) mod local;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ccci_core::lock::{AppLock, LockError};
use ccci_core::name::Domain;
use ccci_core::rundir::{RunDir, RunDirError};

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
}

impl From<LockError> for EngineError {
    fn from(error: LockError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<RunDirError> for EngineError {
    fn from(error: RunDirError) -> Self {
        Self::Host(error.to_string())
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
}

/// What is seen of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceState {
    pub(crate) name: String,
    pub(crate) running: u64,
    pub(crate) desired: u64,
    /// How often a task of it failed with none succeeding since.
    pub(crate) failures: u32,
    /// The last failure's own error.
    pub(crate) error: Option<String>,
    /// Its last log lines.
    pub(crate) log: String,
}

/// What is seen of an app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub(crate) services: Vec<ServiceState>,
    /// The commit that it runs.
    pub(crate) commit: Option<String>,
}

/// An archive of the app's volumes.
#[derive(Debug)]
pub(crate) struct Archive {
    /// A file per volume.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

/// Deploys, looks, saves and restores.
pub(crate) trait Engine {
    /// Makes the app's env file and secrets. Returns the secrets' values, which nobody may ever see.
    ///
    /// # Errors
    /// [`EngineError`].
    fn create(&self, lock: &AppLock, app: &App<'_>) -> Result<Vec<String>, EngineError>;

    /// Deploys what is in the app's tree, with these variables besides the env file's.
    ///
    /// # Errors
    /// [`EngineError`].
    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        release: &Release,
        env: &BTreeMap<String, String>,
    ) -> Result<(), EngineError>;

    /// Looks at the app, and does what the platform does by itself: starts again what died.
    ///
    /// # Errors
    /// [`EngineError`].
    fn observe(&self, lock: &AppLock, app: &App<'_>) -> Result<Observation, EngineError>;

    /// Where the app answers; `None` when it has no front door.
    fn target(&self, app: &App<'_>) -> Option<Target>;

    /// Saves every volume to `dir`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn backup(&self, lock: &AppLock, app: &App<'_>, dir: &Path) -> Result<Archive, EngineError>;

    /// Puts the volumes back as they were saved.
    ///
    /// # Errors
    /// [`EngineError`].
    fn restore(&self, lock: &AppLock, app: &App<'_>, archive: &Archive) -> Result<(), EngineError>;
}

/// The engine of this name.
pub(crate) fn named(name: EngineName, plan: &Plan) -> Box<dyn Engine> {
    match name {
        EngineName::Local => Box::new(local::LocalEngine::new(&plan.places)),
    }
}
