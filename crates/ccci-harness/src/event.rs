//! What a run reports while it runs: a line each in `events.jsonl`, appended by keeper, worker and
//! reaper alike, so that whoever dies loses nothing it had said.
//!
//! An event that cannot be written (full disk) ends no run. Who has it keeps it in memory, and writes it before its next
//! one. The worker numbers its events, and [`Event::Done`] is its last word: so whoever concludes the run sees whether
//! one is missing, also when the worker is gone. What stands in the file without a number is not the worker's.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ccci_core::lifetime::Cause;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::policy::Violation;
use ccci_core::process::wait_ready;
use ccci_core::redact;
use ccci_core::rundir::{RunDir, RunDirError, file};
use ccci_core::snapshot::Origin;
use ccci_core::visible;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
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
    /// The work begins: from here on a guard's teardown is owed. On the disk before anything is started.
    Begun,
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
        /// How many tests of it were reported.
        tests: usize,
    },
    /// The operator's exceptions let through what the policy refuses.
    Policy { recipe: String, granted: Vec<Violation> },
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

impl Event {
    /// Whether only the worker can say it.
    pub(crate) const fn is_the_workers(&self) -> bool {
        match self {
            Self::Phase { .. }
            | Self::Step { .. }
            | Self::Waiting { .. }
            | Self::Locked { .. }
            | Self::Begun
            | Self::Cancelled { .. }
            | Self::Note { .. } => false,
            Self::Version { .. }
            | Self::Quick { .. }
            | Self::HandedOn(_)
            | Self::Test { .. }
            | Self::Stage { .. }
            | Self::Lint { .. }
            | Self::Deploys { .. }
            | Self::Secrets { .. }
            | Self::Done { .. }
            | Self::Command { .. }
            | Self::Policy { .. } => true,
        }
    }
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
    /// The how-manieth of the worker it is, from one. Nobody else's has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<u64>,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What this process has to say, and could not yet.
static LOG: Mutex<Log> = Mutex::new(Log { number: None, unsaid: VecDeque::new() });

/// So many events wait for a disk at most. That one of the worker's was dropped shows in its numbers.
const UNSAID: usize = 4096;
/// How often a full disk is asked whether it still is.
const ASK_AGAIN: Duration = Duration::from_millis(20);

struct Log {
    /// The number of the last event, in the worker.
    number: Option<u64>,
    unsaid: VecDeque<(PathBuf, Stamped)>,
}

impl Log {
    fn say(&mut self) {
        while let Some((dir, stamped)) = self.unsaid.front() {
            if let Err(error) = RunDir::open(dir.clone()).append(file::EVENTS, stamped) {
                tracing::error!(%error, "an event could not be written, and is tried again with the next one");
                break;
            }
            self.unsaid.pop_front();
        }
    }
}

/// Whoever panicked while it had the log left it whole.
fn log() -> std::sync::MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process is the worker from now on: its events are numbered. What the keeper, whose copy it is, could not say
/// yet is the keeper's to say.
pub(crate) fn begin_numbers() {
    *log() = Log { number: Some(0), unsaid: VecDeque::new() };
}

/// Reports that the work begins, durably where something outlasts the host.
///
/// # Errors
/// When that cannot be written down: nothing may be begun then, as nobody would know that it has to be cleaned up.
pub(crate) fn begin(dir: &RunDir, durably: bool) -> Result<(), RunDirError> {
    let begun = Stamped { at: Timestamp::now(), n: None, event: Event::Begun };
    if durably { dir.record(file::EVENTS, &[begun]) } else { dir.append(file::EVENTS, &begun) }
}

/// Reports an event. One that cannot be written must not end the run: it is written before the next one.
pub(crate) fn report(dir: &RunDir, event: Event) {
    let mut log = log();
    let n = log.number.map(|number| number + 1);
    log.number = n;
    if log.unsaid.len() == UNSAID {
        log.unsaid.pop_front();
    }
    log.unsaid.push_back((dir.path().to_owned(), Stamped { at: Timestamp::now(), n, event: passed_on(&event) }));
    log.say();
}

/// Waits at most so long until all that was reported is written.
pub(crate) fn settle(limit: Duration) {
    let until = Deadline::after(limit);
    while !log().unsaid.is_empty() && !until.passed() {
        if let Err(error) = wait_ready(&mut [], Some(ASK_AGAIN)) {
            tracing::debug!(%error, "the disk is not waited for");
            return;
        }
        log().say();
    }
}

/// What was reported, as it leaves this process.
fn passed_on(event: &Event) -> Event {
    only_text(event).unwrap_or_else(|error| {
        tracing::error!(%error, "an event cannot be written down");
        Event::Note { text: "something that was reported could not be written down".to_owned() }
    })
}

/// A value without the secrets that this process knows, and with nothing in its texts that does anything.
///
/// # Errors
/// When it cannot be written down, or not read again.
pub(crate) fn only_text<T: Serialize + DeserializeOwned>(value: &T) -> serde_json::Result<T> {
    let clean = |words: String| visible::text(&redact::clean(&words)).into_owned();
    serde_json::from_value(visible::mapped(serde_json::to_value(value)?, &clean))
}

/// A duration in whole milliseconds, for reports.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
