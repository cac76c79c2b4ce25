//! Settings of a host, and where everything is.
//!
//! One TOML file, `/etc/cc-ci/settings.toml` or the one that `--config` or `CCCI_SETTINGS` names. A
//! key that nobody knows is an error, never dropped (incident `[unknown-key]`).

pub mod duration;
pub mod forge;
pub mod policy;
pub mod strict;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::BaseDomain;
use forge::{Bridge, Forge};
use policy::PolicySettings;
use strict::StrictError;

/// The settings file of a host.
pub const SETTINGS_FILE: &str = "/etc/cc-ci/settings.toml";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is wrong.
    #[error(transparent)]
    Strict(#[from] StrictError),
    /// A value is well formed and cannot be.
    #[error("{path}: {key}: {why}")]
    Value {
        /// The file or variable.
        path: String,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Neither the system's directories nor the user's can be used.
    #[error(
        "cannot use {path}: {why}; run as root, set CCCI_RUNS_DIR, CCCI_APP_LOCK_DIR and CCCI_STATE_DIR, or set HOME"
    )]
    NoHome {
        /// The system directory that was tried.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What a second run of a domain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Waits for its turn.
    #[default]
    Wait,
    /// Exits 75 at once.
    Fail,
    /// Asks the holder to stop, and waits for its teardown.
    Supersede,
}

/// How long run directories are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Older ones go.
    #[serde(with = "duration")]
    pub age: Duration,
    /// More than this many go, oldest first.
    pub count: NonZeroU32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 24 * 3600), count: NonZeroU32::new(200).unwrap_or(NonZeroU32::MIN) }
    }
}

/// What is kept of recipes' data for quick runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    /// Whether anything is kept, and what is kept is used.
    pub keep: bool,
    /// Data of more than this many megabytes are not kept.
    pub max_mb: NonZeroU64,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { keep: true, max_mb: NonZeroU64::new(4096).unwrap_or(NonZeroU64::MIN) }
    }
}

/// What the programs that a run starts may use together: its tests, its hooks and the tools.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processes and threads. Default 4096: more than any suite has, and too few to take a host with them.
    pub children_pids: Option<NonZeroU32>,
    /// Megabytes of memory. Default: none, as a suite takes what it takes.
    pub children_memory_mb: Option<NonZeroU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { children_pids: NonZeroU32::new(4096), children_memory_mb: None }
    }
}

/// A host's settings, as the file has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where lock files are. Default `/run/lock`.
    pub lock_dir: Option<PathBuf>,
    /// Where run directories are. Default `/var/lib/cc-ci-runs`.
    pub runs_dir: Option<PathBuf>,
    /// Where apps of the `local` engine, kept data and the janitor's memory are. Default `/var/lib/cc-ci`.
    pub state_dir: Option<PathBuf>,
    /// The canonical `ABRA_DIR`, whose servers and catalogue every run shares. Default `~/.abra`
    /// where it exists, else `<state_dir>/abra`.
    pub abra_dir: Option<PathBuf>,
    /// The domain under which test apps live.
    pub base_domain: String,
    /// Where a recipe is fetched from when no `--src` is given; `{recipe}` is replaced.
    pub recipe_url: String,
    /// How many runs work at once on this host.
    pub max_tests: Option<NonZeroU32>,
    /// The run's own clock, from the moment it has the lock.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// The longest wait for the lock. Default: as long as it takes.
    #[serde(with = "duration::optional")]
    pub wait_timeout: Option<Duration>,
    /// The longest that a teardown may take.
    #[serde(with = "duration")]
    pub teardown_budget: Duration,
    /// What a process gets between SIGTERM and SIGKILL.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// The CI runner's own limit for a step, from `DRONE_STAGE_STARTED`.
    #[serde(with = "duration::optional")]
    pub step_limit: Option<Duration>,
    /// A run that would have less than this is not started (exit 75).
    #[serde(with = "duration")]
    pub min_time_left: Duration,
    /// What a second run of a domain does.
    pub on_conflict: OnConflict,
    /// Where the host's reverse proxy answers, as `127.0.0.1:80`: the front door of apps on Swarm that
    /// publish no port of their own.
    pub ingress: Option<std::net::SocketAddr>,
    /// The SHA-256 of each test that may come with a recipe and be run. Default: none, as they are the
    /// code of whoever opens a pull request.
    pub approved_tests: Vec<String>,
    /// What a recipe may ask of the host.
    pub policy: PolicySettings,
    /// How long run directories are kept.
    pub retention: Retention,
    /// What the programs that a run starts may use together.
    pub limits: Limits,
    /// What is kept of recipes' data for quick runs.
    pub snapshots: Snapshots,
    /// Who is told of the runs of pull requests.
    pub forge: Option<Forge>,
    /// Who asks for them.
    pub bridge: Option<Bridge>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_dir: None,
            runs_dir: None,
            state_dir: None,
            abra_dir: None,
            base_domain: "cc-ci.localhost".to_owned(),
            recipe_url: "https://git.coopcloud.tech/coop-cloud/{recipe}.git".to_owned(),
            max_tests: None,
            deadline: Duration::from_secs(3600),
            wait_timeout: None,
            teardown_budget: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            step_limit: None,
            min_time_left: Duration::from_secs(300),
            on_conflict: OnConflict::Wait,
            ingress: None,
            approved_tests: Vec::new(),
            policy: PolicySettings::default(),
            retention: Retention::default(),
            limits: Limits::default(),
            snapshots: Snapshots::default(),
            forge: None,
            bridge: None,
        }
    }
}

impl Settings {
    /// Reads and judges a settings file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file, the key and the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let settings: Self = strict::read(path)?;
        settings.judge(&path.display().to_string())?;
        Ok(settings)
    }

    /// The file that `explicit` or `CCCI_SETTINGS` names, which must be there; else the host's, else defaults.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file, the key and the line.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        let named = explicit.map(Path::to_owned).or_else(|| path_of("CCCI_SETTINGS"));
        match named {
            Some(path) => Self::read(&path),
            None if Path::new(SETTINGS_FILE).exists() => Self::read(Path::new(SETTINGS_FILE)),
            None => Ok(Self::default()),
        }
    }

    fn judge(&self, path: &str) -> Result<(), ConfigError> {
        let wrong = |key, why: &str| Err(ConfigError::Value { path: path.to_owned(), key, why: why.to_owned() });
        if let Err(error) = BaseDomain::new(&self.base_domain) {
            return wrong("base_domain", &error.to_string());
        }
        let digest = |text: &String| {
            text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if let Some(wrong_one) = self.approved_tests.iter().find(|text| !digest(text)) {
            return wrong(
                "approved_tests",
                &format!("`{wrong_one}` is no SHA-256: 64 of 0-9 and a-f (sha256sum FILE)"),
            );
        }
        for (key, value) in [
            ("lock_dir", &self.lock_dir),
            ("runs_dir", &self.runs_dir),
            ("state_dir", &self.state_dir),
            ("abra_dir", &self.abra_dir),
        ] {
            if value.as_ref().is_some_and(|path| !path.is_absolute()) {
                return wrong(key, "must be an absolute path: a run works from `/`");
            }
        }
        if self.deadline.is_zero() {
            return wrong("deadline", "must be longer than zero");
        }
        if self.teardown_budget.is_zero() {
            return wrong("teardown_budget", "must be longer than zero, or nothing would ever be taken down");
        }
        if let Some(limit) = self.step_limit
            && limit <= self.teardown_budget
        {
            return wrong("step_limit", "must be longer than teardown_budget, or no run could ever start");
        }
        if !self.recipe_url.contains("{recipe}") {
            return wrong("recipe_url", "must contain `{recipe}`");
        }
        forge::judge(self.forge.as_ref(), self.bridge.as_ref()).or_else(|(key, why)| wrong(key, &why))
    }
}

/// The path in a variable; one without a value is not set.
fn path_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where everything is on this host, for this user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Places {
    /// Lock files.
    pub lock_dir: PathBuf,
    /// Run directories.
    pub runs_dir: PathBuf,
    /// Apps of the `local` engine, kept data, and the janitor's memory.
    pub state_dir: PathBuf,
    /// The canonical `ABRA_DIR`.
    pub abra_dir: PathBuf,
    /// Whether the user's own directories stand in for the system's.
    pub fallback: bool,
}

impl Places {
    /// Decides where everything is: variables, then settings, then the system's directories; a user
    /// who cannot write those gets all of them under the XDG directories, never a mixture, because
    /// two runs exclude each other only if they look for locks in the same place.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`] when neither can be had, [`ConfigError::Value`] for a relative path.
    pub fn find(settings: &Settings) -> Result<Self, ConfigError> {
        let set = |key: &'static str, value: &Option<PathBuf>| match path_of(key) {
            Some(path) if path.is_absolute() => Ok(Some(path)),
            Some(path) => Err(ConfigError::Value {
                path: "environment".to_owned(),
                key,
                why: format!("`{}` must be an absolute path: a run works from `/`", path.display()),
            }),
            None => Ok(value.clone()),
        };
        let lock = set("CCCI_APP_LOCK_DIR", &settings.lock_dir)?;
        let runs = set("CCCI_RUNS_DIR", &settings.runs_dir)?;
        let state = set("CCCI_STATE_DIR", &settings.state_dir)?;
        let abra = set("CCCI_ABRA_DIR", &settings.abra_dir)?;
        let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());

        let system_runs = PathBuf::from("/var/lib/cc-ci-runs");
        let usable = runs.is_some() || nix::unistd::geteuid().is_root() || is_writable(&system_runs);
        let (system, fallback) = if usable {
            ([PathBuf::from("/run/lock"), system_runs, PathBuf::from("/var/lib/cc-ci")], false)
        } else {
            let state_home = std::env::var_os("XDG_STATE_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(home()?.join(".local/state")))
                .ok_or_else(|| ConfigError::NoHome { path: system_runs, why: "not writable".to_owned() })?
                .join("cc-ci");
            let lock = std::env::var_os("XDG_RUNTIME_DIR")
                .map_or_else(|| state_home.join("lock"), |dir| PathBuf::from(dir).join("cc-ci"));
            ([lock, state_home.join("runs"), state_home.join("state")], true)
        };
        let [system_lock, system_runs, system_state] = system;
        let state_dir = state.unwrap_or(system_state);
        let abra_dir = abra
            .or_else(|| home().map(|home| home.join(".abra")).filter(|dir| dir.is_dir()))
            .unwrap_or_else(|| state_dir.join("abra"));
        if fallback && lock.is_none() {
            std::fs::create_dir_all(&system_lock)
                .map_err(|error| ConfigError::NoHome { path: system_lock.clone(), why: error.to_string() })?;
        }
        let lock_dir = lock.unwrap_or(system_lock);
        Ok(Self {
            // `/var/lock` and `/run/lock` are one place: a lock's path tells whose a process is.
            lock_dir: lock_dir.canonicalize().unwrap_or(lock_dir),
            runs_dir: runs.unwrap_or(system_runs),
            state_dir,
            abra_dir,
            fallback,
        })
    }
}

impl Places {
    /// What a user must know whose own directories stand in for the system's: runs of other users are not excluded.
    #[must_use]
    pub fn stand_in(&self) -> Option<String> {
        let (locks, runs) = (self.lock_dir.display(), self.runs_dir.display());
        let note = format!(
            "the system's directories cannot be written: locks are in {locks}, which exclude this user's runs alone, runs in {runs}"
        );
        self.fallback.then_some(note)
    }
}

fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<Settings, String> {
        let settings: Settings = strict::parse("settings.toml", text).map_err(|error| error.to_string())?;
        settings.judge("settings.toml").map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn an_unknown_key_names_file_line_key_and_the_nearest_known_one() {
        let error = judged("max_tests = 2\ndeadlin = \"10m\"\n").unwrap_err();
        assert!(error.contains("settings.toml:2"), "{error}");
        assert!(error.contains("`deadlin`"), "{error}");
        assert!(error.contains("did you mean `deadline`?"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_with_what_would_be_right() {
        for (text, says) in [
            ("deadline = \"0s\"", "longer than zero"),
            ("deadline = 60", "duration"),
            ("max_tests = 0", "nonzero"),
            ("base_domain = \"CI.example\"", "lower-case"),
            ("runs_dir = \"runs\"", "absolute"),
            ("step_limit = \"5m\"", "teardown_budget"),
            ("on_conflict = \"steal\"", "steal"),
            ("approved_tests = [\"all\"]", "no SHA-256"),
            ("[retention]\nage = \"-1d\"", "duration"),
            ("[snapshots]\nkeep = \"no\"", "boolean"),
            ("[snapshots]\nmax_mb = 0", "nonzero"),
        ] {
            let error = judged(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_defaults_survive_a_round_trip() {
        let text = toml::to_string(&Settings::default()).unwrap();
        let back = judged(&text).unwrap();
        assert_eq!(back.deadline, Duration::from_secs(3600));
        assert_eq!(back.retention.age, Duration::from_secs(30 * 24 * 3600));
    }
}
