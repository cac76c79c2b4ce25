//! All that is known of a run when it is concluded, and what should be known and is not.
//!
//! "Not there", "cannot be read" and "somebody else's" are three things here: nothing that could not be read is taken
//! for empty, and a line that a test has put into the events is not taken for the worker's.

use std::collections::BTreeMap;

use ccci_core::rundir::{Lines, RunDir, file};
use ccci_core::teardown::Receipt;
use ccci_core::weaken::{self, Protection};
use serde::de::DeserializeOwned;

use crate::event::{Event, Stamped};

/// What one file says: nothing if it is not there, an error if it cannot be read.
pub(super) type Said = Result<Option<Receipt>, String>;

/// What a run has left of itself.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    /// What happened, in order.
    pub(super) events: Vec<Stamped>,
    /// Which of the worker's events are missing, or cannot be believed.
    pub(super) gaps: Vec<String>,
    pub(super) receipt: Said,
    pub(super) preclean: Said,
}

impl Evidence {
    /// Reads it from the run's directory. What cannot be read is part of what it finds.
    pub(crate) fn read(dir: &RunDir) -> Self {
        let events = dir.lines(file::EVENTS).map_err(|error| error.to_string());
        Self::of(events, said(dir, file::RECEIPT), said(dir, file::PRECLEAN))
    }

    /// What these files amount to.
    pub(super) fn of(events: Result<Lines<Stamped>, String>, receipt: Said, preclean: Said) -> Self {
        let (events, gaps) = match events {
            // A line that cannot be understood is missed only if it was the worker's: then its number is missing.
            Ok(lines) => order(lines.items),
            Err(why) => (Vec::new(), vec![why]),
        };
        Self { events, gaps, receipt, preclean }
    }

    /// The teardown report, where it is there and was understood.
    pub(super) fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref().ok().and_then(Option::as_ref)
    }

    /// The report of the clean-up before the run, where it is there and was understood.
    pub(super) fn preclean(&self) -> Option<&Receipt> {
        self.preclean.as_ref().ok().and_then(Option::as_ref)
    }
}

fn said<T: DeserializeOwned>(dir: &RunDir, name: &str) -> Result<Option<T>, String> {
    dir.read_json(name).map_err(|error| error.to_string())
}

/// The events in the order in which they were said, each once, and which of the worker's are missing.
///
/// The worker's are put into the order of their numbers, in the places where events of the worker are; everybody
/// else's stay where they are.
fn order(said: Vec<Stamped>) -> (Vec<Stamped>, Vec<String>) {
    let mut numbered: BTreeMap<u64, Stamped> = BTreeMap::new();
    let mut gaps = Vec::new();
    // What only the worker can know, and has no number, was put there by somebody else.
    let believed = |stamped: &Stamped| {
        stamped.n.is_some() || !stamped.event.is_the_workers() || !weaken::on(Protection::Completeness)
    };
    let mut places: Vec<Option<Stamped>> = Vec::new();
    for stamped in said.into_iter().filter(believed) {
        match stamped.n.map(|n| (n, numbered.get(&n))) {
            None => places.push(Some(stamped)),
            Some((n, None)) => {
                places.push(None);
                numbered.insert(n, stamped);
            }
            Some((_, Some(before))) if same(before, &stamped) => {}
            Some((n, Some(_))) => gaps.push(format!("the worker's event {n} is there twice, and differs")),
        }
    }
    let last = numbered.iter().rfind(|(_, stamped)| matches!(stamped.event, Event::Done { .. })).map(|(n, _)| *n);
    // Without its last word nobody knows how much it said; that the word is missing is said elsewhere.
    let end = last.or_else(|| numbered.keys().next_back().copied()).unwrap_or(0);
    let mut expected = 1;
    for n in numbered.keys().copied().take_while(|n| *n <= end) {
        if n > expected {
            gaps.push(which(expected, n - 1, end));
        }
        expected = n + 1;
    }
    let mut in_order = numbered.into_values();
    (places.into_iter().filter_map(|place| place.or_else(|| in_order.next())).collect(), gaps)
}

fn which(first: u64, last: u64, of: u64) -> String {
    match first == last {
        true => format!("event {first} of the worker's {of}"),
        false => format!("events {first} to {last} of the worker's {of}"),
    }
}

fn same(one: &Stamped, other: &Stamped) -> bool {
    match (serde_json::to_value(one), serde_json::to_value(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
