//! How many addresses a network really has left: by taking some.
//!
//! An engine before 29 does not tell ([`crate::docker::host`]). A service without tasks gets one
//! address on its network, or none when there is none, and gives it back when it is removed; that
//! was seen to be exact, and repeatable, on a network of five.

use std::time::Duration;

use jiff::Timestamp;

use super::{Swarm, unreadable};
use crate::docker::events::Event;
use crate::docker::{Docker, DockerError, Removable};
use crate::lifetime::clock::Deadline;
use crate::lock::AppLock;
use crate::name::Domain;
use crate::substrate::SubstrateError;

/// How long Swarm may take for the next address. It takes milliseconds, or for ever.
const NEXT: Duration = Duration::from_secs(2);
/// How long to wait for a word from Docker before looking again all the same.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Swarm {
    /// How many of `wanted` addresses can be had on `network` (its name or id).
    ///
    /// Makes that many services of the app, which belong to it like any other: a probe that is killed
    /// leaves them to the app's teardown. Waits two seconds more when there are too few.
    ///
    /// # Errors
    /// [`SubstrateError`]; whatever happened, the services are removed again as far as possible.
    pub fn free_addresses(
        &self,
        lock: &AppLock,
        domain: &Domain,
        network: &str,
        wanted: usize,
    ) -> Result<usize, SubstrateError> {
        lock.verify()?;
        let docker = self.docker()?;
        let network = docker.network(network).map_err(unreadable)?.id;
        let mut made = Vec::new();
        let had = take(docker, &domain.stack_name(), &network, wanted, &mut made).map_err(unreadable);
        for id in &made {
            docker.remove(Removable::Service, id).map_err(unreadable)?;
        }
        had
    }
}

fn take(
    docker: &Docker,
    stack: &str,
    network: &str,
    wanted: usize,
    made: &mut Vec<String>,
) -> Result<usize, DockerError> {
    for number in 0..wanted {
        made.push(docker.create_idle_service(&format!("{stack}_ccci-probe-{number}"), stack, network)?);
    }
    let (mut had, mut until) = (0, Deadline::after(NEXT));
    loop {
        let since = Timestamp::now();
        let services = docker.services()?;
        let addresses = services.iter().filter(|service| made.contains(&service.id));
        let addresses = addresses.flat_map(|service| &service.endpoint.virtual_ips);
        let now = addresses.filter(|ip| ip.network_id == network && !ip.addr.is_empty()).count();
        if now > had {
            (had, until) = (now, Deadline::after(NEXT));
        }
        if had == wanted || until.passed() {
            return Ok(had);
        }
        docker.wait_for_change(&[Event::Service], since, LOOK_AGAIN)?;
    }
}
