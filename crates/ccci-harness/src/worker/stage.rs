//! The tiers: install, upgrade, backup, restore, custom. Each is generic assertions plus the
//! recipe's own tests; both count.

mod around;
mod generic;
mod steps;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ccci_core::config::duration::brief;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::rundir::file;
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use super::kept::{self, Kept, Tested};
use super::pipeline::{Phases, Stop};
use super::suite::{self, TestResult};
use crate::console::Console;
use crate::engine::{App, Archive, Engine, EngineError, Say};
use crate::event::{Event, millis, report};
use crate::outcome::{Outcome, Rung, Tier};
use crate::plan::{Plan, RecipeJob};
use crate::progress::WORTH_SAYING;
use crate::recipe::source::{Release, Source};
pub(super) use around::{count_deploy, to_log, without_the_steps_secrets};

/// The tiers of one run.
pub(super) struct Stages<'run> {
    plan: &'run Plan,
    job: &'run RecipeJob,
    app: &'run App<'run>,
    engine: &'run dyn Engine,
    lock: &'run AppLock,
    console: &'run mut Console,
    /// The values of the app's secrets, by name.
    secrets: BTreeMap<String, String>,
    archive: Option<Archive>,
    outcomes: BTreeMap<Tier, Outcome>,
    /// How many tests of each tier were reported.
    reported: BTreeMap<Tier, usize>,
    /// What the app begins with.
    kept: Option<&'run Kept>,
    /// Whether the backup is to outlive the app.
    keeps: bool,
    /// The backup that is to, and when it was made.
    saved: Option<(BTreeMap<String, PathBuf>, Timestamp)>,
    /// Why nothing of the recipe may be deployed.
    refused: Option<String>,
}

impl<'run> Stages<'run> {
    pub(super) fn new(
        plan: &'run Plan,
        job: &'run RecipeJob,
        app: &'run App<'run>,
        engine: &'run dyn Engine,
        lock: &'run AppLock,
        console: &'run mut Console,
    ) -> Self {
        let (secrets, outcomes, reported) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (archive, kept, saved) = (None, None, None);
        let (keeps, refused) = (false, None);
        Self {
            plan,
            job,
            app,
            engine,
            lock,
            console,
            secrets,
            archive,
            outcomes,
            reported,
            kept,
            keeps,
            saved,
            refused,
        }
    }

    /// The app begins with these data.
    pub(super) const fn begin_with(&mut self, kept: Option<&'run Kept>) {
        self.kept = kept;
    }

    /// Nothing of the recipe may be deployed: the install tier says so.
    pub(super) fn refuse(&mut self, why: Option<String>) {
        self.refused = why;
    }

    /// The backup is to be one that can outlive the app.
    pub(super) const fn save_for_keeping(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// Hands the tested backup on.
    pub(super) fn hand_on(&mut self, source: &Source) {
        let tested = Tested { outcomes: &self.outcomes, secrets: &self.secrets, saved: self.saved.as_ref() };
        kept::hand_on(self.plan, self.job, self.lock, self.app, source, &tested, self.console);
        if let Some(backup) = self.archive.take() {
            self.drop_copies(&backup, &self.app.dir.join(file::ARCHIVES));
        }
    }

    /// Where the run speaks.
    pub(super) const fn console(&mut self) -> &mut Console {
        self.console
    }

    /// The values of the app's secrets.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.secrets.values().cloned().collect()
    }

    /// Goes through all tiers in order.
    pub(super) fn all(
        &mut self,
        phases: &mut Phases<'_>,
        source: &Source,
        base: Result<Release, String>,
    ) -> Result<(), Stop> {
        let first = base.as_ref().unwrap_or(&source.head);
        let installed = self.tier(phases, Tier::Install, None, &mut |stages| stages.install(source, first))?;
        if installed != Outcome::Pass {
            for tier in &Tier::ALL[1..] {
                self.skip(*tier, Outcome::unverified("the install tier did not pass"));
            }
            return Ok(());
        }
        match &base {
            Ok(from) => {
                self.tier(phases, Tier::Upgrade, Some(Rung::Upgrade), &mut |stages| stages.upgrade(source, from))?;
            }
            Err(_) if self.app.folder.toml.not_applicable.contains_key(&Rung::Upgrade) => {
                self.tier(phases, Tier::Upgrade, Some(Rung::Upgrade), &mut |_| Ok(Vec::new()))?;
            }
            // Nothing of the recipe: there could have been kept data.
            Err(why) if self.job.quick && self.asked(Tier::Upgrade) => {
                self.skip(Tier::Upgrade, Outcome::unverified(format!("the run began cold: {why}")));
            }
            Err(why) if self.asked(Tier::Upgrade) => self.skip(Tier::Upgrade, Outcome::skip(why.clone())),
            Err(_) => self.skip(Tier::Upgrade, Outcome::unverified("not asked for")),
        }
        match self.no_backup()? {
            None => {
                let saved = self.tier(phases, Tier::Backup, Some(Rung::BackupRestore), &mut Self::backup)?;
                if saved == Outcome::Pass {
                    self.tier(phases, Tier::Restore, Some(Rung::BackupRestore), &mut Self::restore)?;
                } else {
                    let why = match saved {
                        Outcome::Skip { reason } => Outcome::skip(reason),
                        _ if !self.asked(Tier::Restore) => Outcome::unverified("not asked for"),
                        _ => Outcome::unverified("there is no good backup"),
                    };
                    self.skip(Tier::Restore, why);
                }
            }
            Some(why) => {
                for tier in [Tier::Backup, Tier::Restore] {
                    self.skip(tier, Outcome::skip(&*why));
                }
            }
        }
        self.tier(phases, Tier::Custom, Some(Rung::Functional), &mut |_| Ok(Vec::new()))?;
        Ok(())
    }

    /// Why backup and restore do not apply, if they do not.
    fn no_backup(&self) -> Result<Option<String>, Stop> {
        let folder = self.app.folder;
        if !folder.toml.backup.capable {
            return Ok(Some("recipe.toml says backup.capable = false".to_owned()));
        }
        let declared = folder.toml.not_applicable.contains_key(&Rung::BackupRestore);
        let own = [Tier::Backup, Tier::Restore].iter().any(|tier| !folder.tests(*tier).is_empty());
        if declared || own || !self.asked(Tier::Backup) {
            return Ok(None);
        }
        Ok(self.engine.nothing_to_save(self.app)?)
    }

    fn asked(&self, tier: Tier) -> bool {
        // Without an install there is nothing to test.
        tier == Tier::Install || self.job.stages.contains(&tier)
    }

    fn skip(&mut self, tier: Tier, outcome: Outcome) {
        self.console.say(&format!("-- {tier}: {} ({})", outcome.word(), outcome.reason()));
        self.outcomes.insert(tier, outcome.clone());
        self.report_tier(tier, outcome, 0);
    }

    /// One tier: its own steps, then the recipe's tests for it.
    fn tier(
        &mut self,
        phases: &mut Phases<'_>,
        tier: Tier,
        rung: Option<Rung>,
        steps: &mut dyn FnMut(&mut Self) -> Result<Vec<TestResult>, EngineError>,
    ) -> Result<Outcome, Stop> {
        let declared = rung.and_then(|rung| self.app.folder.toml.not_applicable.get(&rung));
        let beside = match declared {
            Some(reason) => Some(Outcome::skip(reason.clone())),
            None if !self.asked(tier) => Some(Outcome::unverified("not asked for")),
            None => None,
        };
        if let Some(outcome) = beside {
            self.skip(tier, outcome.clone());
            return Ok(outcome);
        }
        phases.begin(&tier.to_string());
        self.console.say(&format!("-- {tier}"));
        let begun = Deadline::after(Duration::ZERO);
        let outcome = match steps(self) {
            Ok(generic) => {
                let own = self.run_tests(tier)?;
                match self.judge(tier, &generic, &own) {
                    Outcome::Pass => self.still_up(tier)?,
                    other => other,
                }
            }
            Err(EngineError::Recipe(reason)) => Outcome::fail(self.console.clean(&reason)),
            Err(EngineError::Host(message)) => {
                let message = self.console.clean(&message);
                self.report_tier(tier, Outcome::unverified(&*message), 0);
                return Err(Stop::Host(message));
            }
            Err(EngineError::Usage(message)) => {
                self.report_tier(tier, Outcome::unverified(&*message), 0);
                return Err(Stop::Usage(message));
            }
        };
        let milliseconds = millis(begun.elapsed());
        match &outcome {
            Outcome::Pass => {
                let took = brief(begun.elapsed());
                let usual = self.plan.expected.phase(&tier.to_string()).filter(|usual| *usual >= WORTH_SAYING);
                let usual = usual.map_or_else(String::new, |usual| format!(", usually {}", brief(usual)));
                self.console.say(&format!("-- {tier}: pass ({took}{usual})"));
            }
            other => self.console.say(&format!("-- {tier}: {} — {}", other.word().to_uppercase(), other.headline())),
        }
        self.outcomes.insert(tier, outcome.clone());
        self.report_tier(tier, outcome.clone(), milliseconds);
        Ok(outcome)
    }

    fn judge(&mut self, tier: Tier, generic: &[TestResult], own: &[TestResult]) -> Outcome {
        let all = || generic.iter().chain(own);
        if let Some(failed) = all().find(|test| matches!(test.outcome, Outcome::Fail { .. })) {
            return Outcome::fail(format!("{}: {}", failed.name, failed.outcome.reason()));
        }
        if generic.is_empty() && own.is_empty() {
            return Outcome::skip(format!("the test folder has no {tier} tests"));
        }
        if let Some(hollow) =
            own.iter().find(|test| matches!(test.outcome, Outcome::Skip { .. } | Outcome::Unverified { .. }))
            && weaken::on(Protection::SkippedIsNotPass)
        {
            return Outcome::unverified(format!("{}: {}", hollow.name, hollow.outcome.reason()));
        }
        if tier == Tier::Restore && own.is_empty() && matches!(self.archive, Some(Archive::Kept)) {
            let why =
                "the backup is in the backup bot's keeping, and no test looked at what came back: add test_restore";
            return Outcome::unverified(why);
        }
        Outcome::Pass
    }

    /// A step of the tier begins.
    fn step(&self, name: &str) {
        report(self.app.dir, Event::Step { name: name.to_owned() });
    }

    fn report_tier(&self, tier: Tier, outcome: Outcome, milliseconds: u64) {
        let tests = self.reported.get(&tier).copied().unwrap_or(0);
        report(self.app.dir, Event::Stage { tier, outcome, milliseconds, tests });
    }

    fn report_test(&mut self, tier: Tier, test: &TestResult) {
        *self.reported.entry(tier).or_default() += 1;
        let outcome = test.outcome.clone();
        let reason = if outcome.reason().is_empty() { String::new() } else { format!(" — {}", outcome.reason()) };
        let took = brief(Duration::from_millis(test.milliseconds));
        self.console.say(&format!("   {:5} {} ({took}){reason}", outcome.word(), test.name));
        report(self.app.dir, Event::Test { tier, name: test.name.clone(), outcome, milliseconds: test.milliseconds });
    }

    /// Has the engine do something; what its tools say goes to the log of that name and to the console.
    fn engine<T>(
        &mut self,
        log: &str,
        act: impl FnOnce(&dyn Engine, &mut Say<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.step(log);
        let mut log = self.log_file(log)?;
        act(self.engine, &mut |line| to_log(line, &mut log, self.console))
    }

    fn run_tests(&mut self, tier: Tier) -> Result<Vec<TestResult>, Stop> {
        let mut results = Vec::new();
        if tier == Tier::Install && self.kept.is_some() && !self.app.folder.tests(tier).is_empty() {
            self.console.say("   the install tests are for a fresh app: not run on kept data");
            return Ok(results);
        }
        for test in self.app.folder.tests(tier) {
            self.step(&format!("test {}", test.name));
            let log = self.log_file(&test.name)?;
            let env = self.env()?;
            let result = suite::run(test, self.app.folder, &env, log, self.console)
                .map_err(|error| Stop::Host(error.to_string()))?;
            // Its last words are in the tier's reason too, and that in every file of results.
            let result = TestResult { outcome: result.outcome.cleaned(|text| self.console.clean(text)), ..result };
            self.report_test(tier, &result);
            results.push(result);
        }
        Ok(results)
    }
}
