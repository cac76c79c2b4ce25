//! What is created and removed through the daemon's API.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::transport::Method;
use super::{Docker, DockerError, answers, escape, understand};

/// What kinds of things can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removable {
    /// A service, with its tasks, in the course of time.
    Service,
    /// A container, running or not, with its anonymous volumes.
    Container,
    /// A network.
    Network,
    /// A volume; by name.
    Volume,
    /// A secret.
    Secret,
    /// A config.
    Config,
}

/// By what an object of an app is known again.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The app's stack.
    pub stack: String,
    /// Its domain.
    pub domain: String,
    /// The run that makes it; empty for what no run makes.
    pub run: String,
}

impl Mark {
    /// The labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<&'static str, &str> {
        let all = [
            (answers::STACK_LABEL, &self.stack),
            (answers::DOMAIN_LABEL, &self.domain),
            (answers::RUN_LABEL, &self.run),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key, value.as_str())).collect()
    }
}

impl Docker {
    /// Removes images that have no name and that no container uses; how many, and the bytes that this
    /// gave back. Never more: an image with a name may be the next run's, and volumes are not images.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn prune_images(&self) -> Result<answers::Pruned, DockerError> {
        let filters = json!({"dangling": ["true"]}).to_string();
        let path = format!("/images/prune?filters={}", escape(&filters));
        understand(&path, &self.ask(Method::Post, &path, None)?)
    }

    /// Removes something. What is gone already is no error.
    ///
    /// # Errors
    /// [`DockerError::Refused`] while it is in use.
    pub fn remove(&self, what: Removable, id: &str) -> Result<(), DockerError> {
        let id = escape(id);
        let path = match what {
            Removable::Service => format!("/services/{id}"),
            // Its anonymous volumes carry no name of ours: nobody would find them later.
            Removable::Container => format!("/containers/{id}?force=1&v=1"),
            Removable::Network => format!("/networks/{id}"),
            Removable::Volume => format!("/volumes/{id}"),
            Removable::Secret => format!("/secrets/{id}"),
            Removable::Config => format!("/configs/{id}"),
        };
        match self.ask(Method::Delete, &path, None) {
            Ok(_) => Ok(()),
            Err(error) if error.is_gone() => Ok(()),
            // "removal … is already in progress": it goes, and whoever waits for it sees it go.
            Err(DockerError::Refused { status: 409, message, .. })
                if what == Removable::Container && message.contains("already in progress") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a secret; its id. The value goes to the daemon and nowhere else.
    ///
    /// # Errors
    /// [`DockerError`]; one of that name that is there already is refused.
    pub fn create_secret(&self, name: &str, mark: &Mark, value: &[u8]) -> Result<String, DockerError> {
        self.create("/secrets/create", name, mark, value)
    }

    /// Creates a config; its id.
    ///
    /// # Errors
    /// [`DockerError`]; one of that name that is there already is refused.
    pub fn create_config(&self, name: &str, mark: &Mark, data: &[u8]) -> Result<String, DockerError> {
        self.create("/configs/create", name, mark, data)
    }

    /// Creates a service that runs nothing: it only has an address on `network_id`; its id. The image
    /// is never looked for.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn create_idle_service(&self, name: &str, stack: &str, network_id: &str) -> Result<String, DockerError> {
        let path = "/services/create";
        let body = json!({
            "Name": name,
            "Labels": {answers::STACK_LABEL: stack},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "scratch", "Labels": {answers::STACK_LABEL: stack}},
                "Networks": [{"Target": network_id}],
            },
            "Mode": {"Replicated": {"Replicas": 0}},
            "EndpointSpec": {"Mode": "vip"},
        });
        understand::<answers::Created>(path, &self.ask(Method::Post, path, Some(&body))?).map(|created| created.id)
    }

    fn create(&self, path: &str, name: &str, mark: &Mark, data: &[u8]) -> Result<String, DockerError> {
        let body = json!({"Name": name, "Labels": mark.labels(), "Data": BASE64.encode(data)});
        let answer = self.ask(Method::Post, path, Some(&body))?;
        understand::<answers::Created>(path, &answer).map(|created| created.id)
    }
}
