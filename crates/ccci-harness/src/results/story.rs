//! A run's events as one story, and the verdict on it.

use ccci_core::lifetime::Cause;
use ccci_core::teardown::Receipt;
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use super::{DeployCount, Phase, Quick, Stage, Step, Test};
use crate::event::{Event, Handed, Stamped, WorkerEnd};
use crate::keeper::Facts;
use crate::outcome::{Outcome, Tier, Verdict};
use crate::worker::pipeline::KEEP;

/// What the events tell.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) version: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) base: Option<String>,
    pub(super) tests: Vec<(Tier, Test)>,
    pub(super) stages: Vec<Stage>,
    pub(super) phases: Vec<Phase>,
    pub(super) phase: Option<(String, Timestamp)>,
    pub(super) step: Option<(String, Timestamp)>,
    pub(super) steps: Vec<Step>,
    pub(super) lint: Option<Outcome>,
    pub(super) deploys: Option<DeployCount>,
    pub(super) leaked: Option<Vec<String>>,
    pub(super) quick: Option<Quick>,
    pub(super) handed: Option<Handed>,
    pub(super) end: Option<WorkerEnd>,
    pub(super) command: Option<(u8, String)>,
    pub(super) kept: bool,
}

impl Story {
    pub(super) fn tell(&mut self, stamped: &Stamped) {
        let at = stamped.at;
        match stamped.event.clone() {
            Event::Phase { name } => {
                self.end_phase(at);
                self.kept |= name == KEEP;
                self.phase = Some((name, at));
            }
            Event::Step { name } => {
                self.end_step(at);
                self.step = Some((name, at));
            }
            Event::Locked { waited_ms } => {
                let waited = jiff::SignedDuration::from_millis(i64::try_from(waited_ms).unwrap_or(0));
                let started = at.checked_sub(waited).unwrap_or(at);
                let (name, steps) = ("wait".to_owned(), Vec::new());
                self.phases.push(Phase { name, started, milliseconds: waited_ms, steps });
                self.phase = Some(("preclean".to_owned(), at));
            }
            Event::Version { version, commit, base } => {
                (self.version, self.commit, self.base) = (Some(version), Some(commit), base);
            }
            Event::Test { tier, name, outcome, milliseconds } => {
                self.tests.push((tier, Test { name, outcome, milliseconds }))
            }
            Event::Stage { tier, outcome, milliseconds } => {
                let (own, others) = std::mem::take(&mut self.tests).into_iter().partition(|(of, _)| *of == tier);
                self.tests = others;
                let own: Vec<(Tier, Test)> = own;
                self.stages.push(Stage {
                    tier,
                    outcome,
                    milliseconds,
                    tests: own.into_iter().map(|(_, test)| test).collect(),
                });
            }
            Event::Quick { from, why } => self.quick = Some(Quick { from, why }),
            Event::HandedOn(handed) => self.handed = Some(handed),
            Event::Lint { outcome } => self.lint = Some(outcome),
            Event::Deploys { counted, expected } => self.deploys = Some(DeployCount { counted, expected }),
            Event::Secrets { leaked_into } => self.leaked = Some(leaked_into),
            Event::Done { end } => self.end = Some(end),
            Event::Command { status, text } => self.command = Some((status, text)),
            Event::Cancelled { .. } | Event::Note { .. } | Event::Waiting { .. } => {}
        }
    }

    /// Where a run was that somebody ended. A guard has one place only.
    fn place(&self) -> String {
        let last = self.phases.iter().rfind(|phase| phase.name != "teardown").filter(|_| self.phase.is_none());
        let step =
            last.and_then(|phase| phase.steps.last()).map_or_else(String::new, |step| format!(": {}", step.name));
        last.map_or_else(String::new, |phase| format!(", in {}{step}", phase.name))
    }

    pub(super) fn end_phase(&mut self, at: Timestamp) {
        self.end_step(at);
        let steps = std::mem::take(&mut self.steps);
        if let Some((name, started)) = self.phase.take() {
            self.phases.push(Phase { name, started, milliseconds: between(started, at), steps });
        }
    }

    fn end_step(&mut self, at: Timestamp) {
        if let Some((name, started)) = self.step.take() {
            self.steps.push(Step { name, started, milliseconds: between(started, at) });
        }
    }
}

/// A clock that was set back makes nothing shorter than nothing.
fn between(started: Timestamp, ended: Timestamp) -> u64 {
    u64::try_from(ended.duration_since(started).as_millis()).unwrap_or(0)
}

/// The verdict, with the one thing that went wrong. The first that applies wins: who ended a run
/// outweighs what its half-done tests say, and a host that failed outweighs a test.
pub(super) fn judge(facts: &Facts, story: &Story, receipt: Option<&Receipt>) -> (Verdict, Option<String>) {
    // Who ends the time in which a finished run keeps its app up ends nothing else.
    let keeping = story.end.is_some() && story.kept;
    if let Some(cause) = facts.cause.as_ref().filter(|_| !keeping) {
        let verdict =
            if matches!(cause, Cause::Deadline | Cause::Alarm { .. }) { Verdict::Deadline } else { Verdict::Cancelled };
        return (verdict, Some(format!("{cause}{}", story.place())));
    }
    if let Some(host) = &facts.host {
        return (Verdict::Host, Some(host.clone()));
    }
    match &story.end {
        Some(WorkerEnd::Usage { message }) => return (Verdict::Usage, Some(message.clone())),
        Some(WorkerEnd::Host { message }) => return (Verdict::Host, Some(message.clone())),
        None => {
            let how = facts.worker_died.as_deref().unwrap_or("it left no word");
            return (
                Verdict::Host,
                Some(format!("the worker died before it was done ({how}): killed by hand, or out of memory?")),
            );
        }
        Some(WorkerEnd::Finished) => {}
    }
    if let Some(stage) = story.stages.iter().find(|stage| matches!(stage.outcome, Outcome::Fail { .. })) {
        return (Verdict::Red, Some(format!("{}: {}", stage.tier, stage.outcome.reason())));
    }
    if let Some(count) = story.deploys.filter(|count| count.counted != count.expected)
        && weaken::on(Protection::DeployCount)
    {
        return (Verdict::Red, Some(format!("deploy-count = {} (expect {})", count.counted, count.expected)));
    }
    if let Some(files) = story.leaked.as_ref().filter(|files| !files.is_empty())
        && weaken::on(Protection::SecretSearch)
    {
        return (Verdict::Red, Some(format!("a secret of the app stands in {}", files.join(", "))));
    }
    match receipt {
        Some(receipt) if receipt.is_clean() => (Verdict::Green, None),
        Some(receipt) => {
            let what = receipt
                .residue
                .first()
                .map_or_else(|| "unknown".to_owned(), |left| format!("{} ({})", left.what, left.why));
            (Verdict::Red, Some(format!("left behind: {what}")))
        }
        None => (Verdict::Red, Some("there is no receipt: the teardown did not finish".to_owned())),
    }
}
