//! Waiting until nothing of a stack runs any more.

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
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is left of a stack that runs, or could come to run.
#[derive(Debug, Default)]
struct Left {
    tasks: usize,
    /// With each, whether Swarm takes it away.
    containers: Vec<(Object, bool)>,
}

/// Waits until no task and no container of `stack` is left. `Err` says what stays.
///
/// Its services must be gone, or Swarm would start new ones. Containers that Swarm did not start stop
/// for nobody and are removed at once, the others when their time is over.
pub(super) fn wait(docker: &Docker, stack: &str) -> Result<(), String> {
    if !weaken::on(Protection::WaitForContainers) {
        return Ok(());
    }
    let stop = Deadline::after(STOP);
    let forced = Deadline::after(STOP + FORCED);
    loop {
        // Before the look, so that nothing falls between the look and the wait.
        let since = Timestamp::now();
        let left = look(docker, stack).map_err(|error| error.to_string())?;
        if left.tasks == 0 && left.containers.is_empty() {
            return Ok(());
        }
        if forced.passed() {
            let names: Vec<&str> = left.containers.iter().map(|(container, _)| container.name.as_str()).collect();
            return Err(format!("{} tasks and {} containers are left: {}", left.tasks, names.len(), names.join(", ")));
        }
        for (container, task) in &left.containers {
            if stop.passed() || !task {
                docker.remove(Removable::Container, &container.id).map_err(|error| error.to_string())?;
            }
        }
        docker.wait_for_change(&[Event::Container], since, LOOK_AGAIN).map_err(|error| error.to_string())?;
    }
}

fn look(docker: &Docker, stack: &str) -> Result<Left, DockerError> {
    // Tasks first: one that goes on to start a container is then in one of the two.
    let tasks = docker.tasks()?.iter().filter(|task| task.stack() == Some(stack)).count();
    Ok(Left { tasks, containers: Inventory::take(docker)?.containers_of(stack) })
}
