//! What an app is made of underneath, and how its parts are found and removed.
//!
//! One implementation per kind of host: [`local`] processes, and [`swarm`] for the engines that deploy
//! onto Docker. A substrate answers typed questions. "I could not look" is an error and never an empty list:
//! an unreadable source of truth must stop a reap, not start one.

pub mod env_file;
pub mod local;
pub mod swarm;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Places;
use crate::lock::{AppLock, LockError};
use crate::name::{BaseDomain, Domain};
use crate::weaken::{self, Protection};

/// What kind of thing an object is. The order is the order of removal: a network goes after the last
/// container on it, a volume after what has it mounted, the env file last, so that an interrupted
/// teardown stays discoverable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A service and its processes.
    Service,
    /// A container without its service.
    Container,
    /// A network.
    Network,
    /// A volume and its data.
    Volume,
    /// A secret.
    Secret,
    /// A config, or the copy of the recipe that a local app runs from.
    Config,
    /// The directory that holds a local app.
    AppDir,
    /// The app's env file.
    EnvFile,
}

impl Kind {
    /// Every kind, in the order of removal.
    pub const ORDER: [Self; 8] = [
        Self::Service,
        Self::Container,
        Self::Network,
        Self::Volume,
        Self::Secret,
        Self::Config,
        Self::AppDir,
        Self::EnvFile,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::AppDir => "app directory",
            Self::EnvFile => "env file",
        })
    }
}

/// A part of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What finds it: a path, a Docker id; empty while it is only planned.
    pub id: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Why a substrate could not answer or act.
#[derive(Debug, thiserror::Error)]
pub enum SubstrateError {
    /// A source could not be read. Nothing that it could hide may be reaped.
    #[error("cannot read {what}: {source}; nothing is reaped that it could hide")]
    Unreadable {
        /// Which source.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// An object could not be removed.
    #[error("cannot remove {object}: {why}")]
    Remove {
        /// Which.
        object: String,
        /// Why not.
        why: String,
    },
    /// The app is not ours any more. Nothing of it may be removed.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Finds and removes the parts of apps.
pub trait Substrate {
    /// Its name: `local`, `swarm`.
    fn name(&self) -> &'static str;

    /// The domains of which anything exists.
    ///
    /// # Errors
    /// [`SubstrateError::Unreadable`].
    fn apps(&self, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError>;

    /// What exists of one app, in the order of removal.
    ///
    /// # Errors
    /// [`SubstrateError::Unreadable`].
    fn objects(&self, domain: &Domain) -> Result<Vec<Object>, SubstrateError>;

    /// Removes one part and waits until it is gone. Something that is gone already is no error.
    ///
    /// # Errors
    /// [`SubstrateError::Remove`]; the caller tries again within its budget.
    fn remove(&self, lock: &AppLock, domain: &Domain, object: &Object) -> Result<(), SubstrateError>;

    /// Removes parts of one kind and waits until they are gone. `done` hears of each when it went, or
    /// why it did not. Here one after the other; what takes its time to go is better asked at once.
    ///
    /// # Errors
    /// [`SubstrateError::Lock`]: nothing more was removed.
    fn remove_all(
        &self,
        lock: &AppLock,
        domain: &Domain,
        objects: &[Object],
        done: &mut dyn FnMut(&Object, Result<(), SubstrateError>),
    ) -> Result<(), SubstrateError> {
        for object in objects {
            lock.verify()?;
            done(object, self.remove(lock, domain, object));
        }
        Ok(())
    }
}

/// The substrates that this host has: `local` always, and Docker wherever one is configured. Whether it
/// answers is seen when it is asked, and then it is an error if it does not; see [`swarm::Swarm::find`].
#[must_use]
pub fn available(places: &Places) -> Vec<Box<dyn Substrate>> {
    let mut substrates: Vec<Box<dyn Substrate>> = vec![Box::new(local::Local::new(places))];
    if let Some(swarm) = swarm::Swarm::find(places) {
        substrates.push(Box::new(swarm));
    }
    substrates
}

/// Lists a directory; one that does not exist is empty, any other failure is an error.
pub(crate) fn list_dir(dir: &PathBuf) -> Result<Vec<String>, SubstrateError> {
    let unreadable = |source| SubstrateError::Unreadable { what: dir.display().to_string(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound || !weaken::on(Protection::FailClosed) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What is gone already is removed.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
