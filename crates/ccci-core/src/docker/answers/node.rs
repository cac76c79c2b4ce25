//! A node of the Swarm: what it has, and what may be placed on it.

use std::net::IpAddr;

use serde::Deserialize;

use super::{Labels, or_empty};

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What its operator says.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub description: Description,
    /// How it is.
    pub status: NodeStatus,
}

/// What a node's operator says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeSpec {
    /// `manager` or `worker`.
    #[serde(default)]
    pub role: String,
    /// `active`, `pause` or `drain`.
    #[serde(default)]
    pub availability: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
}

/// What a node says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    /// Its name.
    #[serde(default)]
    pub hostname: String,
    /// What it runs on.
    #[serde(default, deserialize_with = "or_empty")]
    pub platform: Platform,
    /// What it has.
    #[serde(default, deserialize_with = "or_empty")]
    pub resources: Resources,
    /// Its engine.
    #[serde(default, deserialize_with = "or_empty")]
    pub engine: Engine,
}

/// What a node runs on.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Platform {
    /// Its processor.
    #[serde(default, rename = "Architecture")]
    pub architecture: String,
    /// Its kernel.
    #[serde(default, rename = "OS")]
    pub os: String,
}

/// What a node has, or what a task wants of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Resources {
    /// Billionths of a processor.
    #[serde(default, rename = "NanoCPUs")]
    pub nano_cpus: i64,
    /// Bytes of memory.
    #[serde(default, rename = "MemoryBytes")]
    pub memory_bytes: i64,
}

/// A node's engine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Engine {
    /// Its labels.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: Labels,
}

/// How a node is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeStatus {
    /// `ready`, `down` and so on.
    #[serde(default)]
    pub state: String,
    /// Its address.
    #[serde(default)]
    pub addr: String,
}

impl Node {
    /// Whether Swarm places anything on it.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.status.state == "ready" && self.spec.availability == "active"
    }

    /// Whether it satisfies every one of these placement constraints, as Swarm reads them.
    #[must_use]
    pub fn satisfies<'text>(&self, constraints: impl IntoIterator<Item = &'text str>) -> bool {
        constraints.into_iter().all(|constraint| self.satisfies_one(constraint))
    }

    fn satisfies_one(&self, constraint: &str) -> bool {
        let Some((key, value, wanted)) = [("==", true), ("!=", false)].into_iter().find_map(|(operator, wanted)| {
            constraint.split_once(operator).map(|(key, value)| (key.trim(), value.trim(), wanted))
        }) else {
            return false;
        };
        // A label that is not there is empty; a key that Swarm does not know is never satisfied.
        let lower = key.to_ascii_lowercase();
        let label = |labels: &Labels, prefix: &str| labels.get(&key[prefix.len()..]).cloned().unwrap_or_default();
        let own = match lower.as_str() {
            "node.id" => self.id.clone(),
            "node.hostname" => self.description.hostname.clone(),
            "node.role" => self.spec.role.clone(),
            "node.platform.os" => self.description.platform.os.clone(),
            "node.platform.arch" => self.description.platform.architecture.clone(),
            "node.ip" => return self.has_address(value) == wanted,
            key if key.starts_with("node.labels.") => label(&self.spec.labels, "node.labels."),
            key if key.starts_with("engine.labels.") => label(&self.description.engine.labels, "engine.labels."),
            _ => return false,
        };
        own.eq_ignore_ascii_case(value) == wanted
    }

    fn has_address(&self, wanted: &str) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(four) => (u128::from(u32::from(four)) << 96, 32),
            IpAddr::V6(six) => (u128::from(six), 128),
        };
        let (net, prefix) = wanted.split_once('/').map_or((wanted, None), |(net, prefix)| (net, Some(prefix)));
        let (Ok(own), Ok(net)) = (self.status.addr.parse::<IpAddr>(), net.parse::<IpAddr>()) else { return false };
        let ((own, length), (net, others)) = (bits(own), bits(net));
        let prefix = prefix.map_or(Ok(others), str::parse::<u32>);
        prefix.is_ok_and(|prefix| {
            length == others && (prefix == 0 || prefix <= length && (own ^ net) >> (128 - prefix) == 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        serde_json::from_str(
            r#"{"ID":"abc","Spec":{"Role":"manager","Availability":"active","Labels":{"Disk":"SSD"}},
                "Description":{"Hostname":"ci","Platform":{"Architecture":"x86_64","OS":"linux"},
                    "Resources":{"NanoCPUs":2000000000,"MemoryBytes":1000},"Engine":{"Labels":null}},
                "Status":{"State":"ready","Addr":"10.1.2.3"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn constraints_are_read_as_swarm_reads_them() {
        let node = node();
        for yes in [
            "node.role == manager",
            "node.role==Manager",
            "node.role != worker",
            "node.id == abc",
            "node.hostname != x",
            "node.labels.Disk == ssd",
            "node.labels.none != x",
            "engine.labels.a != b",
            "node.platform.os == linux",
            "node.ip == 10.1.0.0/16",
            "node.ip == 10.1.2.3",
            "node.ip != 10.2.0.0/16",
        ] {
            assert!(node.satisfies([yes]), "{yes}");
        }
        for no in [
            "node.role == worker",
            "node.role != manager",
            "node.labels.nope == yes",
            "node.labels.disk == ssd",
            "node.nonsense == x",
            "nonsense",
            "node.ip == 10.2.0.0/16",
            "node.ip == x",
            "node.ip == 10.1.2.3/99",
        ] {
            assert!(!node.satisfies([no]), "{no}");
        }
        assert!(!node.satisfies(["node.role == manager", "node.id == other"]), "all of them");
        assert!(node.satisfies([]));
    }

    #[test]
    fn a_node_that_is_drained_or_down_takes_nothing() {
        let mut node = node();
        assert!(node.takes_tasks());
        node.spec.availability = "drain".into();
        assert!(!node.takes_tasks());
        node.spec.availability = "active".into();
        node.status.state = "down".into();
        assert!(!node.takes_tasks());
    }
}
