//! Apps of the embedded `local` engine: services are detached processes, volumes are directories,
//! secrets are files, all under `<state_dir>/local/<domain>/`.
//!
//! The processes outlive a killed run, as containers would. Each carries
//! `CCCI_LOCAL_SERVICE=<state_dir>/local/<domain>/<service>`, so an app is found even when its directory
//! is gone, and one that lives under another state directory is never taken for ours.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Kind, Object, Substrate, SubstrateError, env_file, gone, list_dir};
use crate::config::Places;
use crate::lock::AppLock;
use crate::name::{BaseDomain, Domain};
pub use crate::process::tagged::SERVICE_VAR;
use crate::process::tagged::{self, Tag};

/// The server's name under which env files of local apps are kept.
pub const SERVER: &str = "ccci-local";
/// What a service gets between SIGTERM and SIGKILL, as Docker gives it.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Finds and removes apps of the `local` engine.
#[derive(Debug, Clone)]
pub struct Local {
    root: PathBuf,
    abra_dir: PathBuf,
}

/// Where the parts of one local app are.
#[derive(Debug, Clone)]
pub struct AppPaths {
    /// All of it, but the env file.
    pub dir: PathBuf,
    /// A file per service, with what the engine remembers of it, and its log.
    pub services: PathBuf,
    /// A directory per volume.
    pub volumes: PathBuf,
    /// A file per secret.
    pub secrets: PathBuf,
    /// The recipe's files at the deployed commit.
    pub release: PathBuf,
    /// The env file.
    pub env: PathBuf,
}

impl Local {
    /// The local apps of this host.
    #[must_use]
    pub fn new(places: &Places) -> Self {
        Self { root: places.state_dir.join("local"), abra_dir: places.abra_dir.clone() }
    }

    /// Where the parts of `domain` are.
    #[must_use]
    pub fn paths(&self, domain: &Domain) -> AppPaths {
        let dir = self.root.join(domain.as_str());
        AppPaths {
            services: dir.join("services"),
            volumes: dir.join("volumes"),
            secrets: dir.join("secrets"),
            release: dir.join("release"),
            env: env_file::path(&self.abra_dir, SERVER, domain),
            dir,
        }
    }

    /// What the processes of one service carry in [`SERVICE_VAR`].
    #[must_use]
    pub fn service_mark(&self, domain: &Domain, service: &str) -> String {
        self.root.join(domain.as_str()).join(service).display().to_string()
    }

    /// `<domain>/<service>` of every service of ours that has a process.
    fn processes(&self) -> Result<BTreeSet<String>, SubstrateError> {
        let root = format!("{}/", self.root.display());
        let marks = tagged::values_of(SERVICE_VAR)
            .map_err(|source| SubstrateError::Unreadable { what: "/proc".to_owned(), source })?;
        Ok(marks.iter().filter_map(|mark| mark.strip_prefix(&root).map(str::to_owned)).collect())
    }
}

impl Substrate for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn apps(&self, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
        let mut apps = env_file::apps(&self.abra_dir, SERVER, base)?;
        apps.extend(list_dir(&self.root)?.iter().filter_map(|name| Domain::parse(name, base)));
        apps.extend(self.processes()?.iter().filter_map(|value| Domain::parse(value.split_once('/')?.0, base)));
        Ok(apps)
    }

    fn objects(&self, domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
        let paths = self.paths(domain);
        let mut services: BTreeSet<String> = list_dir(&paths.services)?
            .iter()
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect();
        services.extend(
            self.processes()?
                .iter()
                .filter_map(|value| value.strip_prefix(domain.as_str())?.strip_prefix('/').map(str::to_owned)),
        );
        let object =
            |kind, name: &str, path: &Path| Object { kind, name: name.to_owned(), id: path.display().to_string() };
        let mut objects: Vec<Object> = services
            .iter()
            .map(|name| object(Kind::Service, name, &paths.services.join(format!("{name}.json"))))
            .collect();
        for name in list_dir(&paths.volumes)? {
            objects.push(object(Kind::Volume, &name, &paths.volumes.join(&name)));
        }
        for name in list_dir(&paths.secrets)? {
            objects.push(object(Kind::Secret, &name, &paths.secrets.join(&name)));
        }
        for (kind, name, path) in [
            (Kind::Config, "release", &paths.release),
            (Kind::AppDir, domain.as_str(), &paths.dir),
            (Kind::EnvFile, domain.as_str(), &paths.env),
        ] {
            match path.symlink_metadata() {
                Ok(_) => objects.push(object(kind, name, path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(SubstrateError::Unreadable { what: path.display().to_string(), source }),
            }
        }
        Ok(objects)
    }

    fn remove(&self, _lock: &AppLock, domain: &Domain, object: &Object) -> Result<(), SubstrateError> {
        let paths = self.paths(domain);
        let failed = |why: String| SubstrateError::Remove { object: object.to_string(), why };
        let removed = match object.kind {
            Kind::Service => {
                let tag = Tag::Variable(SERVICE_VAR, self.service_mark(domain, &object.name));
                tagged::end_all(&tag, STOP_GRACE).map_err(|error| failed(error.to_string()))?;
                remove_file(&paths.services.join(format!("{}.json", object.name)))
                    .and_then(|()| remove_file(&paths.services.join(format!("{}.log", object.name))))
            }
            Kind::Volume => remove_tree(&paths.volumes.join(&object.name)),
            Kind::Secret => remove_file(&paths.secrets.join(&object.name)),
            Kind::Config => remove_tree(&paths.release),
            Kind::AppDir => remove_tree(&paths.dir),
            // The server's directory goes with its last env file, so that nothing is left of us.
            Kind::EnvFile => remove_file(&paths.env).map(|()| {
                for dir in paths.env.ancestors().skip(1).take(3) {
                    if std::fs::remove_dir(dir).is_err() {
                        break;
                    }
                }
            }),
            Kind::Container | Kind::Network => Err(io::Error::other("no such kind in the local engine")),
        };
        removed.map_err(|error| failed(error.to_string()))
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    gone(std::fs::remove_file(path))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    gone(std::fs::remove_dir_all(path))
}
