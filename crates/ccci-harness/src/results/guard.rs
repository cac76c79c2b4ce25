//! What a guard came to: its exit code and, where its directory stays, `guard.json`.

use ccci_core::lifetime::Cause;
use ccci_core::rundir::{RunDir, file};
use ccci_core::teardown::Receipt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::story::Story;
use super::verdict::{Asked, Case, judge, missing};
use crate::console::Console;
use crate::keeper::Facts;
use crate::outcome::Verdict;
use crate::plan::{GuardJob, Plan};

/// The version of the shape of `guard.json`; a reader must refuse a later one.
pub(crate) const SCHEMA: u32 = 1;

/// `guard.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GuardResult {
    pub(crate) schema: u32,
    /// Always `guard`.
    pub(crate) kind: String,
    pub(crate) run_id: String,
    /// The guard's name.
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    /// What cleans up after it.
    pub(crate) teardown: Option<String>,
    /// The exit status of the command, as a shell has it; nothing if it did not come to its end.
    pub(crate) status: Option<u8>,
    /// How the command ended, in words.
    pub(crate) ended: Option<String>,
    pub(crate) verdict: Verdict,
    /// What the guard exits with.
    pub(crate) exit_code: u8,
    /// Who or what ended it early.
    pub(crate) cause: Option<Cause>,
    /// The one thing that went wrong, if any.
    pub(crate) reason: Option<String>,
    /// What the verdict needs and nobody knows.
    pub(crate) missing: Vec<String>,
    /// Whether nothing of it is left.
    pub(crate) clean: bool,
    /// What an earlier guard of the name had left, and what became of it.
    pub(crate) preclean: Option<Receipt>,
    /// What the teardown did; nothing if there was none.
    pub(crate) receipt: Option<Receipt>,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

impl GuardResult {
    /// Writes it. Nobody waits for it to be on the disk: it is there for a person who looks.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(&self, dir: &RunDir) -> anyhow::Result<()> {
        Ok(dir.put_json(file::GUARD, self)?)
    }
}

/// What a guard came to, from what it left in its directory.
pub(crate) fn assemble(plan: &Plan, job: &GuardJob, facts: &Facts, evidence: &Evidence, now: Timestamp) -> GuardResult {
    let story = Story::of(&evidence.events, now);
    let case = Case { facts, story: &story, evidence, asked: Asked::Command };
    let (verdict, reason) = judge(&case);
    let clean = !facts.no_reaper
        && match &evidence.receipt {
            Ok(Some(receipt)) => receipt.is_clean(),
            // Ended while it cleared what an earlier guard had left, it has nothing of its own to leave; what that one
            // left is found by that one's directory.
            Ok(None) => !facts.worked && !story.began && evidence.gaps.is_empty(),
            Err(_) => false,
        };
    let exit_code = match (&story.command, verdict) {
        // The command's own end is passed on, unless the guard was ended or something was left.
        (Some((status, _)), Verdict::Green) => *status,
        (Some((status, _)), Verdict::Red) if *status != 0 => *status,
        (_, other) => other.exit_code(),
    };
    let (status, ended) = story.command.clone().unzip();
    GuardResult {
        schema: SCHEMA,
        kind: "guard".to_owned(),
        run_id: plan.run_id.clone(),
        name: plan.subject(),
        command: job.command.clone(),
        teardown: job.teardown.clone(),
        status,
        ended,
        verdict,
        exit_code,
        cause: facts.cause.clone(),
        reason,
        missing: if verdict.is_on_the_tests() { missing(&case) } else { Vec::new() },
        clean,
        preclean: evidence.preclean().filter(|preclean| !preclean.is_empty()).cloned(),
        receipt: evidence.receipt().cloned(),
        started: plan.started,
        finished: now,
    }
}

/// Concludes a guard: says what went wrong, and marks a clean one as such. The result is written where the directory
/// stays.
///
/// # Errors
/// When the mark or the result cannot be written.
pub(crate) fn conclude(
    plan: &Plan,
    job: &GuardJob,
    dir: &RunDir,
    facts: &Facts,
    console: &mut Console,
) -> anyhow::Result<GuardResult> {
    let result = assemble(plan, job, facts, &Evidence::read(dir), Timestamp::now());
    if result.status != Some(result.exit_code)
        && let Some(reason) = &result.reason
    {
        console.say(&format!("cc-ci-run: {reason}"));
    }
    if result.clean {
        dir.insist(|dir| dir.mark(file::CLEAN))?;
    } else {
        console.say(&format!("cc-ci-run: {} left something behind; see {}", plan.subject(), dir.path().display()));
    }
    Ok(result)
}
