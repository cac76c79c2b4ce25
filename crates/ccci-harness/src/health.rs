//! Asking an app whether it is there: HTTP with the right Host, TCP connects.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ccci_core::resolve::Addresses;
use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use crate::recipe::Probe;

/// One request or connect may take this long.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Where an app answers, and to which name.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The address of its front door.
    pub(crate) address: SocketAddr,
    /// The app's domain.
    pub(crate) host: String,
    /// The ports of the host at which ports of the app are published; `None` when they are asked as they are.
    pub(crate) ports: Option<BTreeMap<u16, u16>>,
}

impl Target {
    /// The URL that a test may use; it must send the domain as `Host`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The status that a path answers with. Redirects are answers, not followed.
    ///
    /// # Errors
    /// Why there was no answer.
    pub(crate) fn status(&self, path: &str) -> Result<u16, String> {
        let config = Agent::config_builder()
            .timeout_global(Some(ATTEMPT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // The app is on this host; a proxy of the CI's would answer in its place.
            .proxy(None)
            .build();
        let url = format!("{}{path}", self.base_url());
        let agent = Agent::with_parts(config, DefaultConnector::default(), Addresses);
        let answer = agent.get(&url).header("Host", &self.host).call();
        answer.map(|response| response.status().as_u16()).map_err(|error| error.to_string())
    }

    /// Asks a path once.
    ///
    /// # Errors
    /// What it answered instead.
    pub(crate) fn check_http(&self, path: &str, accepted: &[u16]) -> Result<(), String> {
        match self.status(path) {
            Ok(status) if accepted.contains(&status) => Ok(()),
            Ok(status) => Err(format!("GET {path} answered {status}, expected one of {accepted:?}")),
            Err(error) => Err(format!("GET {path}: {error}")),
        }
    }

    /// Tries a readiness probe once, with all its repetitions.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) fn check_probe(&self, probe: &Probe) -> Result<(), String> {
        for _ in 0..probe.times {
            if let Some(path) = &probe.http {
                self.check_http(path, &probe.status)?;
            }
            if let Some(port) = probe.tcp {
                let at = match &self.ports {
                    Some(published) => published.get(&port).copied(),
                    None => Some(port),
                };
                let at = at.ok_or_else(|| format!("port {port} of the app is not published yet"))?;
                let address = SocketAddr::new(self.address.ip(), at);
                TcpStream::connect_timeout(&address, ATTEMPT)
                    .map_err(|error| format!("connect to port {port}: {error}"))?;
            }
        }
        Ok(())
    }
}
