//! Where the Docker daemon is: `DOCKER_HOST`, the chosen context, or the usual socket, in the order in
//! which the `docker` program looks.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::DockerError;

/// The socket of a daemon that nobody configured.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this host.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// The parts of the environment that decide.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub config_dir: Option<PathBuf>,
    /// The socket that is used when nothing is configured.
    pub default_socket: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        Self {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            config_dir: config_dir(),
            default_socket: PathBuf::from(DEFAULT_SOCKET),
        }
    }
}

/// Where this user's settings of the `docker` program are. A relative place is none: we work from `/`.
pub(super) fn config_dir() -> Option<PathBuf> {
    let dir = |key| std::env::var_os(key).map(PathBuf::from).filter(|dir| dir.is_absolute());
    dir("DOCKER_CONFIG").or_else(|| Some(dir("HOME")?.join(".docker")))
}

/// `config.json`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    current_context: String,
}

/// `contexts/meta/<hash>/meta.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Debug, Deserialize)]
struct Endpoints {
    docker: ContextEndpoint,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: String,
}

impl Endpoint {
    /// The daemon that is configured for this process; `None` on a host without Docker.
    ///
    /// The answer depends on the environment and on `$HOME`, which a CI runner may delete under a
    /// running teardown: ask once, and hand the answer down as `DOCKER_HOST`.
    ///
    /// # Errors
    /// [`DockerError::Endpoint`] when something is configured that cannot be read or used.
    pub fn find() -> Result<Option<Self>, DockerError> {
        Self::find_in(&Surroundings::of_process())
    }

    /// [`Endpoint::find`], for given surroundings.
    ///
    /// # Errors
    /// [`DockerError::Endpoint`].
    pub fn find_in(around: &Surroundings) -> Result<Option<Self>, DockerError> {
        if let Some(host) = &around.host {
            return Self::parse(host).map(Some);
        }
        let context = match &around.context {
            Some(context) => context.clone(),
            None => current_context(around.config_dir.as_deref())?,
        };
        if !(context.is_empty() || context == "default") {
            return Self::of_context(&context, around.config_dir.as_deref()).map(Some);
        }
        let socket = &around.default_socket;
        // A socket that this user may not use is somebody else's Docker: nothing of ours is behind it.
        let usable = rustix::fs::access(socket, rustix::fs::Access::WRITE_OK);
        match usable {
            Ok(()) => Ok(Some(Self::Unix(socket.clone()))),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(rustix::io::Errno::ACCESS) => {
                tracing::debug!(socket = %socket.display(), "not ours to use: passed over");
                Ok(None)
            }
            Err(errno) => Err(DockerError::Endpoint {
                address: socket.display().to_string(),
                why: io::Error::from(errno).to_string(),
            }),
        }
    }

    /// Reads an address as `DOCKER_HOST` has it.
    ///
    /// # Errors
    /// [`DockerError::Endpoint`] for what is no address, and for `ssh://`.
    pub fn parse(text: &str) -> Result<Self, DockerError> {
        let wrong = |why: &str| Err(DockerError::Endpoint { address: text.to_owned(), why: why.to_owned() });
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => wrong("the socket's path must be absolute"),
            Some(("tcp" | "http", address)) if !address.trim_end_matches('/').is_empty() => {
                if std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty()) {
                    return wrong("encrypted connections are not supported; a test host uses its own daemon's socket");
                }
                Ok(Self::Tcp(address.trim_end_matches('/').to_owned()))
            }
            _ => wrong("expected unix:///path or tcp://host:port; a remote daemon's socket can be forwarded by ssh -L"),
        }
    }

    fn of_context(name: &str, config_dir: Option<&Path>) -> Result<Self, DockerError> {
        let wrong = |why: String| DockerError::Endpoint { address: format!("context {name}"), why };
        let dir = config_dir.ok_or_else(|| wrong("neither DOCKER_CONFIG nor HOME is set".to_owned()))?;
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = dir.join("contexts/meta").join(hash).join("meta.json");
        let bytes = std::fs::read(&path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        let context: Context =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("in {}: {error}", path.display())))?;
        Self::parse(&context.endpoints.docker.host)
    }
}

fn current_context(config_dir: Option<&Path>) -> Result<String, DockerError> {
    let Some(path) = config_dir.map(|dir| dir.join("config.json")) else { return Ok(String::new()) };
    let wrong = |why: String| DockerError::Endpoint { address: path.display().to_string(), why };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Config>(&bytes)
            .map(|config| config.current_context)
            .map_err(|error| wrong(error.to_string())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(dir: &Path) -> Surroundings {
        Surroundings {
            config_dir: Some(dir.to_owned()),
            default_socket: dir.join("docker.sock"),
            ..Surroundings::default()
        }
    }

    #[test]
    fn the_environment_comes_before_the_context_and_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let mut around = around(dir.path());
        assert_eq!(Endpoint::find_in(&around).unwrap(), None, "a host without Docker");
        std::fs::write(&around.default_socket, "").unwrap();
        assert_eq!(Endpoint::find_in(&around).unwrap(), Some(Endpoint::Unix(around.default_socket.clone())));

        let hash: String = Sha256::digest("lab").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = dir.path().join("contexts/meta").join(hash);
        std::fs::create_dir_all(&meta).unwrap();
        let text =
            r#"{"Name":"lab","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///lab.sock","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"lab"}"#).unwrap();
        assert_eq!(Endpoint::find_in(&around).unwrap(), Some(Endpoint::Unix("/lab.sock".into())));

        around.context = Some("default".to_owned());
        assert_eq!(Endpoint::find_in(&around).unwrap(), Some(Endpoint::Unix(around.default_socket.clone())));
        around.host = Some("tcp://127.0.0.1:2375".to_owned());
        assert_eq!(Endpoint::find_in(&around).unwrap(), Some(Endpoint::Tcp("127.0.0.1:2375".to_owned())));
    }

    #[test]
    fn what_is_configured_and_cannot_be_used_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut around = around(dir.path());
        around.context = Some("missing".to_owned());
        assert!(Endpoint::find_in(&around).is_err());
        around.context = None;
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(Endpoint::find_in(&around).is_err());
        for bad in ["ssh://host", "docker.sock", "unix://relative", "tcp://", "tcp:///", "fd://"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
