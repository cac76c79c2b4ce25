//! Networks and their addresses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Labels, or_empty};

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
