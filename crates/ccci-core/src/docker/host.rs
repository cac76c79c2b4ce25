//! What a person wants to know of a Docker host before a run is started on it: findings, not verdicts.
//!
//! Addresses of an overlay network are counted from what has one: the gateway, services' virtual
//! addresses, tasks, and what is attached on this node. That is all that an engine before 29 tells.
//! An address that Swarm lost (moby/swarmkit#3230) belongs to nothing any more and is in no list, so
//! the count is then a lower bound; [`Addresses::counted_by`] says which of the two it is. What can
//! really be had, [`Swarm::free_addresses`](crate::substrate::swarm::Swarm::free_addresses) tries.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::answers::{Network, Service, Task};
use super::{Docker, DockerError, Endpoint};

/// Who counted a network's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedBy {
    /// Swarm's allocator: exact, lost addresses included.
    Allocator,
    /// Whoever owns one, added up: lost addresses are missing.
    Owners,
}

/// The addresses of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The network.
    pub network: String,
    /// Its subnet.
    pub subnet: String,
    /// How many it has for services, tasks, its gateway and its load balancers.
    pub total: u64,
    /// How many are taken.
    pub in_use: u64,
    /// How many are left.
    pub left: u64,
    /// Who says so.
    pub counted_by: CountedBy,
}

/// Space and inodes where the daemon keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The place.
    pub path: PathBuf,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that can still be written.
    pub bytes_free: u64,
    /// Inodes in all; 0 where the file system has no such limit.
    pub inodes: u64,
    /// Inodes that are left.
    pub inodes_free: u64,
}

impl Disk {
    /// How full it is: bytes or inodes, whichever is fuller, in percent.
    #[must_use]
    pub fn percent_full(&self) -> u64 {
        let full = |all: u64, free: u64| ((all - free.min(all)) * 100).checked_div(all).unwrap_or(0);
        full(self.bytes, self.bytes_free).max(full(self.inodes, self.inodes_free))
    }
}

/// A Docker host.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// The daemon's address.
    pub endpoint: String,
    /// The engine's version.
    pub engine: String,
    /// Whether stacks can be deployed here.
    pub manager: bool,
    /// The Swarm's state in a word or two, with its error.
    pub swarm: String,
    /// How many nodes the Swarm has; the product is made for one.
    pub nodes: u32,
    /// Where the daemon's data is; `None` for a daemon whose files are not on this host.
    pub disk: Option<Disk>,
    /// The overlay networks that belong to no stack.
    pub addresses: Vec<Addresses>,
    /// Volumes that no container uses. Some are kept on purpose: a figure, not a fault.
    pub dangling_volumes: Vec<String>,
}

impl Docker {
    /// Looks at the host.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn host(&self) -> Result<Host, DockerError> {
        let info = self.info()?;
        let root = Path::new(&info.docker_root_dir);
        let local = matches!(self.endpoint, Endpoint::Unix(_));
        let mut swarm = format!("{:?}", info.swarm.local_node_state).to_lowercase();
        if !info.swarm.error.is_empty() {
            swarm = format!("{swarm}: {}", info.swarm.error);
        }
        Ok(Host {
            endpoint: self.endpoint.to_string(),
            engine: info.server_version.clone(),
            manager: info.swarm.is_manager(),
            swarm,
            nodes: info.swarm.nodes,
            disk: if local { disk(root) } else { None },
            addresses: self.addresses()?,
            dangling_volumes: self.dangling_volumes()?.into_iter().map(|volume| volume.name).collect(),
        })
    }

    /// The addresses of every overlay network that belongs to no stack: those that all stacks share.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn addresses(&self) -> Result<Vec<Addresses>, DockerError> {
        let (services, tasks) = (self.services()?, self.tasks()?);
        let mut all = Vec::new();
        for listed in self.networks()? {
            let shared = listed.driver == "overlay" && !listed.labels.contains_key(super::answers::STACK_LABEL);
            if !shared {
                continue;
            }
            match self.network(&listed.id) {
                Ok(network) => all.extend(count(&network, &services, &tasks)),
                // Removed since it was listed.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Space and inodes at `path`; `None` where it cannot be looked at, as in another container's root.
#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        path: path.to_owned(),
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

fn count(network: &Network, services: &[Service], tasks: &[Task]) -> Vec<Addresses> {
    let taken = taken(network, services, tasks);
    let mut all = Vec::new();
    for subnet in &network.ipam.config {
        let Some((base, bits)) = parse_subnet(&subnet.subnet) else { continue };
        // The first and the last are the network's own name and its broadcast.
        let total = (1_u64 << (32 - bits)).saturating_sub(2);
        let inside = |address: &&Ipv4Addr| bits == 0 || (u32::from(**address) ^ u32::from(base)) >> (32 - bits) == 0;
        let exact = network.status.as_ref().and_then(|status| status.ipam.subnets.get(&subnet.subnet));
        let (left, counted_by) = match exact {
            Some(exact) => (exact.dynamic_ips_available.min(total), CountedBy::Allocator),
            None => (total.saturating_sub(taken.iter().filter(inside).count() as u64), CountedBy::Owners),
        };
        all.push(Addresses {
            network: network.name.clone(),
            subnet: subnet.subnet.clone(),
            total,
            in_use: total - left,
            left,
            counted_by,
        });
    }
    all
}

/// Every address that something has; a set, since what runs on this node is in two lists.
fn taken(network: &Network, services: &[Service], tasks: &[Task]) -> BTreeSet<Ipv4Addr> {
    let gateways = network.ipam.config.iter().map(|subnet| subnet.gateway.as_str());
    let virtual_ips = services.iter().flat_map(|service| &service.endpoint.virtual_ips);
    let virtual_ips = virtual_ips.filter(|ip| ip.network_id == network.id).map(|ip| ip.addr.as_str());
    // A task that is over has given its addresses back, though it still names them.
    let tasks = tasks.iter().filter(|task| !task.status.state.is_over());
    let tasks = tasks.flat_map(|task| &task.networks_attachments).filter(|at| at.network.id == network.id);
    let tasks = tasks.flat_map(|at| &at.addresses).map(String::as_str);
    let here = network.containers.values().map(|attached| attached.ipv4_address.as_str());
    gateways.chain(virtual_ips).chain(tasks).chain(here).filter_map(parse_address).collect()
}

fn parse_address(text: &str) -> Option<Ipv4Addr> {
    text.split('/').next()?.parse().ok()
}

fn parse_subnet(text: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
    Some((address.parse().ok()?, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(extra: &str) -> Network {
        let text = format!(
            r#"{{"Id":"n1","Name":"proxy","Driver":"overlay","Scope":"swarm","Labels":null,
            "IPAM":{{"Config":[{{"Subnet":"10.66.0.0/28","Gateway":"10.66.0.1"}}]}},
            "Containers":{{"c":{{"Name":"a.1","IPv4Address":"10.66.0.3/28"}},
                           "lb-proxy":{{"Name":"proxy-endpoint","IPv4Address":"10.66.0.4/28"}}}}{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn service() -> Service {
        let text = r#"{"ID":"s1","Spec":{"Name":"x_app","TaskTemplate":{}},
            "Endpoint":{"VirtualIPs":[{"NetworkID":"n1","Addr":"10.66.0.2/28"},{"NetworkID":"n2","Addr":"10.0.1.2/24"}]}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn task(state: &str, address: &str) -> Task {
        let text = format!(
            r#"{{"ID":"t","CreatedAt":"2026-01-01T00:00:00Z","Spec":{{}},"Status":{{"State":"{state}"}},"DesiredState":"running",
            "NetworksAttachments":[{{"Network":{{"ID":"n1"}},"Addresses":["{address}/28"]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn each_address_counts_once_whoever_lists_it() {
        let tasks = [task("running", "10.66.0.3"), task("new", "10.66.0.9"), task("failed", "10.66.0.10")];
        let counted = count(&network(""), &[service()], &tasks);
        // Gateway, virtual address, running task, load balancer, new task.
        assert_eq!((counted[0].total, counted[0].in_use, counted[0].left), (14, 5, 9));
        assert_eq!(counted[0].counted_by, CountedBy::Owners);
    }

    #[test]
    fn the_allocator_knows_better() {
        let status = r#","Status":{"IPAM":{"Subnets":{"10.66.0.0/28":{"IPsInUse":16,"DynamicIPsAvailable":0}}}}"#;
        let counted = count(&network(status), &[service()], &[]);
        assert_eq!((counted[0].in_use, counted[0].left, counted[0].counted_by), (14, 0, CountedBy::Allocator));
    }

    #[test]
    fn a_disk_is_as_full_as_its_scarcer_half() {
        let disk = Disk { path: "/".into(), bytes: 100, bytes_free: 80, inodes: 50, inodes_free: 0 };
        assert_eq!(disk.percent_full(), 100);
        assert_eq!(Disk { inodes: 0, ..disk }.percent_full(), 20);
    }
}
