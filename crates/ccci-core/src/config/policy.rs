//! `[policy]`: what a recipe may ask of the host, and the exceptions that its operator grants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A row of the policy's table. An exception names one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Paths and links that leave the recipe's tree; files that are no files.
    Paths,
    /// Names and labels that are not the stack's.
    Names,
    /// What belongs to others, used as `external`.
    External,
    /// What of the host's files and memory is mounted.
    Mounts,
    /// Drivers and plugins of volumes, networks, secrets and configs.
    Drivers,
    /// Namespaces of the host, or of other containers.
    Namespaces,
    /// Rights and devices.
    Privileges,
    /// Which machine a service is tied to.
    Placement,
    /// Where logs go.
    Logging,
    /// Ports of the host.
    Ports,
    /// What the reverse proxy is told.
    Routes,
    /// What has no bound.
    Limits,
    /// Keys of compose files that the policy does not know.
    Keys,
}

impl Rule {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::Paths,
        Self::Names,
        Self::External,
        Self::Mounts,
        Self::Drivers,
        Self::Namespaces,
        Self::Privileges,
        Self::Placement,
        Self::Logging,
        Self::Ports,
        Self::Routes,
        Self::Limits,
        Self::Keys,
    ];

    /// Its name in the settings and in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paths => "paths",
            Self::Names => "names",
            Self::External => "external",
            Self::Mounts => "mounts",
            Self::Drivers => "drivers",
            Self::Namespaces => "namespaces",
            Self::Privileges => "privileges",
            Self::Placement => "placement",
            Self::Logging => "logging",
            Self::Ports => "ports",
            Self::Routes => "routes",
            Self::Limits => "limits",
            Self::Keys => "keys",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The section `[policy]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// Rules that hold for no recipe of this host.
    pub allow: BTreeSet<Rule>,
    /// What every recipe may use as `external`, besides what bears its own stack's name.
    pub external: BTreeSet<String>,
    /// Exceptions for single recipes.
    pub recipes: BTreeMap<String, Exception>,
    /// How much a recipe may ask for, and how much its app gets.
    pub limits: Limits,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            allow: BTreeSet::new(),
            external: BTreeSet::from(["proxy".to_owned()]),
            recipes: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// What one recipe may do besides.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exception {
    /// Rules that do not hold for it.
    pub allow: BTreeSet<Rule>,
    /// What it may use as `external`.
    pub external: BTreeSet<String>,
}

/// How much a recipe may ask for, and how much each container of its app gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Services of an app.
    pub services: usize,
    /// Replicas of a service.
    pub replicas: u64,
    /// Volumes, networks, secrets and configs of an app, of each kind.
    pub objects: usize,
    /// Files in a recipe's tree.
    pub files: usize,
    /// Megabytes in a recipe's tree.
    pub tree_mb: u64,
    /// Kilobytes of a compose file, of `.env.sample` and of `abra.sh`.
    pub file_kb: u64,
    /// Megabytes of memory for a container. Zero: as much as the recipe says.
    pub memory_mb: u64,
    /// Processes and threads in a container. Zero: as many as the recipe says.
    pub pids: u64,
    /// Processors for a container, never more than the host has. Zero: as many as the recipe says.
    pub cpus: u64,
    /// Megabytes of a container's log, after which Docker begins a new file. Zero: as the daemon has it.
    pub log_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 60,
            replicas: 10,
            objects: 100,
            files: 20_000,
            tree_mb: 1024,
            file_kb: 1024,
            memory_mb: 4096,
            pids: 8192,
            cpus: 4,
            log_mb: 50,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_called_in_the_settings_as_it_is_in_the_results() {
        for rule in Rule::ALL {
            let read: PolicySettings = toml::from_str(&format!("allow = [\"{rule}\"]")).unwrap();
            assert!(read.allow.contains(&rule));
        }
        assert!(toml::from_str::<PolicySettings>("allow = [\"everything\"]").is_err());
    }

    #[test]
    fn an_exception_is_of_one_recipe() {
        let read: PolicySettings =
            toml::from_str("[recipes.coturn]\nallow = [\"ports\"]\nexternal = [\"turn\"]").unwrap();
        assert!(read.recipes["coturn"].allow.contains(&Rule::Ports));
        assert!(read.external.contains("proxy"), "the default stays");
    }
}
