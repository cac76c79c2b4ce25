//! A lock that is held: by whom, and whether for longer than any run may.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ccci_core::lock::proc_locks::{self, Entry};
use ccci_core::lock::{LockPath, Owner, owner};

use super::Sweep;
use crate::report::Finding;

impl Sweep<'_> {
    pub(super) fn report_holder(&mut self, at: &LockPath) {
        let (record, unreadable) = match owner::of(at.path()) {
            Ok(record) => (record, false),
            Err(_) => (None, true),
        };
        let entries = self.entries_of(at.path());
        let waiting = entries.iter().filter(|entry| entry.waits).count();
        let pid = entries.iter().find(|entry| !entry.waits).map(|entry| entry.pid);
        // A record that is not the holder's says nothing about it: it may be a dead run's, not yet replaced.
        let record = record.filter(|owner| pid.is_none_or(|pid| pid == owner.pid));
        let held_for = held_for(at.path(), record.as_ref());
        let allowed = record.as_ref().map_or(self.settings.deadline, |owner| {
            Duration::try_from(owner.deadline.duration_since(owner.since)).unwrap_or(self.settings.deadline)
        });
        let holder = match (&record, pid) {
            (Some(owner), _) => owner.describe(),
            (None, Some(pid)) if unreadable => format!("pid {pid}, whose record cannot be read"),
            (None, Some(pid)) => format!("pid {pid}, which left no record"),
            (None, None) => "a process that left no record".to_owned(),
        };
        let name = at.name().to_string();
        self.found(if outlived(held_for, allowed, self.settings.teardown_budget) {
            Finding::PossiblyLeaked { name, holder, waiting }
        } else {
            Finding::Live { name, holder, waiting }
        });
    }

    /// Holder and waiters of a lock. All locks are read again only for one that is not among those of the last look,
    /// or every lock that is held would cost as much as there are.
    fn entries_of(&mut self, path: &Path) -> Vec<Entry> {
        let known = proc_locks::among(&self.locks, path).unwrap_or_default();
        if !known.is_empty() {
            return known;
        }
        self.locks = proc_locks::all().unwrap_or_default();
        proc_locks::among(&self.locks, path).unwrap_or_default()
    }
}

/// How long a lock is held: since its record says, or since its file was last written to.
fn held_for(path: &Path, record: Option<&Owner>) -> Duration {
    let since = match record {
        Some(owner) => SystemTime::from(owner.since),
        None => match path.symlink_metadata().and_then(|meta| meta.modified()) {
            Ok(modified) => modified,
            Err(_) => return Duration::ZERO,
        },
    };
    SystemTime::now().duration_since(since).unwrap_or(Duration::ZERO)
}

/// Whether a lock is held for longer than any run may hold it: twice its deadline, and in any case its
/// deadline and a whole teardown.
fn outlived(held_for: Duration, deadline: Duration, teardown: Duration) -> bool {
    held_for > deadline.saturating_mul(2).max(deadline.saturating_add(teardown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_hold_its_lock_for_its_deadline_and_a_teardown() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert!(!outlived(minutes(119), minutes(60), minutes(10)));
        assert!(outlived(minutes(121), minutes(60), minutes(10)));
        assert!(!outlived(minutes(10), minutes(1), minutes(10)), "still in its teardown");
        assert!(outlived(minutes(12), minutes(1), minutes(10)));
    }
}
