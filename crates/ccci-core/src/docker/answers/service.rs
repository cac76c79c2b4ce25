//! Services, their updates and their tasks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::{Labels, STACK_LABEL, or_empty};

/// A service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What was asked for.
    pub spec: ServiceSpec,
    /// Its virtual addresses.
    #[serde(default, deserialize_with = "or_empty")]
    pub endpoint: ServiceEndpoint,
    /// Its last update, if it ever had one.
    #[serde(default)]
    pub update_status: Option<UpdateStatus>,
    /// How far a job is.
    #[serde(default)]
    pub job_status: Option<JobStatus>,
}

/// How far a job is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobStatus {
    /// Which run of it is the present one.
    #[serde(default)]
    pub job_iteration: Iteration,
}

/// A run of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Iteration {
    /// Its number.
    #[serde(default)]
    pub index: u64,
}

/// What was asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
    /// What its tasks run.
    pub task_template: TaskSpec,
    /// How many tasks.
    #[serde(default)]
    pub mode: Mode,
    /// Which of its ports are published.
    #[serde(default, deserialize_with = "or_empty")]
    pub endpoint_spec: EndpointSpec,
}

/// What a service publishes.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EndpointSpec {
    /// Its ports.
    #[serde(default, rename = "Ports", deserialize_with = "or_empty")]
    pub ports: Vec<Port>,
}

/// How many tasks a service wants: one of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mode {
    /// This many that run.
    #[serde(default)]
    pub replicated: Option<Replicated>,
    /// One that runs on every node that may have it.
    #[serde(default)]
    pub global: Option<Empty>,
    /// This many that come to a good end.
    #[serde(default)]
    pub replicated_job: Option<ReplicatedJob>,
    /// One that comes to a good end on every node that may have it.
    #[serde(default)]
    pub global_job: Option<Empty>,
}

impl Mode {
    /// Whether its tasks are to come to an end.
    #[must_use]
    pub const fn is_job(&self) -> bool {
        self.replicated_job.is_some() || self.global_job.is_some()
    }
}

/// An object without fields that matter.
#[derive(Debug, Clone, Deserialize)]
pub struct Empty {}

/// A number of tasks that come to an end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplicatedJob {
    /// How many in all.
    #[serde(default)]
    pub total_completions: Option<u64>,
    /// How many at once.
    #[serde(default)]
    pub max_concurrent: Option<u64>,
}

/// A number of tasks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Replicated {
    /// How many.
    #[serde(default)]
    pub replicas: u64,
}

/// What a task runs. Two are equal when nothing of them differs, so that a task of an earlier version
/// of its service is told from one of the present.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskSpec {
    /// Its container; none for a plugin or a network attachment.
    #[serde(default)]
    pub container_spec: Option<ContainerSpec>,
    /// All the rest.
    #[serde(flatten, deserialize_with = "without_runtime")]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// A service says in what its tasks run, its tasks themselves do not.
fn without_runtime<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, serde_json::Value>, D::Error> {
    let mut rest = BTreeMap::deserialize(deserializer)?;
    rest.remove("Runtime");
    Ok(rest)
}

/// A task's container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSpec {
    /// Its image.
    #[serde(default)]
    pub image: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
    /// All the rest.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// A service's addresses.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServiceEndpoint {
    /// Its ports that every node publishes.
    #[serde(default, rename = "Ports", deserialize_with = "or_empty")]
    pub ports: Vec<Port>,
    /// One for each network.
    #[serde(default, rename = "VirtualIPs", deserialize_with = "or_empty")]
    pub virtual_ips: Vec<VirtualIp>,
}

/// A published port.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// The port inside the container.
    #[serde(default)]
    pub target_port: u16,
    /// The port on the host; 0 while there is none.
    #[serde(default)]
    pub published_port: u16,
    /// `tcp`, which is the default, `udp` or `sctp`.
    #[serde(default)]
    pub protocol: String,
    /// `host` when only the task's own node publishes it, else `ingress`.
    #[serde(default)]
    pub publish_mode: String,
}

impl Port {
    /// Whether it can be connected to.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol.is_empty() || self.protocol == "tcp"
    }
}

/// A virtual address.
#[derive(Debug, Clone, Deserialize)]
pub struct VirtualIp {
    /// On which network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The address, with the length of its prefix. A service by round robin has none.
    #[serde(rename = "Addr", default)]
    pub addr: String,
}

/// How an update goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateStatus {
    /// How far it is; `None` while it is only registered.
    #[serde(default)]
    pub state: Option<UpdateState>,
    /// Swarm's own words.
    #[serde(default)]
    pub message: String,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// At work.
    Updating,
    /// Stopped by a failure.
    Paused,
    /// Done.
    Completed,
    /// Going back.
    RollbackStarted,
    /// Stopped on the way back.
    RollbackPaused,
    /// Back.
    RollbackCompleted,
}

impl UpdateState {
    /// Whether Swarm goes no further by itself.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Updating | Self::RollbackStarted)
    }

    /// Whether the update was taken back, or is being.
    #[must_use]
    pub const fn is_rollback(self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }
}

/// A task: one try to run a service's container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its service; it may be gone.
    #[serde(rename = "ServiceID", default)]
    pub service_id: String,
    /// Which of the service's replicas it is.
    #[serde(default)]
    pub slot: u64,
    /// What it runs.
    pub spec: TaskSpec,
    /// How it is.
    pub status: TaskStatus,
    /// How it should be.
    pub desired_state: TaskState,
    /// The node that it was given to, if one was found.
    #[serde(rename = "NodeID", default)]
    pub node_id: String,
    /// Which run of a job it belongs to.
    #[serde(default)]
    pub job_iteration: Option<Iteration>,
    /// Its addresses.
    #[serde(default, deserialize_with = "or_empty")]
    pub networks_attachments: Vec<Attachment>,
}

impl Task {
    /// The stack that it belongs to.
    #[must_use]
    pub fn stack(&self) -> Option<&str> {
        Some(self.spec.container_spec.as_ref()?.labels.get(STACK_LABEL)?.as_str())
    }
}

/// How a task is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskStatus {
    /// How far it is.
    pub state: TaskState,
    /// Since when.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// What it is at.
    #[serde(default)]
    pub message: String,
    /// Its own error.
    #[serde(default)]
    pub err: String,
    /// Its container, as soon as there is one.
    #[serde(default)]
    pub container_status: Option<ContainerStatus>,
    /// Its ports that only its own node publishes.
    #[serde(default, deserialize_with = "or_empty")]
    pub port_status: PortStatus,
}

/// A task's published ports.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortStatus {
    /// Each of them.
    #[serde(default, deserialize_with = "or_empty")]
    pub ports: Vec<Port>,
}

/// A task's container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerStatus {
    /// Its id; empty while there is none.
    #[serde(rename = "ContainerID", default)]
    pub container_id: String,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i64,
}

/// How far a task is, in the order in which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Swarm's own words, explained in its documentation")]
pub enum TaskState {
    New,
    Allocated,
    Pending,
    Assigned,
    Accepted,
    Preparing,
    Ready,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
    Orphaned,
}

impl TaskState {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        self > Self::Running
    }

    /// Whether it ended badly.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected | Self::Orphaned)
    }
}

/// A task's addresses on one network.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attachment {
    /// Which network.
    pub network: AttachedNetwork,
    /// The addresses, each with the length of its prefix.
    #[serde(default, deserialize_with = "or_empty")]
    pub addresses: Vec<String>,
}

/// A network, as an attachment names it.
#[derive(Debug, Clone, Deserialize)]
pub struct AttachedNetwork {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}
