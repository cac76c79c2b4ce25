//! The owner record of whoever takes down what a dead run left, the janitor or `reap`, while it has the lock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::lock::{LockPath, Owner};
use crate::process::procfs::{Process, boot_id};

/// The record, for the run that comes to wait behind it. What the dead run's told of its directory stays.
#[must_use]
pub fn record(who: &str, phase: &str, at: &LockPath, before: Option<Owner>, budget: Duration) -> Owner {
    let Process { pid, start_ticks } = Process::own();
    let since = Timestamp::now();
    let end = SignedDuration::try_from(budget).ok().and_then(|budget| since.checked_add(budget).ok());
    let (run_dir, recipe) = before.map_or_else(Default::default, |owner| (owner.run_dir, owner.recipe));
    Owner {
        run_id: format!("{who}-{pid}"),
        pid,
        start_ticks,
        boot_id: boot_id(),
        run_dir,
        recipe: if recipe.is_empty() { at.name().to_string() } else { recipe },
        pr: None,
        git_ref: None,
        phase: phase.to_owned(),
        since,
        deadline: end.unwrap_or(since),
    }
}
