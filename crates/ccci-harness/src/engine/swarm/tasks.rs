//! What the tasks of one service amount to: how many are there, what the others wait for, and whether that can
//! still change.

use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::docker::answers::{Inspected, Node, Service, Task, TaskState};

use super::look::{container, own_error};
use super::words;
use crate::engine::sightings::Sightings;
use crate::engine::{Blame, Never, ServiceState};

/// A task of a service that failed before counts when it has run for this long: Swarm's own measure of a task that
/// started well.
const STEADY: Duration = Duration::from_secs(5);
/// Swarm makes the successor of a task in the same step in which it gives the task up.
const FINAL: Duration = Duration::from_secs(1);

/// What else is known.
pub(super) struct Facts<'look> {
    /// The containers of the tasks that run or should, and of the last one that is over.
    pub(super) containers: BTreeMap<String, Inspected>,
    pub(super) nodes: &'look [Node],
    /// Whether the stack reserves more than any node has.
    pub(super) too_large: bool,
    /// Who has a host's port that the service wants, and whether that is the same stack.
    pub(super) port_holder: Option<(String, bool)>,
    pub(super) sightings: &'look Sightings,
}

impl Facts<'_> {
    fn container(&self, task: &Task) -> Option<&Inspected> {
        self.containers.get(container(task)?)
    }
}

/// The tasks of the service as it is now. One of an earlier version says nothing about this one (`[6]`), and neither
/// does one of an earlier run of a job.
pub(super) fn present<'task>(service: &Service, tasks: &[&'task Task]) -> Vec<&'task Task> {
    let iteration = service.job_status.as_ref().map(|status| status.job_iteration);
    let is_present = |task: &&&Task| match iteration {
        Some(now) if service.spec.mode.is_job() => task.job_iteration.unwrap_or_default() == now,
        _ => task.spec == service.spec.task_template,
    };
    tasks.iter().filter(is_present).copied().collect()
}

/// How a service does, but for its update and its log.
pub(super) fn state(service: &Service, present: &[&Task], facts: &Facts<'_>) -> ServiceState {
    let mode = &service.spec.mode;
    let ends_well = mode.is_job() || is_one_shot(service, present, facts);
    // Seen first, then made first: Docker's clock may have been set in between.
    let order = |task: &&&Task| (facts.sightings.first(task.id.clone()), task.created_at);
    let runs = |task: &&&Task| {
        task.status.state == TaskState::Running
            && task.desired_state <= TaskState::Complete
            && facts.container(task).is_some_and(|seen| seen.runs() && !is_unhealthy(seen))
    };
    let up = |task: &&Task| facts.sightings.age(format!("{} runs", task.id));
    let running: Vec<&&Task> = present.iter().filter(runs).collect();
    // Every task that runs is remembered, whether or not it is asked for below.
    let ages: BTreeMap<&str, Duration> = running.iter().map(|task| (task.id.as_str(), up(task))).collect();
    let steady = |task: &&Task| ages.get(task.id.as_str()).is_some_and(|age| *age > STEADY);
    // What Swarm stopped had run well until then.
    let well = present.iter().filter(|task| task.status.state == TaskState::Shutdown);
    let well = well.chain(running.iter().copied().filter(|task| steady(task))).map(|task| order(&task)).max();
    let is_bad =
        |task: &&&Task| task.status.state.is_failure() || (task.status.state == TaskState::Complete && !ends_well);
    let failed = present.iter().filter(is_bad).filter(|task| well.is_none_or(|well| order(task) > well));
    let mut failed: Vec<&&Task> = failed.collect();
    failed.sort_by_key(order);
    let done = present.iter().filter(|task| ends_well && task.status.state == TaskState::Complete).count();
    // One that keeps dying is up for a moment each time ([crash-loop]).
    let there: Vec<&&Task> = running.iter().copied().filter(|task| failed.is_empty() || steady(task)).collect();
    let (desired, drained) = desired(service, facts.nodes);
    let running_count = if mode.is_job() { done } else { there.len() + if ends_well { done.min(1) } else { 0 } };
    let error = failed.last().map(|task| explain(task, facts.container(task)));
    let probation = there.iter().filter_map(|task| facts.container(task)?.healthcheck());
    let mut state = ServiceState {
        name: service.spec.name.clone(),
        running: (running_count as u64).min(desired.max(there.len() as u64)),
        desired,
        up: there.iter().filter_map(|task| ages.get(task.id.as_str()).copied()).min(),
        probation: probation.map(|check| check.finds_out_within()).max().unwrap_or_default(),
        failures: u32::try_from(failed.len()).unwrap_or(u32::MAX),
        failing_since: failed.first().map(|task| facts.sightings.first(format!("{} failed", task.id))),
        blame: error.as_deref().map_or(Blame::Recipe, words::blame),
        error,
        ..ServiceState::default()
    };
    if state.running < state.desired {
        say_what_is_missing(&mut state, present, facts, ends_well, drained);
    }
    let network = present.iter().map(|task| &task.status.err).find(|error| words::no_network(error));
    if let Some(error) = network {
        state.never = Some(Never::Host(error.clone()));
    }
    state
}

/// How many tasks a service wants, and whether a node that may have one takes none at the moment.
fn desired(service: &Service, nodes: &[Node]) -> (u64, bool) {
    let mode = &service.spec.mode;
    if let Some(replicated) = &mode.replicated {
        return (replicated.replicas, false);
    }
    if let Some(job) = &mode.replicated_job {
        return (job.total_completions.or(job.max_concurrent).unwrap_or(1), false);
    }
    let constraints = service.spec.task_template.rest.get("Placement").and_then(|place| place.get("Constraints"));
    let constraints: Vec<&str> = constraints
        .and_then(serde_json::Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().filter_map(serde_json::Value::as_str).collect());
    let eligible: Vec<&Node> = nodes.iter().filter(|node| node.satisfies(constraints.iter().copied())).collect();
    (eligible.len() as u64, eligible.iter().any(|node| !node.takes_tasks()))
}

/// Whether its tasks may end with success and are not started again then. What is asked from outside, or checked
/// inside, is meant to stay.
fn is_one_shot(service: &Service, present: &[&Task], facts: &Facts<'_>) -> bool {
    let condition = service.spec.task_template.rest.get("RestartPolicy").and_then(|policy| policy.get("Condition"));
    let ends = matches!(condition.and_then(serde_json::Value::as_str), Some("none" | "on-failure"));
    let routed = service.spec.labels.get("traefik.enable").is_some_and(|value| value == "true");
    let checked = present.iter().any(|task| facts.container(task).is_some_and(|seen| seen.healthcheck().is_some()));
    ends && !routed && !checked && service.spec.endpoint_spec.ports.is_empty()
}

/// What the service waits for, and whether that is in vain.
fn say_what_is_missing(state: &mut ServiceState, present: &[&Task], facts: &Facts<'_>, ends_well: bool, drained: bool) {
    if drained {
        state.waits_for = Some("the node takes no tasks: it is drained, paused or down".to_owned());
        state.blame = Blame::Host;
    }
    // A slot's last task stands for it.
    let mut slots: BTreeMap<(u64, &str), &Task> = BTreeMap::new();
    for task in present {
        let node = if task.slot == 0 { task.node_id.as_str() } else { "" };
        let last = slots.entry((task.slot, node)).or_insert(task);
        let order = |task: &Task| (facts.sightings.first(task.id.clone()), task.created_at);
        if order(task) > order(last) {
            *last = task;
        }
    }
    for task in slots.values() {
        if task.status.state.is_over() {
            let good = ends_well && task.status.state == TaskState::Complete;
            let given_up = task.desired_state > TaskState::Complete
                && !good
                && matches!(
                    task.status.state,
                    TaskState::Complete | TaskState::Failed | TaskState::Rejected | TaskState::Orphaned
                );
            if given_up && facts.sightings.age(format!("{} given up", task.id)) >= FINAL {
                let error = explain(task, facts.container(task));
                state.failing_since.get_or_insert(facts.sightings.first(format!("{} failed", task.id)));
                state.never = Some(match words::blame(&error) {
                    Blame::Host => Never::Host(error),
                    Blame::Recipe => Never::Ended(error),
                });
            }
            continue;
        }
        let pending = &task.status.err;
        if pending.is_empty() || task.status.state > TaskState::Pending {
            state.waits_for.get_or_insert_with(|| progress(task, facts, state.error.as_deref()));
            continue;
        }
        let mut told = words::line(pending);
        let holder = facts.port_holder.as_ref().filter(|_| pending.contains("port already in use"));
        if let Some((holder, _)) = holder {
            told = format!("{told}: {holder}");
        }
        let own = holder.is_some_and(|(_, own)| *own);
        state.blame = if own { Blame::Recipe } else { words::blame(pending) };
        let said_for = facts.sightings.age(format!("{} {pending}", task.id));
        if words::hopeless_after(pending, facts.too_large, own).is_some_and(|limit| said_for >= limit) {
            state.never = Some(match state.blame {
                Blame::Host => Never::Host(told.clone()),
                Blame::Recipe => Never::Impossible(told.clone()),
            });
        }
        state.waits_for = Some(told);
    }
    if present.is_empty() && state.waits_for.is_none() {
        state.waits_for = Some("Swarm has made no task of this version yet".to_owned());
    }
}

/// What a task that was placed is at.
fn progress(task: &Task, facts: &Facts<'_>, before: Option<&str>) -> String {
    let before = before.map_or_else(String::new, |error| format!("; the one before: {}", words::line(error)));
    let seen = facts.container(task);
    match task.status.state {
        TaskState::Starting | TaskState::Running => match seen {
            Some(seen) => match health(seen) {
                Some(failing) => format!("running, but {failing}"),
                None if seen.runs() && seen.healthcheck().is_some() => {
                    format!("running, and its health check has not said that it is well{before}")
                }
                None if seen.runs() => format!("just started{before}"),
                None => format!("its container is {}{before}", seen.state.status),
            },
            None => format!("its container is not there yet{before}"),
        },
        TaskState::Ready if task.desired_state < TaskState::Running => format!("about to be started again{before}"),
        other => format!("{}{before}", format!("{other:?}").to_lowercase()),
    }
}

/// That a health check fails, in its own words.
fn health(seen: &Inspected) -> Option<String> {
    let health = seen.state.health.as_ref().filter(|health| health.failing_streak > 0)?;
    let said = health.log.last().map_or_else(String::new, |last| {
        let output = words::line(&last.output);
        let exit = if last.exit_code < 0 { "took too long".to_owned() } else { format!("exit {}", last.exit_code) };
        if output.is_empty() { format!(": {exit}") } else { format!(": {exit}: {output}") }
    });
    Some(format!("its health check fails, {} in a row{said}", health.failing_streak))
}

fn is_unhealthy(seen: &Inspected) -> bool {
    seen.state.health.as_ref().is_some_and(|health| health.status == "unhealthy")
}

/// Why a task is over, by everybody who knows something of it.
fn explain(task: &Task, seen: Option<&Inspected>) -> String {
    let code = task.status.container_status.as_ref().map_or(0, |status| status.exit_code);
    let mut why = match own_error(task) {
        Some(error) if error.contains(&format!("exit ({code})")) => {
            format!("exit code {code} ({})", words::line(&error))
        }
        Some(error) => words::line(&error),
        None => format!("it ended with exit code {code}"),
    };
    if let Some(seen) = seen {
        if seen.state.oom_killed {
            why += ", killed for lack of memory";
        }
        if let Some(failing) = health(seen).filter(|_| is_unhealthy(seen)) {
            why = format!("{failing} (then {why})");
        }
    }
    why
}

#[cfg(test)]
mod tests;
