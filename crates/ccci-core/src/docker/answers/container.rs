//! One container, looked at: how it is, what its health check says, where its ports are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::or_empty;

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// How it is.
    pub state: State,
    /// What it was made of.
    #[serde(default, deserialize_with = "or_empty")]
    pub config: Config,
    /// Its network.
    #[serde(default, deserialize_with = "or_empty")]
    network_settings: NetworkSettings,
}

impl Inspected {
    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.state.status == "running"
    }

    /// Its health check, the image's own included; `None` when it has none.
    #[must_use]
    pub fn healthcheck(&self) -> Option<&Healthcheck> {
        self.config.healthcheck.as_ref().filter(|check| check.is_one())
    }

    /// The TCP ports at which IPv4 reaches it, as (its own, the host's).
    #[must_use]
    pub fn ipv4_ports(&self) -> Vec<(u16, u16)> {
        let mut all = Vec::new();
        for (port, bindings) in &self.network_settings.ports {
            let Some(target) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else { continue };
            let four =
                bindings.iter().flatten().find(|bound| bound.host_ip.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4()));
            all.extend(four.and_then(|bound| Some((target, bound.host_port.parse().ok()?))));
        }
        all
    }
}

/// How a container is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `running`, `exited` and so on.
    pub status: String,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i64,
    /// Whether the kernel ended something in it for lack of memory.
    #[serde(default, rename = "OOMKilled")]
    pub oom_killed: bool,
    /// What its health check says.
    #[serde(default)]
    pub health: Option<Health>,
}

/// What a health check says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy` or `none`.
    #[serde(default)]
    pub status: String,
    /// How often it failed in a row.
    #[serde(default)]
    pub failing_streak: u32,
    /// Its last results, the oldest first.
    #[serde(default, deserialize_with = "or_empty")]
    pub log: Vec<HealthResult>,
}

/// One run of a health check.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// How it ended; -1 when it took too long.
    #[serde(default)]
    pub exit_code: i64,
    /// What it said.
    #[serde(default)]
    pub output: String,
}

/// What a container was made of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Its health check.
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
}

/// A health check, in nanoseconds as Docker has it; zero stands for the default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(default, deserialize_with = "or_empty")]
    test: Vec<String>,
    #[serde(default)]
    interval: u64,
    #[serde(default)]
    start_period: u64,
    #[serde(default)]
    retries: u32,
}

impl Healthcheck {
    fn is_one(&self) -> bool {
        self.test.first().is_some_and(|first| first != "NONE")
    }

    /// How long it takes at most to find out that a container is sick.
    #[must_use]
    pub fn finds_out_within(&self) -> Duration {
        let interval = if self.interval == 0 { Duration::from_secs(30) } else { Duration::from_nanos(self.interval) };
        let retries = if self.retries == 0 { 3 } else { self.retries };
        Duration::from_nanos(self.start_period).saturating_add(interval.saturating_mul(retries))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default, deserialize_with = "or_empty")]
    ports: BTreeMap<String, Option<Vec<Binding>>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Inspected {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_port_is_that_of_the_family_that_is_asked() {
        let ports = r#"{"80/tcp":[{"HostIp":"::","HostPort":"32769"},{"HostIp":"0.0.0.0","HostPort":"32768"}],
            "53/udp":[{"HostIp":"0.0.0.0","HostPort":"53"}],"90/tcp":null}"#;
        let seen = seen(&format!(r#"{{"State":{{"Status":"running"}},"NetworkSettings":{{"Ports":{ports}}}}}"#));
        assert_eq!(seen.ipv4_ports(), [(80, 32768)]);
    }

    #[test]
    fn a_health_check_takes_its_time_to_find_out() {
        let within = |check: &str| {
            let text = format!(r#"{{"State":{{"Status":"running"}},"Config":{{"Healthcheck":{check}}}}}"#);
            seen(&text).healthcheck().map(|check| check.finds_out_within().as_secs())
        };
        assert_eq!(
            within(r#"{"Test":["CMD","x"],"Interval":2000000000,"Retries":4,"StartPeriod":5000000000}"#),
            Some(13)
        );
        assert_eq!(within(r#"{"Test":["CMD","x"]}"#), Some(90), "Docker's defaults");
        assert_eq!(within(r#"{"Test":["NONE"]}"#), None);
        assert_eq!(within("null"), None);
    }
}
