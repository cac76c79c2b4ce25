//! What a run reports while it runs: a line each in `events.jsonl`, appended by keeper, worker and
//! reaper alike, so that whoever dies loses nothing it had said.

use std::time::Duration;

use ccci_core::lifetime::Cause;
use ccci_core::rundir::{RunDir, file};
use ccci_core::snapshot::Origin;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Tier};

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A phase began, and the one before it ended.
    Phase { name: String },
    /// A step of the phase began, and the one before it ended: a pull, a deploy, a wait, a hook, a test.
    Step { name: String },
    /// What the run waits for, in a few words; said again when it changes.
    Waiting { what: String },
    /// The lock is held.
    Locked {
        /// How long the run waited.
        waited_ms: u64,
    },
    /// What is tested was found out.
    Version { version: String, commit: String, base: Option<String> },
    /// What a quick run begins with: kept data, or why none.
    Quick { from: Option<Origin>, why: Option<String> },
    /// The data of a release were handed on, to be kept if the run comes out green; or why not.
    HandedOn(Handed),
    /// A test came to an end.
    Test {
        tier: Tier,
        name: String,
        #[serde(flatten)]
        outcome: Outcome,
        milliseconds: u64,
    },
    /// A tier came to an end.
    Stage {
        tier: Tier,
        #[serde(flatten)]
        outcome: Outcome,
        milliseconds: u64,
    },
    /// The recipe was linted.
    Lint {
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Real deploys, counted at the end.
    Deploys { counted: usize, expected: usize },
    /// The run's files were searched for its secrets.
    Secrets { leaked_into: Vec<String> },
    /// The worker has done all it was to do.
    Done {
        #[serde(flatten)]
        end: WorkerEnd,
    },
    /// A guard's command came to an end.
    Command { status: u8, text: String },
    /// The run was asked to stop, or its time was over.
    Cancelled {
        #[serde(flatten)]
        cause: Cause,
    },
    /// Something that the result should mention.
    Note { text: String },
}

/// What a release's run hands on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handed {
    /// How many bytes of data.
    pub(crate) bytes: u64,
    /// Why nothing is.
    pub(crate) why: Option<String>,
}

/// How the worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub(crate) enum WorkerEnd {
    /// It went through all tiers; the tests say the rest.
    Finished,
    /// The arguments or the test folder are wrong.
    Usage { message: String },
    /// The host cannot do it.
    Host { message: String },
}

/// An event with its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stamped {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// Reports an event. A report that cannot be written (full disk) must not end the run: it is logged.
pub(crate) fn report(dir: &RunDir, event: Event) {
    if let Err(error) = dir.append(file::EVENTS, &Stamped { at: Timestamp::now(), event }) {
        tracing::error!(%error, "an event is lost");
    }
}

/// A duration in whole milliseconds, for reports.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
