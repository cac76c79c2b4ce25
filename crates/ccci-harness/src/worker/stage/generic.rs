//! What holds for every recipe: generic assertions, timed and reported like tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::weaken::{self, Protection};

use super::super::pipeline::Stop;
use super::super::suite::TestResult;
use super::Stages;
use crate::engine::door::{self, Asked};
use crate::engine::{EngineError, converge, tarball};
use crate::event::millis;
use crate::outcome::{Outcome, Tier};
use crate::recipe::source::Release;

impl Stages<'_> {
    /// A generic assertion, timed and reported.
    pub(super) fn assert(
        &mut self,
        tier: Tier,
        name: &str,
        check: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<TestResult, EngineError> {
        let begun = Deadline::after(Duration::ZERO);
        let outcome = match check(self) {
            Ok(()) => Outcome::Pass,
            Err(EngineError::Recipe(reason)) => Outcome::fail(self.console.clean(&reason)),
            Err(other @ (EngineError::Host(_) | EngineError::Usage(_))) => return Err(other),
        };
        let test = TestResult { name: format!("generic/{name}"), outcome, milliseconds: millis(begun.elapsed()) };
        self.report_test(tier, &test);
        match &test.outcome {
            // What comes after would only fail for the same reason.
            Outcome::Fail { reason } => Err(EngineError::Recipe(format!("{}: {reason}", test.name))),
            _ => Ok(test),
        }
    }

    /// Converged, then healthy: HTTP with the right Host, then the readiness probes.
    pub(super) fn assert_up(&mut self, tier: Tier) -> Result<Vec<TestResult>, EngineError> {
        let timeouts = self.app.folder.toml.timeouts.clone();
        // Known as soon as it is deployed: nobody waits for an app that cannot be asked.
        let asked = if weaken::on(Protection::Asked) {
            door::of(self.engine, self.app)?
        } else {
            Asked::Nothing(String::new())
        };
        self.step("converge");
        let mut tests = vec![self.assert(tier, "converged", &mut |stages| {
            converge::settled(stages.engine, stages.lock, stages.app, timeouts.deploy)
        })?];
        if let Asked::Nothing(reason) = asked {
            let (name, outcome) =
                ("generic/healthy".to_owned(), Outcome::skip(format!("recipe.toml, health.none: {reason}")));
            let skipped = TestResult { name, outcome, milliseconds: 0 };
            self.report_test(tier, &skipped);
            tests.push(skipped);
            return Ok(tests);
        }
        self.step("health");
        tests.push(self.assert(tier, "healthy", &mut |stages| {
            converge::healthy(stages.engine, stages.lock, stages.app, timeouts.http)
        })?);
        Ok(tests)
    }

    /// The app really runs this release; an upgrade that changed nothing is none (incident `[17]`).
    pub(super) fn assert_commit(
        &mut self,
        tier: Tier,
        release: &Release,
        before: Option<&str>,
    ) -> Result<Vec<TestResult>, EngineError> {
        let test = self.assert(tier, "commit", &mut |stages| {
            let commit = stages.engine.commit(stages.lock, stages.app)?;
            let moved =
                before.is_none_or(|before| commit.as_deref() != Some(before)) || !weaken::on(Protection::UpgradeMoves);
            match commit {
                Some(commit) if commit == release.commit && moved => Ok(()),
                Some(commit) if commit == release.commit => {
                    Err(EngineError::Recipe(format!("the upgrade moved nothing: the app ran {commit} before")))
                }
                other => Err(EngineError::Recipe(format!("the app runs {other:?}, not {}", release.commit))),
            }
        })?;
        Ok(vec![test])
    }

    /// A backup in the run's directory can be read to its end.
    pub(super) fn assert_readable(&mut self, files: &BTreeMap<String, PathBuf>) -> Result<TestResult, EngineError> {
        self.assert(Tier::Backup, "archive", &mut |_| readable(files))
    }

    /// A service that dies a moment after it was seen running, and that no test asks, is found here. What
    /// the tests took counts: a tier of some length costs nothing more.
    pub(super) fn still_up(&mut self, tier: Tier) -> Result<Outcome, Stop> {
        let begun = Deadline::after(Duration::ZERO);
        self.step("stay up");
        match converge::stayed(self.engine, self.lock, self.app) {
            Ok(()) => Ok(Outcome::Pass),
            Err(other @ (EngineError::Host(_) | EngineError::Usage(_))) => Err(other.into()),
            Err(EngineError::Recipe(reason)) => {
                let reason = self.console.clean(&reason);
                let name = "generic/still-up".to_owned();
                let outcome = Outcome::fail(reason.clone());
                self.report_test(tier, &TestResult { name, outcome, milliseconds: millis(begun.elapsed()) });
                Ok(Outcome::fail(format!("generic/still-up: {reason}")))
            }
        }
    }
}

/// Every archive can be read to its end and holds something.
fn readable(files: &BTreeMap<String, PathBuf>) -> Result<(), EngineError> {
    for (volume, path) in files {
        match tarball::read_through(path) {
            // The volume's own directory is always in it.
            Ok(0) => return Err(EngineError::Recipe(format!("the archive of volume {volume} is empty"))),
            Ok(_) => {}
            Err(error) => {
                return Err(EngineError::Recipe(format!("the archive of volume {volume} cannot be read: {error}")));
            }
        }
    }
    Ok(())
}
