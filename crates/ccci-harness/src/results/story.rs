//! A run's events as one story.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{DeployCount, Granted, Phase, Quick, Stage, Step, Test};
use crate::event::{Event, Handed, Stamped, WorkerEnd};
use crate::outcome::{Outcome, Tier};
use crate::worker::pipeline::KEEP;

/// What the events tell.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) version: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) base: Option<String>,
    /// Tests of tiers that have not come to an end.
    pub(super) tests: Vec<(Tier, Test)>,
    /// How many tests of each tier there must be.
    pub(super) tests_said: BTreeMap<Tier, usize>,
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
    /// Whether the worker has begun.
    pub(super) began: bool,
    pub(super) granted: Vec<Granted>,
}

impl Story {
    /// What these events tell, at `now`.
    pub(super) fn of(events: &[Stamped], now: Timestamp) -> Self {
        let mut story = Self::default();
        for stamped in events {
            story.tell(stamped);
        }
        story.end_phase(now);
        story
    }

    fn tell(&mut self, stamped: &Stamped) {
        let at = stamped.at;
        match stamped.event.clone() {
            Event::Phase { name } => {
                self.end_phase(at);
                self.kept |= name == KEEP;
                self.began = true;
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
            Event::Stage { tier, outcome, milliseconds, tests } => {
                self.tests_said.insert(tier, tests);
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
            Event::Policy { recipe, granted } => {
                for violation in granted {
                    // Each deploy asks anew.
                    let granted = Granted { recipe: recipe.clone(), violation };
                    if !self.granted.contains(&granted) {
                        self.granted.push(granted);
                    }
                }
            }
            Event::Lint { outcome } => self.lint = Some(outcome),
            Event::Deploys { counted, expected } => self.deploys = Some(DeployCount { counted, expected }),
            Event::Secrets { leaked_into } => self.leaked = Some(leaked_into),
            Event::Done { end } => self.end = Some(end),
            Event::Command { status, text } => self.command = Some((status, text)),
            Event::Begun | Event::Cancelled { .. } | Event::Note { .. } | Event::Waiting { .. } => {}
        }
    }

    /// Where a run was that somebody ended. A guard has one place only.
    pub(super) fn place(&self) -> String {
        let last = self.phases.iter().rfind(|phase| phase.name != "teardown").filter(|_| self.phase.is_none());
        let step =
            last.and_then(|phase| phase.steps.last()).map_or_else(String::new, |step| format!(": {}", step.name));
        last.map_or_else(String::new, |phase| format!(", in {}{step}", phase.name))
    }

    fn end_phase(&mut self, at: Timestamp) {
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
