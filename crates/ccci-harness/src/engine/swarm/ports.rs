//! The ports that a stack publishes on this host, over TCP: where it can be asked.

use std::collections::BTreeSet;

use ccci_core::docker::Docker;
use ccci_core::docker::answers::{Service, Task, TaskState};

use super::look::{container, services};
use crate::engine::EngineError;

/// The container's ports that a stack asks Docker to publish.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn asked_for(docker: &Docker, stack: &str) -> Result<BTreeSet<u16>, EngineError> {
    let services = services(docker, stack)?;
    let ports = services.iter().flat_map(|service| &service.spec.endpoint_spec.ports);
    Ok(ports.filter(|port| port.is_tcp()).map(|port| port.target_port).collect())
}

/// The container's port to which the reverse proxy leads, as the service `app` tells it.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn behind_the_proxy(docker: &Docker, stack: &str) -> Result<Option<u16>, EngineError> {
    let front = format!("{stack}_app");
    let services = services(docker, stack)?;
    let labels = services.iter().filter(|service| service.spec.name == front).flat_map(|service| &service.spec.labels);
    let port = |(key, value): (&String, &String)| {
        let is = key.starts_with("traefik.http.services.") && key.ends_with(".loadbalancer.server.port");
        is.then(|| value.parse().ok()).flatten()
    };
    Ok(labels.into_iter().find_map(port))
}

/// The ports as (container's, host's); those of the service `app` come first. A target can be in it more than
/// once, the one to ask first.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn published(docker: &Docker, stack: &str) -> Result<Vec<(u16, u16)>, EngineError> {
    let mut own = services(docker, stack)?;
    let front = format!("{stack}_app");
    own.sort_by_key(|service| service.spec.name != front);
    let tasks = docker.tasks()?;
    let mut all = Vec::new();
    for service in &own {
        for task in running(service, &tasks) {
            // Docker may give a dynamic port one number for IPv4 and another for IPv6, and its list of the
            // task's ports does not say which is which; the container's does.
            let bound = match container(task) {
                // Gone since the list was made: it has none.
                Some(id) => docker.inspect(id)?.map_or_else(Vec::new, |seen| seen.ipv4_ports()),
                None => Vec::new(),
            };
            let told = task.status.port_status.ports.iter().filter(|port| port.is_tcp());
            all.extend(bound);
            all.extend(told.map(|port| (port.target_port, port.published_port)));
        }
        let every_node = service.endpoint.ports.iter().filter(|port| port.is_tcp());
        all.extend(every_node.map(|port| (port.target_port, port.published_port)));
    }
    all.retain(|(_, published)| *published != 0);
    Ok(all)
}

fn running<'task>(service: &Service, tasks: &'task [Task]) -> impl Iterator<Item = &'task Task> {
    let id = service.id.clone();
    tasks.iter().filter(move |task| {
        task.service_id == id && task.status.state == TaskState::Running && task.desired_state == TaskState::Running
    })
}
