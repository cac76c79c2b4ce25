//! What the `docker` program does and the daemon does not: it reads stack files, has the registries'
//! credentials, and connects to the output of programs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::config_dir;
use super::{Docker, DockerError};
use crate::process::{Finished, Job};

/// A folder for the settings of a `docker` whose user has none.
const NO_SETTINGS: &str = "/nonexistent/.docker";

/// What is deployed.
#[derive(Debug, Clone, Default)]
pub struct Deploy {
    /// The stack's name.
    pub stack: String,
    /// Its files, the later ones over the earlier ones. Paths in them count from the first one's place.
    pub files: Vec<PathBuf>,
    /// Whether services that the files no longer have are removed (incident `[19]`).
    pub prune: bool,
    /// Whether the registry is asked for an image's digest, as it is by default. An image that is
    /// only on this host has none.
    pub resolve_images: bool,
}

impl Docker {
    /// A call of the `docker` program that reaches this daemon.
    #[must_use]
    pub fn job<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Job {
        Job::tool("docker").args(args).env([self.variable()])
    }

    /// A call of the `docker` program in an environment that has nothing in it but `vars`: where the daemon is, and
    /// whose credentials count, is said by arguments. For what a recipe's text is looked at with.
    #[must_use]
    pub fn bare_job<A: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        vars: &BTreeMap<String, String>,
    ) -> Job {
        // Without a place for its settings the program would take its working directory for one.
        let config = config_dir().unwrap_or_else(|| NO_SETTINGS.into());
        let globals = ["--config".into(), config.into_os_string(), "--host".into(), self.endpoint.to_string().into()];
        Job::tool("docker").bare().args(globals).args(args).env(vars)
    }

    /// What leads the `docker` program here. It comes before every context.
    fn variable(&self) -> (&'static str, String) {
        ("DOCKER_HOST", self.endpoint.to_string())
    }

    /// Deploys a stack. Returns when Swarm has it, not when it runs.
    ///
    /// # Errors
    /// [`DockerError::Command`], with what `docker` said.
    pub fn stack_deploy(
        &self,
        deploy: &Deploy,
        timeout: Duration,
        sink: &mut dyn FnMut(&str),
    ) -> Result<Finished, DockerError> {
        let mut args = vec!["stack".to_owned(), "deploy".to_owned()];
        for file in &deploy.files {
            args.extend(["--compose-file".to_owned(), file.display().to_string()]);
        }
        if deploy.prune {
            args.push("--prune".to_owned());
        }
        let resolve = if deploy.resolve_images { "always" } else { "never" };
        args.extend(["--resolve-image".to_owned(), resolve.to_owned(), deploy.stack.clone()]);
        let dir = deploy.files.first().and_then(|file| file.parent()).filter(|dir| dir.is_absolute());
        let job = self.job(args).timeout(timeout);
        let job = match dir {
            Some(dir) => job.dir(dir),
            None => job,
        };
        Ok(job.run_ok(sink)?)
    }

    /// Fetches an image.
    ///
    /// # Errors
    /// [`DockerError::Command`], with the registry's words.
    pub fn pull(&self, image: &str, timeout: Duration, sink: &mut dyn FnMut(&str)) -> Result<Finished, DockerError> {
        Ok(self.job(["pull", "--quiet", image]).timeout(timeout).run_ok(sink)?)
    }

    /// Runs a command in a container; a bad end is in the value. Its stdout is in the value too,
    /// complete; what it says on stderr is handed to `sink`.
    ///
    /// # Errors
    /// [`DockerError::Command`] when `docker` cannot be run.
    pub fn exec<A: AsRef<str>>(
        &self,
        container: &str,
        command: impl IntoIterator<Item = A>,
        timeout: Duration,
        sink: &mut dyn FnMut(&str),
    ) -> Result<Finished, DockerError> {
        let mut args = vec!["exec".to_owned(), container.to_owned()];
        args.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        Ok(self.job(args).capture().timeout(timeout).run(sink)?)
    }

    /// The last lines that a container wrote, on both of its outputs.
    ///
    /// # Errors
    /// [`DockerError::Command`], also when the container is gone.
    pub fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>, DockerError> {
        let mut last = Vec::new();
        let job = self.job(["logs", "--tail", &lines.to_string(), container]).timeout(Duration::from_secs(30));
        job.run_ok(&mut |line| last.push(line.to_owned()))?;
        Ok(last)
    }
}
