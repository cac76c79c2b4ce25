//! What Docker answers, as far as it is used here. Names as in Docker's API reference.
//!
//! Fields that are required here and missing in an answer make it one that is not understood. Docker
//! writes an empty list or map as `null`, which reads as empty.

pub mod container;
pub mod network;
pub mod node;
pub mod service;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub use container::Inspected;
pub use network::Network;
pub use node::Node;
pub use service::{Service, Task, TaskState, UpdateState};

/// The label with the name of the stack that something belongs to.
/// The label that names the run which made something. No other program sets it.
pub const RUN_LABEL: &str = "cc-ci.run";
/// The label that names the app that it was made for.
pub const DOMAIN_LABEL: &str = "cc-ci.domain";
/// The label that names an object's stack.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";
/// The label of a task's container with the task's id.
pub const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// Labels.
pub type Labels = BTreeMap<String, String>;

fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `GET /info`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// The engine's version.
    pub server_version: String,
    /// Where the daemon keeps its data.
    pub docker_root_dir: String,
    /// How many processors the host has.
    #[serde(rename = "NCPU")]
    pub processors: u64,
    /// How the Swarm does.
    pub swarm: SwarmInfo,
}

/// The Swarm, seen from this node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// This node's part in it.
    pub local_node_state: NodeState,
    /// Whether this node is a manager.
    #[serde(default)]
    pub control_available: bool,
    /// What is wrong.
    #[serde(default)]
    pub error: String,
    /// How many nodes there are, as a manager knows.
    #[serde(default)]
    pub nodes: u32,
}

impl SwarmInfo {
    /// Whether there may be services, whether or not this node can list them.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        self.local_node_state != NodeState::Inactive
    }

    /// Whether this node can deploy.
    #[must_use]
    pub fn is_manager(&self) -> bool {
        self.local_node_state == NodeState::Active && self.control_available
    }
}

/// A node's part in a Swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// None.
    #[serde(alias = "")]
    Inactive,
    /// About to join.
    Pending,
    /// At work.
    Active,
    /// Broken.
    Error,
    /// Waiting for its key.
    Locked,
}

/// What is common to the specs of services, secrets and configs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
}

/// A secret or a config.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Named {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name and labels.
    pub spec: Spec,
}

/// The answer to a creation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// The new id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A container, as the list has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its names, each with a slash in front.
    #[serde(default, deserialize_with = "or_empty")]
    pub names: Vec<String>,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
    /// `running`, `exited` and so on.
    #[serde(default)]
    pub state: String,
}

impl Container {
    /// Its name; its id when it is losing its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }
}

/// `GET /volumes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volumes {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) volumes: Vec<Volume>,
}

/// What an image prune did.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    /// Names and layers that went.
    #[serde(default, deserialize_with = "or_empty")]
    pub images_deleted: Vec<serde_json::Value>,
    /// The bytes that this gave back.
    #[serde(default)]
    pub space_reclaimed: u64,
}

/// A volume.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name, which is also what finds it.
    pub name: String,
    /// Where its files are on this host.
    #[serde(default)]
    pub mountpoint: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
    /// What its driver was told, such as what to mount: its files may then be elsewhere.
    #[serde(default, deserialize_with = "or_empty")]
    pub options: Labels,
}
