//! Waiting until nothing of a stack runs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::Object;
use super::inventory::Inventory;
use crate::docker::answers::Task;
use crate::docker::events::Event;
use crate::docker::{Docker, DockerError, Removable};
use crate::lifetime::clock::Deadline;
use crate::weaken::{self, Protection};

/// What containers get to stop by themselves. Docker's own default is ten seconds; a service may ask
/// for more, but its data is about to be removed.
const STOP: Duration = Duration::from_secs(30);
/// What Docker gets to take away containers that were killed.
const FORCED: Duration = Duration::from_secs(30);
/// How long to wait for a word from Docker before looking again all the same: the end of a task that
/// has no container is not announced.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A job's task that is over stays in Swarm's list for good when its service is removed (moby#44312). Without a
/// container it holds nothing once Swarm has taken its addresses back, which takes it a moment.
const JOB_OVER: Duration = Duration::from_secs(1);
/// Any other task goes from the list by itself; one that does not go is no reason to leave all else behind.
const TASK_OVER: Duration = Duration::from_secs(10);

/// What is left of a stack that runs, or could come to run.
#[derive(Debug, Default)]
struct Left {
    tasks: BTreeSet<String>,
    /// Each with its task.
    containers: Vec<(Object, Option<String>)>,
}

impl Left {
    /// `over` knows since when each task has been seen to be over without a container.
    fn look(docker: &Docker, stack: &str, over: &mut BTreeMap<String, Deadline>) -> Result<Self, DockerError> {
        // Tasks first: one that goes on to start a container is then in one of the two.
        let tasks = docker.tasks()?;
        let containers = Inventory::take(docker)?.containers_of(stack);
        let of_container: BTreeSet<&String> = containers.iter().filter_map(|(_, task)| task.as_ref()).collect();
        let tasks = tasks.iter().filter(|task| task.stack() == Some(stack) || of_container.contains(&task.id));
        let tasks = tasks.filter(|task| of_container.contains(&task.id) || !holds_nothing(task, over));
        Ok(Self { tasks: tasks.map(|task| task.id.clone()).collect(), containers })
    }

    fn is_nothing(&self) -> bool {
        self.tasks.is_empty() && self.containers.is_empty()
    }
}

/// Whether a task without a container has been over for so long that it holds nothing any more.
fn holds_nothing(task: &Task, over: &mut BTreeMap<String, Deadline>) -> bool {
    if !task.status.state.is_over() || !weaken::on(Protection::FinishedTasks) {
        return false;
    }
    let since = *over.entry(task.id.clone()).or_insert_with(|| Deadline::after(Duration::ZERO));
    since.elapsed() >= if task.job_iteration.is_some() { JOB_OVER } else { TASK_OVER }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.containers.iter().map(|(container, _)| container.name.as_str()).collect();
        write!(f, "{} tasks and {} containers are left: {}", self.tasks.len(), names.len(), names.join(", "))
    }
}

/// Waits until no task and no container of `stack` is left. `Err` says what stays.
///
/// Its services must be gone, or Swarm would start new ones. A container is removed by us when it has
/// no task (any more), and any of them when their time is over: a node takes two seconds to remove a
/// container whose task is gone, for the benefit of other nodes, and by then it holds nothing.
pub(super) fn wait(docker: &Docker, stack: &str) -> Result<(), String> {
    if !weaken::on(Protection::WaitForContainers) {
        return Ok(());
    }
    let stop = Deadline::after(STOP);
    let forced = Deadline::after(STOP + FORCED);
    let mut over = BTreeMap::new();
    loop {
        // Before the look, so that nothing falls between the look and the wait.
        let since = Timestamp::now();
        let left = Left::look(docker, stack, &mut over).map_err(|error| error.to_string())?;
        if left.is_nothing() {
            return Ok(());
        }
        if forced.passed() {
            return Err(left.to_string());
        }
        let mut removed = false;
        for (container, task) in &left.containers {
            if stop.passed() || task.as_ref().is_none_or(|task| !left.tasks.contains(task)) {
                docker.remove(Removable::Container, &container.id).map_err(|error| error.to_string())?;
                removed = true;
            }
        }
        if !removed {
            docker.wait_for_change(&[Event::Container], since, LOOK_AGAIN).map_err(|error| error.to_string())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_over_and_has_no_container_holds_nothing_after_a_while() {
        let task = |state: &str, more: &str| -> Task {
            let text = format!(
                r#"{{"ID":"t","CreatedAt":"2026-01-01T00:00:00Z","Spec":{{}},"Status":{{"State":"{state}"}},
                    "DesiredState":"shutdown"{more}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let after = |task: &Task, seconds| {
            let since = Deadline::after(Duration::ZERO).earlier(Duration::from_secs(seconds));
            holds_nothing(task, &mut BTreeMap::from([("t".to_owned(), since)]))
        };
        let job = r#","JobIteration":{}"#;
        for state in ["complete", "failed", "rejected", "shutdown", "orphaned"] {
            assert!(
                after(&task(state, job), 2) && !after(&task(state, ""), 2) && after(&task(state, ""), 11),
                "{state}"
            );
            assert!(!holds_nothing(&task(state, job), &mut BTreeMap::new()), "{state}, seen for the first time");
        }
        assert!(!after(&task("running", job), 99) && !after(&task("new", ""), 99));
    }
}
