//! Looking at a stack: services, their tasks, their updates.

use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::docker::Docker;
use ccci_core::docker::answers::node::Resources;
use ccci_core::docker::answers::{Inspected, Node, STACK_LABEL, Service, Task, TaskState, UpdateState};

use super::stack::chaos_version;
use super::tasks::{self, Facts};
use super::words;
use crate::engine::sightings::Sightings;
use crate::engine::{EngineError, Observation, Update};

/// So many log lines of a failing service are read; equal ones are folded.
const LOG_LINES: u32 = 200;
/// A task gets its addresses within milliseconds of its making, or when somebody gives one back.
const ALLOCATED: Duration = Duration::from_secs(5);

/// A service whose task Swarm does not place on any network. It says nothing about it: the task just
/// stays new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unallocated {
    /// The service.
    pub(super) service: String,
    /// The ids of the networks that it wants to be on.
    pub(super) networks: Vec<String>,
}

/// Everything about a stack that convergence needs, and the services whose tasks stay new.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn observe(
    docker: &Docker,
    stack: &str,
    sightings: &Sightings,
) -> Result<(Observation, Vec<Unallocated>), EngineError> {
    let all = docker.services()?;
    let services: Vec<&Service> = all.iter().filter(|service| belongs(service, stack)).collect();
    let tasks = docker.tasks()?;
    let nodes = docker.nodes()?;
    let reserved = reserved(&services);
    let (mut commit, mut version, mut states, mut unallocated) = (None, None, Vec::new(), Vec::new());
    for service in &services {
        commit = commit.or_else(|| service.spec.labels.get(&chaos_version(stack)).cloned());
        version = version.or_else(|| service.spec.labels.get(&format!("coop-cloud.{stack}.version")).cloned());
        let own: Vec<&Task> = tasks.iter().filter(|task| task.service_id == service.id).collect();
        let stays_new = |task: &&Task| {
            task.status.state == TaskState::New
                && task.desired_state <= TaskState::Running
                && sightings.age(format!("{} new", task.id)) > ALLOCATED
        };
        if own.iter().any(stays_new) {
            unallocated.push(Unallocated { service: service.spec.name.clone(), networks: networks(service) });
        }
        let present = tasks::present(service, &own);
        let facts = Facts {
            containers: containers(docker, &present)?,
            nodes: &nodes,
            too_large: nodes.iter().all(|node| exceeds(reserved, node)),
            port_holder: port_holder(service, &all, &tasks),
            sightings,
        };
        let mut state = tasks::state(service, &present, &facts);
        state.update = update(docker, service, &own);
        // Only who fails for good has its log read: it is a call of its own.
        if state.failures >= 3 || state.never.is_some() {
            state.log = newest_container(&present).map_or_else(String::new, |id| last_lines(docker, id));
        }
        states.push(state);
    }
    Ok((Observation { services: states, commit, version }, unallocated))
}

/// What the stack's services reserve together.
fn reserved(services: &[&Service]) -> Resources {
    let all = services.iter().map(|service| {
        let wanted = service.spec.task_template.rest.get("Resources").and_then(|all| all.get("Reservations"));
        let wanted = wanted.map(|wanted| serde_json::from_value::<Resources>(wanted.clone()));
        // What is no number of bytes is none that anybody could have too little of.
        let wanted = wanted.and_then(Result::ok).unwrap_or_default();
        let replicas = service.spec.mode.replicated.as_ref().map_or(1, |replicated| replicated.replicas);
        let times = |one: i64| one.saturating_mul(i64::try_from(replicas).unwrap_or(i64::MAX));
        Resources { nano_cpus: times(wanted.nano_cpus), memory_bytes: times(wanted.memory_bytes) }
    });
    all.fold(Resources::default(), |sum, one| Resources {
        nano_cpus: sum.nano_cpus.saturating_add(one.nano_cpus),
        memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
    })
}

/// Whether a node has less in all than this.
fn exceeds(wanted: Resources, node: &Node) -> bool {
    let has = node.description.resources;
    wanted.nano_cpus > has.nano_cpus || wanted.memory_bytes > has.memory_bytes
}

/// Which other service has a host's port that this one wants, and whether it is of the same stack.
fn port_holder(service: &Service, all: &[Service], tasks: &[Task]) -> Option<(String, bool)> {
    let fixed = |service: &Service| {
        let ports = service.spec.endpoint_spec.ports.clone().into_iter();
        ports.filter(|port| port.publish_mode == "host" && port.published_port != 0).collect::<Vec<_>>()
    };
    let wanted = fixed(service);
    let same = |other: &Service| {
        let theirs = fixed(other);
        let clash = |port: &&ccci_core::docker::answers::service::Port| {
            theirs.iter().any(|other| (other.published_port, &other.protocol) == (port.published_port, &port.protocol))
        };
        wanted.iter().find(clash).map(|port| port.published_port)
    };
    let runs = |other: &Service| {
        tasks.iter().any(|task| task.service_id == other.id && task.status.state == TaskState::Running)
    };
    let stack = service.spec.labels.get(STACK_LABEL);
    all.iter().filter(|other| runs(other)).find_map(|other| {
        let port = same(other)?;
        let own = other.id == service.id || other.spec.labels.get(STACK_LABEL) == stack;
        Some((format!("port {port} is {}'s", other.spec.name), own))
    })
}

/// The containers of these tasks that run or should, and of the last one that is over. Swarm hears of a container's
/// death when Docker has long known it, and its word alone made apps pass that had died at once ([crash-loop]).
fn containers(docker: &Docker, present: &[&Task]) -> Result<BTreeMap<String, Inspected>, EngineError> {
    let over = present.iter().filter(|task| task.status.state.is_over()).max_by_key(|task| task.created_at);
    let wanted = present.iter().filter(|task| !task.status.state.is_over()).chain(over);
    let mut seen = BTreeMap::new();
    for id in wanted.filter_map(|task| container(task)) {
        seen.extend(docker.inspect(id)?.map(|inspected| (id.to_owned(), inspected)));
    }
    Ok(seen)
}

fn newest_container<'task>(present: &[&'task Task]) -> Option<&'task str> {
    let started = present.iter().filter(|task| container(task).is_some());
    started.max_by_key(|task| task.created_at).and_then(|task| container(task))
}

fn networks(service: &Service) -> Vec<String> {
    let wanted = service.spec.task_template.rest.get("Networks").and_then(serde_json::Value::as_array);
    let targets = wanted.into_iter().flatten().filter_map(|network| network.get("Target")?.as_str());
    targets.map(str::to_owned).collect()
}

/// Whether a service of the stack asks the backup bot to save it.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn asks_for_backup(docker: &Docker, stack: &str) -> Result<bool, EngineError> {
    const LABEL: &str = "backupbot.backup";
    let asks = |service: &Service| {
        let container = service.spec.task_template.container_spec.as_ref().map(|spec| &spec.labels);
        let mut all = std::iter::once(&service.spec.labels).chain(container);
        all.any(|labels| labels.get(LABEL).is_some_and(|value| value == "true"))
    };
    Ok(services(docker, stack)?.iter().any(asks))
}

/// The stack's services.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn services(docker: &Docker, stack: &str) -> Result<Vec<Service>, EngineError> {
    Ok(docker.services()?.into_iter().filter(|service| belongs(service, stack)).collect())
}

pub(super) fn belongs(service: &Service, stack: &str) -> bool {
    service.spec.labels.get(STACK_LABEL).is_some_and(|label| label == stack)
}

pub(super) fn own_error(task: &Task) -> Option<String> {
    Some(task.status.err.clone()).filter(|error| !error.is_empty())
}

pub(super) fn container(task: &Task) -> Option<&str> {
    let id = task.status.container_status.as_ref().map(|status| status.container_id.as_str());
    id.filter(|id| !id.is_empty())
}

/// What a container said last; why that cannot be read, where it cannot.
fn last_lines(docker: &Docker, container: &str) -> String {
    match docker.logs(container, LOG_LINES) {
        Ok(lines) => words::folded(&lines),
        Err(error) => format!("(its log cannot be read: {})", words::line(&error.to_string())),
    }
}

/// The last lines of a service's youngest task, whatever became of it. None when Docker does not answer:
/// who asks has an error of its own to tell.
pub(super) fn last_words(docker: &Docker, stack: &str, service: &str) -> String {
    let (Ok(services), Ok(tasks)) = (docker.services(), docker.tasks()) else { return String::new() };
    let wanted = services.iter().find(|seen| belongs(seen, stack) && seen.spec.name == service);
    let own = tasks.iter().filter(|task| wanted.is_some_and(|wanted| wanted.id == task.service_id));
    newest_container(&own.collect::<Vec<_>>()).map_or_else(String::new, |id| last_lines(docker, id))
}

fn update(docker: &Docker, service: &Service, tasks: &[&Task]) -> Update {
    let Some(status) = &service.update_status else { return Update::Settled };
    match status.state {
        None | Some(UpdateState::Updating | UpdateState::RollbackStarted) => Update::Going,
        Some(UpdateState::Completed) => Update::Settled,
        // Settled in Swarm's eyes; what was asked for did not come about ([7], [8]).
        Some(UpdateState::Paused | UpdateState::RollbackPaused | UpdateState::RollbackCompleted) => {
            // Swarm only says that it went back. Why, the task says that failed: it is none of the
            // present version any more.
            let failed = tasks.iter().filter(|task| task.status.state.is_failure()).max_by_key(|task| task.created_at);
            let mut words = status.message.clone();
            if let Some(task) = failed {
                words += &own_error(task).map_or_else(String::new, |error| format!(": {error}"));
                let log = container(task).map_or_else(String::new, |id| last_lines(docker, id));
                if !log.is_empty() {
                    words += &format!("\nits last lines:\n{log}");
                }
            }
            Update::Failed(words)
        }
    }
}
