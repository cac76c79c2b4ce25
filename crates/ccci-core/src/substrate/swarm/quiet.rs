//! Waiting until nothing of a stack runs any more.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::Object;
use super::inventory::Inventory;
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

/// What is left of a stack that runs, or could come to run.
#[derive(Debug, Default)]
struct Left {
    tasks: BTreeSet<String>,
    /// Each with its task.
    containers: Vec<(Object, Option<String>)>,
}

impl Left {
    fn look(docker: &Docker, stack: &str) -> Result<Self, DockerError> {
        // Tasks first: one that goes on to start a container is then in one of the two.
        let tasks = docker.tasks()?;
        let containers = Inventory::take(docker)?.containers_of(stack);
        let of_container: BTreeSet<&String> = containers.iter().filter_map(|(_, task)| task.as_ref()).collect();
        let tasks = tasks.iter().filter(|task| task.stack() == Some(stack) || of_container.contains(&task.id));
        Ok(Self { tasks: tasks.map(|task| task.id.clone()).collect(), containers })
    }

    fn is_nothing(&self) -> bool {
        self.tasks.is_empty() && self.containers.is_empty()
    }
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
    loop {
        // Before the look, so that nothing falls between the look and the wait.
        let since = Timestamp::now();
        let left = Left::look(docker, stack).map_err(|error| error.to_string())?;
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
