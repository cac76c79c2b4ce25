//! What Docker answers, as far as it is used here. Names as in Docker's API reference.
//!
//! Fields that are required here and missing in an answer make it one that is not understood. Docker
//! writes an empty list or map as `null`, which reads as empty.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// The label with the name of the stack that something belongs to.
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
}

/// How many tasks a service wants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mode {
    /// This many; `None` for one on every node, or a job.
    #[serde(default)]
    pub replicated: Option<Replicated>,
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

/// A network.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `overlay`, `bridge` and so on.
    pub driver: String,
    /// `swarm` or `local`.
    pub scope: String,
    /// Whether it is the Swarm's own for published ports.
    #[serde(default)]
    pub ingress: bool,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
    /// Its subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// What is attached on this node; only when one network is asked for.
    #[serde(default, deserialize_with = "or_empty")]
    pub containers: BTreeMap<String, Attached>,
    /// What the allocator itself says; engine 29 and later.
    #[serde(default)]
    pub status: Option<NetworkStatus>,
}

/// A network's subnets.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// Each of them.
    #[serde(default, deserialize_with = "or_empty")]
    pub config: Vec<Subnet>,
}

/// A subnet.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Subnet {
    /// In the form `10.0.0.0/24`.
    #[serde(default)]
    pub subnet: String,
    /// Its gateway.
    #[serde(default)]
    pub gateway: String,
}

/// What is attached to a network on this node.
#[derive(Debug, Clone, Deserialize)]
pub struct Attached {
    /// Its name.
    #[serde(rename = "Name", default)]
    pub name: String,
    /// Its address, with the length of its prefix.
    #[serde(rename = "IPv4Address", default)]
    pub ipv4_address: String,
}

/// What the allocator says of a network.
#[derive(Debug, Clone, Deserialize)]
pub struct NetworkStatus {
    /// Its subnets.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// What the allocator says of a network's subnets.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamStatus {
    /// By subnet.
    #[serde(default, deserialize_with = "or_empty")]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// What the allocator says of a subnet.
#[derive(Debug, Clone, Deserialize)]
pub struct SubnetStatus {
    /// Addresses that are taken, the subnet's own ones included.
    #[serde(rename = "IPsInUse", default)]
    pub ips_in_use: u64,
    /// Addresses that can still be had.
    #[serde(rename = "DynamicIPsAvailable", default)]
    pub dynamic_ips_available: u64,
}

/// `GET /volumes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volumes {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) volumes: Vec<Volume>,
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
}
