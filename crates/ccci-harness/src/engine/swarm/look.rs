//! Looking at a stack: services, their tasks, their updates.

use std::collections::BTreeSet;

use ccci_core::docker::Docker;
use ccci_core::docker::answers::{STACK_LABEL, Service, Task, TaskState, UpdateState};
use jiff::{SignedDuration, Timestamp};

use super::stack::chaos_version;
use crate::engine::{EngineError, Observation, ServiceState, Update};

/// Words of Swarm for a network of the host that takes no more tasks: without an address left (incidents `[9]`,
/// `[vip]`), or broken by a restart of Docker (moby/libnetwork#1765).
const NO_NETWORK: [&str; 4] = [
    "could not find an available IP",
    "ip addresses may be exhausted",
    "missing network attachments",
    "error creating vxlan interface",
];
/// How many log lines of a failing service are shown.
const LOG_LINES: u32 = 20;
/// A task gets its addresses within milliseconds of its making, or when somebody gives one back.
const ALLOCATED: SignedDuration = SignedDuration::from_secs(5);

/// A task of a service that failed before counts when it has run for this long: Swarm's own measure of
/// a task that started well.
const STEADY: SignedDuration = SignedDuration::from_secs(5);

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
pub(super) fn observe(docker: &Docker, stack: &str) -> Result<(Observation, Vec<Unallocated>), EngineError> {
    let services = services(docker, stack)?;
    let tasks = docker.tasks()?;
    let (mut commit, mut version, mut states, mut unallocated) = (None, None, Vec::new(), Vec::new());
    let now = Timestamp::now();
    for service in &services {
        commit = commit.or_else(|| service.spec.labels.get(&chaos_version(stack)).cloned());
        version = version.or_else(|| service.spec.labels.get(&format!("coop-cloud.{stack}.version")).cloned());
        let own: Vec<&Task> = tasks.iter().filter(|task| task.service_id == service.id).collect();
        let stays_new = |task: &&Task| {
            task.status.state == TaskState::New
                && task.desired_state <= TaskState::Running
                && now.duration_since(task.created_at) > ALLOCATED
        };
        if own.iter().any(stays_new) {
            unallocated.push(Unallocated { service: service.spec.name.clone(), networks: networks(service) });
        }
        let alive = alive(docker, &own)?;
        states.push(state(docker, service, &own, &alive, now));
    }
    Ok((Observation { services: states, commit, version }, unallocated))
}

/// The containers of these tasks that really run. Swarm hears of a container's death when Docker has long
/// known it, and its word alone made apps pass that had died at once ([crash-loop]).
fn alive<'task>(docker: &Docker, tasks: &[&'task Task]) -> Result<BTreeSet<&'task str>, EngineError> {
    let mut alive = BTreeSet::new();
    for task in tasks.iter().filter(|task| task.status.state == TaskState::Running) {
        if let Some(id) = container(task)
            && docker.runs(id)?
        {
            alive.insert(id);
        }
    }
    Ok(alive)
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

fn state(docker: &Docker, service: &Service, tasks: &[&Task], alive: &BTreeSet<&str>, now: Timestamp) -> ServiceState {
    // A task of an earlier version of the service says nothing about this one ([6]).
    let present: Vec<&&Task> = tasks.iter().filter(|task| task.spec == service.spec.task_template).collect();
    let runs = |task: &&&&Task| {
        task.status.state == TaskState::Running
            && task.desired_state == TaskState::Running
            && container(task).is_some_and(|id| alive.contains(id))
    };
    let running: Vec<&&&Task> = present.iter().filter(runs).collect();
    let steady = |task: &Task| task.status.timestamp.is_some_and(|since| now.duration_since(since) > STEADY);
    // What Swarm stopped had run well until then.
    let well = present.iter().filter(|task| task.status.state == TaskState::Shutdown);
    let well = well.chain(running.iter().copied().filter(|task| steady(task))).map(|task| task.created_at).max();
    let failed = present.iter().filter(|task| task.status.state.is_failure());
    let mut failed: Vec<&&&Task> = failed.filter(|task| well.is_none_or(|well| task.created_at > well)).collect();
    failed.sort_by_key(|task| task.created_at);
    // One that keeps dying is up for a moment each time ([crash-loop]).
    let running: Vec<_> = running.iter().filter(|task| failed.is_empty() || steady(task)).collect();
    let error = failed.last().and_then(|task| own_error(task));
    let host = present
        .iter()
        .map(|task| &task.status.err)
        .find(|error| NO_NETWORK.iter().any(|words| error.contains(words)))
        .cloned();
    let failures = u32::try_from(failed.len()).unwrap_or(u32::MAX);
    // Only who fails for good has its log read: it is a call of its own.
    let log = failed.last().filter(|_| failures >= 3).map_or_else(String::new, |task| last_lines(docker, task));
    ServiceState {
        name: service.spec.name.clone(),
        running: running.len() as u64,
        desired: service.spec.mode.replicated.as_ref().map_or(1, |replicated| replicated.replicas),
        since: running.iter().filter_map(|task| task.status.timestamp).max(),
        failures,
        error,
        log,
        update: update(docker, service, tasks),
        host,
    }
}

fn own_error(task: &Task) -> Option<String> {
    Some(task.status.err.clone()).filter(|error| !error.is_empty())
}

pub(super) fn container(task: &Task) -> Option<&str> {
    let id = task.status.container_status.as_ref().map(|status| status.container_id.as_str());
    id.filter(|id| !id.is_empty())
}

fn last_lines(docker: &Docker, task: &Task) -> String {
    container(task)
        .map_or_else(String::new, |container| docker.logs(container, LOG_LINES).unwrap_or_default().join("\n"))
}

/// The last lines of a service's youngest task, whatever became of it. None when Docker does not answer:
/// who asks has an error of its own to tell.
pub(super) fn last_words(docker: &Docker, stack: &str, service: &str) -> String {
    let (Ok(services), Ok(tasks)) = (docker.services(), docker.tasks()) else { return String::new() };
    let wanted = services.iter().find(|seen| belongs(seen, stack) && seen.spec.name == service);
    let own = tasks.iter().filter(|task| wanted.is_some_and(|wanted| wanted.id == task.service_id));
    own.filter(|task| container(task).is_some())
        .max_by_key(|task| task.created_at)
        .map_or_else(String::new, |task| last_lines(docker, task))
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
                let log = last_lines(docker, task);
                if !log.is_empty() {
                    words += &format!("\nits last lines:\n{log}");
                }
            }
            Update::Failed(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use ccci_core::docker::Endpoint;

    use super::*;

    fn service() -> Service {
        serde_json::from_str(
            r#"{"ID":"s","Spec":{"Name":"x_app","TaskTemplate":{},"Mode":{"Replicated":{"Replicas":1}}}}"#,
        )
        .unwrap()
    }

    fn task(status: &str) -> Task {
        serde_json::from_str(&format!(
            r#"{{"ID":"t","ServiceID":"s","CreatedAt":"2026-01-01T00:00:00Z","Spec":{{}},"DesiredState":"running",
                "Status":{status}}}"#
        ))
        .unwrap()
    }

    /// Nothing listens there: only a service that fails for good would be asked for its log.
    fn nobody() -> Docker {
        Docker::new(Endpoint::Tcp("127.0.0.1:1".to_owned()))
    }

    #[test]
    fn a_task_runs_when_its_container_does_whatever_swarm_says() {
        let task = task(r#"{"State":"running","ContainerStatus":{"ContainerID":"c"}}"#);
        let seen = |alive: &[&str]| {
            let alive = alive.iter().copied().collect();
            state(&nobody(), &service(), &[&task], &alive, Timestamp::UNIX_EPOCH).running
        };
        assert_eq!(seen(&["c"]), 1);
        assert_eq!(seen(&["other"]), 0);
    }

    #[test]
    fn a_network_that_takes_no_task_is_the_hosts_affair() {
        let told = |error: &str| {
            let task = task(&format!(r#"{{"State":"rejected","Err":"{error}"}}"#));
            state(&nobody(), &service(), &[&task], &BTreeSet::new(), Timestamp::UNIX_EPOCH).host.is_some()
        };
        assert!(told("could not find an available IP while allocating VIP"));
        assert!(told("network sandbox join failed: error creating vxlan interface: file exists"));
        assert!(!told("No such image: x:1"));
    }
}
