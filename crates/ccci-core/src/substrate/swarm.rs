//! Apps on Docker Swarm: all that carries a stack's name, and the env files that abra keeps of them.
//!
//! The stack's label decides what belongs to an app, and for what has no label its exact name up to
//! the `_`. Removal is in the order of [`Kind`], with one thing that matters more than the order:
//! a stack's own networks stay until its last task and its last container are gone. Removed earlier,
//! each task costs every *external* network of the stack an address for good (incident `[vip]`).

mod inventory;
mod probe;
mod quiet;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::{Kind, Object, Substrate, SubstrateError, env_file, list_dir, local};
use crate::config::Places;
use crate::docker::{Docker, DockerError, Endpoint, Removable};
use crate::lock::AppLock;
use crate::name::{BaseDomain, Domain};
use inventory::Inventory;

/// Finds and removes apps of the engines that deploy onto Docker Swarm.
#[derive(Debug)]
pub struct Swarm {
    docker: Result<Docker, DockerError>,
    abra_dir: PathBuf,
}

impl Swarm {
    /// The apps of the daemon that `docker` reaches.
    #[must_use]
    pub fn new(docker: Docker, places: &Places) -> Self {
        Self { docker: Ok(docker), abra_dir: places.abra_dir.clone() }
    }

    /// The apps of this host's daemon; `None` on a host without Docker.
    ///
    /// A host has Docker when `DOCKER_HOST` or a context says so, or when the usual socket is there
    /// and this user may use it. Whatever is wrong with it beyond that is this substrate's answer to
    /// every question: an app may be hidden behind it.
    #[must_use]
    pub fn find(places: &Places) -> Option<Self> {
        let docker = Endpoint::find().transpose()?.map(Docker::new);
        Some(Self { docker, abra_dir: places.abra_dir.clone() })
    }

    /// The daemon.
    ///
    /// # Errors
    /// [`SubstrateError::Unreadable`] when where it is cannot be told.
    pub fn docker(&self) -> Result<&Docker, SubstrateError> {
        self.docker.as_ref().map_err(|error| SubstrateError::Unreadable {
            what: "Docker".to_owned(),
            source: io::Error::other(error.to_string()),
        })
    }

    /// Those of `planned` that exist already and are not the app's.
    ///
    /// # Errors
    /// [`SubstrateError::Unreadable`].
    pub fn claimed(&self, planned: &[Object], domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
        let inventory = Inventory::take(self.docker()?).map_err(unreadable)?;
        Ok(inventory.claimed(planned, &domain.stack_name()))
    }

    /// The servers whose env files are of apps on Docker.
    fn servers(&self) -> Result<Vec<String>, SubstrateError> {
        let mut servers = list_dir(&self.abra_dir.join("servers"))?;
        servers.retain(|server| server != local::SERVER);
        Ok(servers)
    }

    fn env_files(&self, domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
        let mut files = Vec::new();
        for server in self.servers()? {
            let path = env_file::path(&self.abra_dir, &server, domain);
            let object = || Object {
                kind: Kind::EnvFile,
                name: format!("{server}/{domain}.env"),
                id: path.display().to_string(),
            };
            match path.symlink_metadata() {
                Ok(_) => files.push(object()),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(SubstrateError::Unreadable { what: path.display().to_string(), source }),
            }
        }
        Ok(files)
    }
}

fn unreadable(error: DockerError) -> SubstrateError {
    SubstrateError::Unreadable { what: "Docker".to_owned(), source: io::Error::other(error) }
}

/// What finds an object: its id, or its name while it is only planned.
fn handle(object: &Object) -> &str {
    if object.id.is_empty() { &object.name } else { &object.id }
}

impl Substrate for Swarm {
    fn name(&self) -> &'static str {
        "swarm"
    }

    fn apps(&self, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
        let mut apps = Inventory::take(self.docker()?).map_err(unreadable)?.apps(base);
        for server in self.servers()? {
            apps.extend(env_file::apps(&self.abra_dir, &server, base)?);
        }
        Ok(apps)
    }

    fn unmarked(&self, planned: &[Object]) -> Result<Vec<Object>, SubstrateError> {
        Ok(Inventory::take(self.docker()?).map_err(unreadable)?.unmarked(planned))
    }

    fn objects(&self, domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
        let inventory = Inventory::take(self.docker()?).map_err(unreadable)?;
        let mut objects = inventory.of_stack(&domain.stack_name());
        objects.extend(self.env_files(domain)?);
        objects.sort();
        Ok(objects)
    }

    fn remove(&self, lock: &AppLock, domain: &Domain, object: &Object) -> Result<(), SubstrateError> {
        let mut outcome = Ok(());
        self.remove_all(lock, domain, std::slice::from_ref(object), &mut |_, result| outcome = result)?;
        outcome
    }

    fn remove_all(
        &self,
        lock: &AppLock,
        domain: &Domain,
        objects: &[Object],
        done: &mut dyn FnMut(&Object, Result<(), SubstrateError>),
    ) -> Result<(), SubstrateError> {
        let docker = self.docker()?;
        let mut quiet = None;
        for object in objects {
            lock.verify()?;
            let failed = |why: String| SubstrateError::Remove { object: object.to_string(), why };
            let what = match object.kind {
                Kind::Service => Removable::Service,
                Kind::Network => Removable::Network,
                Kind::Volume => Removable::Volume,
                Kind::Secret => Removable::Secret,
                Kind::Config => Removable::Config,
                Kind::Container => {
                    // Swarm takes its containers away itself, all at the same time; waited for once.
                    let quiet = quiet.get_or_insert_with(|| quiet::wait(docker, &domain.stack_name()));
                    done(object, quiet.clone().map_err(failed));
                    continue;
                }
                Kind::EnvFile => {
                    done(object, super::gone(std::fs::remove_file(handle(object))).map_err(|e| failed(e.to_string())));
                    continue;
                }
                Kind::AppDir => {
                    done(object, Err(failed("no such kind on Docker".to_owned())));
                    continue;
                }
            };
            if what == Removable::Network {
                // Also when no container was listed: a task may have started one since.
                let quiet = quiet.get_or_insert_with(|| quiet::wait(docker, &domain.stack_name()));
                if let Err(why) = quiet {
                    done(object, Err(failed(why.clone())));
                    continue;
                }
            }
            done(object, docker.remove(what, handle(object)).map_err(|error| failed(error.to_string())));
        }
        Ok(())
    }
}
