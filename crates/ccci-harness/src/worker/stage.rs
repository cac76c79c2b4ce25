//! The tiers: install, upgrade, backup, restore, custom. Each is generic assertions plus the
//! recipe's own tests; both count.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::process::{Finished, Job as Process};
use ccci_core::weaken::{self, Protection};

use super::pipeline::{NO_VARS, Phases, Stop};
use super::suite::{self, TestResult};
use crate::console::Console;
use crate::engine::{App, Archive, Engine, EngineError, converge, tarball};
use crate::event::{Event, millis, report};
use crate::outcome::{Outcome, Rung, Tier};
use crate::plan::{Plan, RecipeJob};
use crate::recipe::source::{Release, Source};

/// The state files of a run, and the variables that name them.
pub(crate) const STATE_FILES: [(&str, &str); 4] = [
    ("CCCI_DEPLOY_COUNT_FILE", "deploys"),
    ("CCCI_OP_STATE_FILE", "opstate"),
    ("CCCI_DEPS_FILE", "deps"),
    ("CCCI_DEP_SKIP_FILE", "depskip"),
];

/// How often a backup whose verify hook says no is made again (incident `[dump]`).
const BACKUP_TRIES: u32 = 3;

/// The tiers of one run.
pub(super) struct Stages<'run> {
    plan: &'run Plan,
    job: &'run RecipeJob,
    app: &'run App<'run>,
    engine: &'run dyn Engine,
    lock: &'run AppLock,
    console: &'run mut Console,
    secrets: Vec<String>,
    archive: Option<Archive>,
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
        Self { plan, job, app, engine, lock, console, secrets: Vec::new(), archive: None }
    }

    /// The values of the app's secrets.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
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
            Err(why) if self.asked(Tier::Upgrade) => self.skip(Tier::Upgrade, Outcome::skip(why.clone())),
            Err(_) => self.skip(Tier::Upgrade, Outcome::unverified("not asked for")),
        }
        if self.app.folder.toml.backup.capable {
            let saved = self.tier(phases, Tier::Backup, Some(Rung::BackupRestore), &mut Self::backup)?;
            if saved == Outcome::Pass {
                self.tier(phases, Tier::Restore, Some(Rung::BackupRestore), &mut Self::restore)?;
            } else {
                let why = match saved {
                    Outcome::Skip { reason } => Outcome::skip(reason),
                    _ => Outcome::unverified("there is no good backup"),
                };
                self.skip(Tier::Restore, why);
            }
        } else {
            for tier in [Tier::Backup, Tier::Restore] {
                self.skip(tier, Outcome::skip("recipe.toml says backup.capable = false"));
            }
        }
        self.tier(phases, Tier::Custom, Some(Rung::Functional), &mut |_| Ok(Vec::new()))?;
        Ok(())
    }

    fn asked(&self, tier: Tier) -> bool {
        // Without an install there is nothing to test.
        tier == Tier::Install || self.job.stages.contains(&tier)
    }

    fn skip(&mut self, tier: Tier, outcome: Outcome) {
        self.console.say(&format!("-- {tier}: {} ({})", outcome.word(), outcome.reason()));
        report(self.app.dir, Event::Stage { tier, outcome, milliseconds: 0 });
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
        let begun = Deadline::after(std::time::Duration::ZERO);
        let outcome = match steps(self) {
            Ok(generic) => {
                let own = self.run_tests(tier)?;
                match self.judge(tier, &generic, &own) {
                    Outcome::Pass => self.still_up(tier)?,
                    other => other,
                }
            }
            Err(EngineError::Recipe(reason)) => Outcome::fail(reason),
            Err(EngineError::Host(message)) => {
                report(self.app.dir, Event::Stage { tier, outcome: Outcome::unverified(&message), milliseconds: 0 });
                return Err(Stop::Host(message));
            }
        };
        let milliseconds = millis(begun.elapsed());
        match &outcome {
            Outcome::Pass => self.console.say(&format!("-- {tier}: pass ({milliseconds} ms)")),
            other => self.console.say(&format!("-- {tier}: {} — {}", other.word().to_uppercase(), other.reason())),
        }
        report(self.app.dir, Event::Stage { tier, outcome: outcome.clone(), milliseconds });
        Ok(outcome)
    }

    /// A service that dies a moment after it was seen running, and that no test asks, is found here. What
    /// the tests took counts: a tier of some length costs nothing more.
    fn still_up(&mut self, tier: Tier) -> Result<Outcome, Stop> {
        let begun = Deadline::after(std::time::Duration::ZERO);
        match converge::stayed(self.engine, self.lock, self.app) {
            Ok(()) => Ok(Outcome::Pass),
            Err(EngineError::Host(message)) => Err(Stop::Host(message)),
            Err(EngineError::Recipe(reason)) => {
                let name = "generic/still-up".to_owned();
                let outcome = Outcome::fail(reason.clone());
                self.report_test(tier, &TestResult { name, outcome, milliseconds: millis(begun.elapsed()) });
                Ok(Outcome::fail(format!("generic/still-up: {reason}")))
            }
        }
    }

    fn judge(&mut self, tier: Tier, generic: &[TestResult], own: &[TestResult]) -> Outcome {
        let all = || generic.iter().chain(own);
        if let Some(failed) = all().find(|test| matches!(test.outcome, Outcome::Fail { .. })) {
            return Outcome::fail(format!("{}: {}", failed.name, failed.outcome.reason()));
        }
        if generic.is_empty() && own.is_empty() {
            return Outcome::skip(format!("the test folder has no {tier} tests"));
        }
        if let Some(hollow) = own.iter().find(|test| matches!(test.outcome, Outcome::Skip { .. }))
            && weaken::on(Protection::SkippedIsNotPass)
        {
            return Outcome::unverified(format!("{}: {}", hollow.name, hollow.outcome.reason()));
        }
        Outcome::Pass
    }

    fn report_test(&mut self, tier: Tier, test: &TestResult) {
        let outcome = test.outcome.clone();
        let reason = if outcome.reason().is_empty() { String::new() } else { format!(" — {}", outcome.reason()) };
        self.console.say(&format!("   {:5} {} ({} ms){reason}", outcome.word(), test.name, test.milliseconds));
        report(self.app.dir, Event::Test { tier, name: test.name.clone(), outcome, milliseconds: test.milliseconds });
    }

    /// A generic assertion, timed and reported.
    fn assert(
        &mut self,
        tier: Tier,
        name: &str,
        check: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<TestResult, EngineError> {
        let begun = Deadline::after(std::time::Duration::ZERO);
        let outcome = match check(self) {
            Ok(()) => Outcome::Pass,
            Err(EngineError::Recipe(reason)) => Outcome::fail(reason),
            Err(host @ EngineError::Host(_)) => return Err(host),
        };
        let test = TestResult { name: format!("generic/{name}"), outcome, milliseconds: millis(begun.elapsed()) };
        self.report_test(tier, &test);
        match &test.outcome {
            // What comes after would only fail for the same reason.
            Outcome::Fail { reason } => Err(EngineError::Recipe(format!("{}: {reason}", test.name))),
            _ => Ok(test),
        }
    }

    fn run_tests(&mut self, tier: Tier) -> Result<Vec<TestResult>, Stop> {
        let mut results = Vec::new();
        for test in self.app.folder.tests(tier) {
            let log = self.log_file(&test.name)?;
            let env = self.env();
            let result = suite::run(test, self.app.folder, &env, log, self.console)
                .map_err(|error| Stop::Host(error.to_string()))?;
            self.report_test(tier, &result);
            results.push(result);
        }
        Ok(results)
    }

    fn install(&mut self, source: &Source, release: &Release) -> Result<Vec<TestResult>, EngineError> {
        source.checkout(release).map_err(|error| EngineError::Host(error.to_string()))?;
        self.secrets = self.engine.create(self.lock, self.app)?;
        for secret in &self.secrets {
            self.console.learn(secret);
        }
        self.hook("pre_install")?;
        self.console.say(&format!("   deploying {} (commit {:.12})", release.version, release.commit));
        self.count_deploy()?;
        self.engine.deploy(self.lock, self.app, release, &NO_VARS)?;
        let mut tests = self.assert_up(Tier::Install)?;
        self.hook("install_steps")?;
        tests.extend(self.assert_commit(Tier::Install, release, None)?);
        Ok(tests)
    }

    fn upgrade(&mut self, source: &Source, from: &Release) -> Result<Vec<TestResult>, EngineError> {
        self.hook("pre_upgrade")?;
        source.checkout(&source.head).map_err(|error| EngineError::Host(error.to_string()))?;
        self.console.say(&format!(
            "   upgrading {} to {} (commit {:.12})",
            from.version, source.head.version, source.head.commit
        ));
        let before = self.engine.observe(self.lock, self.app)?.commit;
        self.engine.deploy(self.lock, self.app, &source.head, &self.app.folder.toml.upgrade.env)?;
        let mut tests = self.assert_up(Tier::Upgrade)?;
        tests.extend(self.assert_commit(Tier::Upgrade, &source.head, before.as_deref())?);
        Ok(tests)
    }

    fn backup(&mut self) -> Result<Vec<TestResult>, EngineError> {
        if !self.engine.has_volumes(self.app)? {
            return Ok(Vec::new());
        }
        let dir = self.app.dir.join("backup");
        let mut tests = Vec::new();
        for attempt in 1..=BACKUP_TRIES {
            self.hook("pre_backup")?;
            let archive = self.engine.backup(self.lock, self.app, &dir)?;
            let verified = match self.hook("backup_verify") {
                Ok(()) => {
                    tests.push(self.assert(Tier::Backup, "archive", &mut |_| readable(&archive))?);
                    self.archive = Some(archive);
                    break;
                }
                Err(EngineError::Recipe(why)) => why,
                Err(host) => return Err(host),
            };
            if attempt == BACKUP_TRIES {
                return Err(EngineError::Recipe(verified));
            }
            self.console.say(&format!("   the backup did not verify, trying again ({attempt} of {BACKUP_TRIES})"));
        }
        Ok(tests)
    }

    fn restore(&mut self) -> Result<Vec<TestResult>, EngineError> {
        self.hook("pre_restore")?;
        let Some(archive) = self.archive.take() else {
            return Err(EngineError::Recipe("there is no backup".to_owned()));
        };
        self.engine.restore(self.lock, self.app, &archive)?;
        self.assert_up(Tier::Restore)
    }

    /// Converged, then healthy: HTTP with the right Host, then the readiness probes.
    fn assert_up(&mut self, tier: Tier) -> Result<Vec<TestResult>, EngineError> {
        let timeouts = self.app.folder.toml.timeouts.clone();
        let mut tests = vec![self.assert(tier, "converged", &mut |stages| {
            converge::settled(stages.engine, stages.lock, stages.app, timeouts.deploy)
        })?];
        if let Some(target) = self.engine.target(self.app) {
            tests.push(self.assert(tier, "healthy", &mut |stages| {
                converge::healthy(stages.engine, stages.lock, stages.app, &target, timeouts.http)
            })?);
        }
        Ok(tests)
    }

    /// The app really runs this release; an upgrade that changed nothing is none (incident `[17]`).
    fn assert_commit(
        &mut self,
        tier: Tier,
        release: &Release,
        before: Option<&str>,
    ) -> Result<Vec<TestResult>, EngineError> {
        let test = self.assert(tier, "commit", &mut |stages| {
            let commit = stages.engine.observe(stages.lock, stages.app)?.commit;
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

    /// Runs a hook, if the test folder has it.
    fn hook(&mut self, name: &str) -> Result<(), EngineError> {
        let Some(path) = self.app.folder.hook(name) else { return Ok(()) };
        self.console.say(&format!("   hook {name}"));
        let log = self.log_file(&format!("hooks/{name}"))?;
        let hook =
            Process::new(path).env(self.env()).dir(&self.app.folder.path).timeout(self.app.folder.toml.timeouts.test);
        let done = logged(&hook, log, self.console);
        done.map(drop).map_err(|error| EngineError::Recipe(format!("hook {name}: {error}")))
    }

    /// A fresh log file for a test or hook.
    fn log_file(&self, name: &str) -> Result<std::fs::File, EngineError> {
        let path = self.app.dir.join("logs").join(format!("{}.log", name.replace('/', "-")));
        let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let file = parent.and_then(|()| std::fs::OpenOptions::new().append(true).create(true).open(&path));
        file.map_err(|error| EngineError::Host(format!("cannot create {}: {error}", path.display())))
    }

    /// What tests and hooks find in their environment.
    fn env(&self) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> =
            self.plan.tag_vars().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for (key, file) in STATE_FILES {
            env.insert(key.to_owned(), self.state_file(file).display().to_string());
        }
        env.insert("ABRA_DIR".to_owned(), self.app.dir.join("abra").display().to_string());
        env.insert("CCCI_RECIPE".to_owned(), self.job.recipe.clone());
        if let Some(target) = self.engine.target(self.app) {
            env.insert("CCCI_BASE_URL".to_owned(), target.base_url());
        }
        // `cc-ci-run exec` is this program, wherever it was started from.
        if let Some(own) = std::env::current_exe().ok().as_deref().and_then(std::path::Path::parent) {
            env.insert("PATH".to_owned(), format!("{}:{}", std::env::var("PATH").unwrap_or_default(), own.display()));
        }
        env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
        env
    }

    fn state_file(&self, name: &str) -> PathBuf {
        // [CONC-A1]: state that was keyed by domain was shared by two runs of it.
        if weaken::on(Protection::StatePerRun) {
            self.app.dir.join(name)
        } else {
            std::env::temp_dir().join(format!("cc-ci-{name}-{}", self.app.domain))
        }
    }

    fn count_deploy(&self) -> Result<(), EngineError> {
        let path = self.state_file("deploys");
        let counted = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", self.app.domain));
        counted.map_err(|error| EngineError::Host(format!("cannot count a deploy in {}: {error}", path.display())))
    }

    /// DG4.1: as many real deploys as were meant.
    pub(super) fn count_deploys(&mut self) {
        let text = std::fs::read_to_string(self.state_file("deploys")).unwrap_or_default();
        let (counted, expected) = (text.lines().count(), 1);
        self.console.say(&format!("deploy-count = {counted} (expect {expected})"));
        report(self.app.dir, Event::Deploys { counted, expected });
    }
}

/// Runs a job into a log and, indented, to the console; redacted in both.
pub(super) fn logged(
    job: &Process,
    mut log: std::fs::File,
    console: &mut Console,
) -> Result<Finished, ccci_core::process::ProcessError> {
    job.run_ok(&mut |line| to_log(line, &mut log, console))
}

pub(super) fn to_log(line: &str, log: &mut std::fs::File, console: &mut Console) {
    if let Err(error) = writeln!(log, "{}", console.clean(line)) {
        tracing::warn!(%error, "a log line is lost");
    }
    console.say(&format!("     | {line}"));
}

/// Every archive can be read to its end and holds something.
fn readable(archive: &Archive) -> Result<(), EngineError> {
    for (volume, path) in &archive.files {
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
