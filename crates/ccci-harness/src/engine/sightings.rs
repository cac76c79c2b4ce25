//! How long something has been as it is, by our own observations on the boot clock.
//!
//! Docker's own times are the wall clock's, which somebody may set: compared with ours, a clock that was set back
//! made everything young for ever, and one that was set forward made everything old at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;

/// What was seen, and when it was seen first.
#[derive(Debug, Default)]
pub(super) struct Sightings(RefCell<BTreeMap<String, Deadline>>);

impl Sightings {
    /// When `what` was seen first: now, if it never was.
    pub(super) fn first(&self, what: String) -> Deadline {
        *self.0.borrow_mut().entry(what).or_insert_with(|| Deadline::after(Duration::ZERO))
    }

    /// How long ago `what` was seen first.
    pub(super) fn age(&self, what: String) -> Duration {
        self.first(what).elapsed()
    }
}

#[cfg(test)]
impl Sightings {
    /// As if everything had been seen this much earlier.
    pub(super) fn make_older(&self, by: Duration) {
        for first in self.0.borrow_mut().values_mut() {
            *first = first.earlier(by);
        }
    }
}
