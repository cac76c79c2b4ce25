//! The one module that talks to Docker.
//!
//! Questions and removals go to the daemon's API (`transport` says how), which answers with whole
//! objects, labels included, and with a status that tells "gone" from "in use". What the `docker`
//! program does itself (stack files, registry credentials, the output of a program) is its own
//! business, see [`command`]. Both use the same [`Endpoint`].
//!
//! Answers are typed ([`answers`]). One that is not understood is an error that names the request,
//! and so is a daemon that does not answer: "I could not look" is never an empty list.

pub mod answers;
pub mod change;
pub mod command;
pub mod endpoint;
pub mod events;
pub mod host;
mod transport;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::process::ProcessError;
use answers::{Container, Info, Inspected, Named, Network, Node, Service, Task, Volume, Volumes};
pub use change::Removable;
pub use endpoint::Endpoint;
use transport::Method;

/// How long the daemon may take for an answer. Long, as a loaded host is not a broken one.
const ANSWER: Duration = Duration::from_secs(60);
/// The newest API that this module was written against; a newer daemon is asked in this one.
const NEWEST_API: u32 = 52;
/// The oldest daemon that is understood: API 1.41 is engine 20.10.
const OLDEST_API: u32 = 41;

/// Why Docker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Where the daemon is cannot be told, or cannot be used.
    #[error("cannot use Docker at `{address}`: {why}")]
    Endpoint {
        /// What was configured.
        address: String,
        /// Why not, and what would do.
        why: String,
    },
    /// Nothing can be said about what exists.
    #[error("Docker at {address} does not answer `{request}`: {source}; is the daemon running, and may we talk to it?")]
    NoAnswer {
        /// Where it should be.
        address: String,
        /// What was asked.
        request: String,
        /// Why not.
        source: io::Error,
    },
    /// It answered no.
    #[error("Docker refused `{request}`: {message} (status {status})")]
    Refused {
        /// What was asked.
        request: String,
        /// The answer's HTTP status.
        status: u16,
        /// The daemon's own words.
        message: String,
    },
    /// It answered something that is not understood.
    #[error("cannot understand Docker's answer to `{request}`: {why}")]
    Unexpected {
        /// What was asked.
        request: String,
        /// What is wrong with it.
        why: String,
    },
    /// The `docker` program failed.
    #[error(transparent)]
    Command(#[from] ProcessError),
}

impl DockerError {
    /// Whether what was asked for is not there (any more).
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether there is no Swarm to ask; why, only [`Docker::info`] tells.
    const fn is_no_swarm(&self) -> bool {
        matches!(self, Self::Refused { status: 503, .. })
    }
}

/// A Docker daemon.
#[derive(Debug)]
pub struct Docker {
    endpoint: Endpoint,
    agent: ureq::Agent,
    api: OnceLock<u32>,
    answer_within: Duration,
}

impl Docker {
    /// The daemon at `endpoint`. Nothing is asked yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let agent = transport::agent(&endpoint);
        Self { endpoint, agent, api: OnceLock::new(), answer_within: ANSWER }
    }

    /// How long the daemon may take for an answer. Default one minute.
    #[must_use]
    pub const fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Where the daemon is.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which daemon it is, and how its Swarm does.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn info(&self) -> Result<Info, DockerError> {
        self.get("/info")
    }

    /// Every service.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn services(&self) -> Result<Vec<Service>, DockerError> {
        self.swarm_list("/services")
    }

    /// One service, by name or id.
    ///
    /// # Errors
    /// [`DockerError`]; [`DockerError::is_gone`] when there is none.
    pub fn service(&self, name: &str) -> Result<Service, DockerError> {
        self.get(&format!("/services/{}", escape(name)))
    }

    /// Every task, those of removed services included as long as Swarm knows them.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn tasks(&self) -> Result<Vec<Task>, DockerError> {
        self.swarm_list("/tasks")
    }

    /// The tasks of one service, newest first.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn tasks_of(&self, service_id: &str) -> Result<Vec<Task>, DockerError> {
        // Filtered by ourselves: the daemon's filters match prefixes.
        let mut tasks = self.tasks()?;
        tasks.retain(|task| task.service_id == service_id);
        tasks.sort_by_key(|task| std::cmp::Reverse(task.created_at));
        Ok(tasks)
    }

    /// Every container, running or not.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn containers(&self) -> Result<Vec<Container>, DockerError> {
        self.get("/containers/json?all=1")
    }

    /// Whether a container runs now; one that is gone does not.
    ///
    /// [`Docker::containers`] is a picture that Docker takes now and then: it has a dead container as running
    /// for seconds on a busy host. This answer waits for what Docker is doing to the container.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn runs(&self, container_id: &str) -> Result<bool, DockerError> {
        Ok(self.inspect(container_id)?.is_some_and(|seen| seen.runs()))
    }

    /// One container; `None` when it is gone.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn inspect(&self, container_id: &str) -> Result<Option<Inspected>, DockerError> {
        match self.get(&format!("/containers/{}/json", escape(container_id))) {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every node of the Swarm.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn nodes(&self) -> Result<Vec<Node>, DockerError> {
        self.swarm_list("/nodes")
    }

    /// Every network.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn networks(&self) -> Result<Vec<Network>, DockerError> {
        self.get("/networks")
    }

    /// One network, by name or id, with what is attached to it on this node.
    ///
    /// # Errors
    /// [`DockerError`]; [`DockerError::is_gone`] when there is none.
    pub fn network(&self, name: &str) -> Result<Network, DockerError> {
        self.get(&format!("/networks/{}", escape(name)))
    }

    /// Every volume.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn volumes(&self) -> Result<Vec<Volume>, DockerError> {
        Ok(self.get::<Volumes>("/volumes")?.volumes)
    }

    /// The volumes that no container uses.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn dangling_volumes(&self) -> Result<Vec<Volume>, DockerError> {
        let filters = json!({"dangling": ["true"]}).to_string();
        Ok(self.get::<Volumes>(&format!("/volumes?filters={}", escape(&filters)))?.volumes)
    }

    /// Every secret, without its value.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn secrets(&self) -> Result<Vec<Named>, DockerError> {
        self.swarm_list("/secrets")
    }

    /// Every config, without its data.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn configs(&self) -> Result<Vec<Named>, DockerError> {
        self.swarm_list("/configs")
    }

    /// Whether an image is on this host.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        // `/` separates the parts of an image's name and stays.
        let path = image.split('/').map(escape).collect::<Vec<_>>().join("/");
        match self.ask(Method::Get, &format!("/images/{path}/json"), None) {
            Ok(_) => Ok(true),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, DockerError> {
        understand(path, &self.ask(Method::Get, path, None)?)
    }

    /// A list that only a Swarm manager has. A host that certainly has no Swarm has none of them; a
    /// Swarm that is locked, starting or led by others could hide some, which is an error.
    fn swarm_list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, DockerError> {
        match self.get(path) {
            Err(error) if error.is_no_swarm() && !self.info()?.swarm.may_exist() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Sends a request in the API version that both sides know.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, DockerError> {
        let path = format!("/v1.{}{path}", self.api()?);
        transport::ask(&self.agent, &self.endpoint, method, &path, body, self.answer_within)
    }

    /// The minor number of the API version: a request without one is deprecated, and one that is too
    /// old or too new is refused.
    fn api(&self) -> Result<u32, DockerError> {
        if let Some(api) = self.api.get() {
            return Ok(*api);
        }
        let version = transport::ping(&self.agent, &self.endpoint, self.answer_within)?;
        let minor = version.strip_prefix("1.").and_then(|minor| minor.parse::<u32>().ok());
        match minor {
            Some(minor) if minor >= OLDEST_API => Ok(*self.api.get_or_init(|| minor.min(NEWEST_API))),
            _ => Err(DockerError::Endpoint {
                address: self.endpoint.to_string(),
                why: format!("its API is {version}, and at least 1.{OLDEST_API} is needed (engine 20.10)"),
            }),
        }
    }
}

fn understand<T: DeserializeOwned>(request: &str, answer: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(answer)
        .map_err(|error| DockerError::Unexpected { request: request.to_owned(), why: error.to_string() })
}

/// A piece of a path or query, with everything escaped that means something there.
fn escape(piece: &str) -> String {
    use std::fmt::Write as _;
    piece.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(text, "%{byte:02X}");
        }
        text
    })
}
