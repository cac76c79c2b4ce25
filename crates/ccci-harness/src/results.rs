//! What a run came to: from its events and its receipt to `results.json` and the exit code.
//!
//! [`assemble`] is pure: the same evidence always gives the same verdict, whoever concludes the run (the keeper, or the
//! reaper when the keeper was killed). `evidence` says what is known, `verdict` what that amounts to. A guard's result
//! is in `guard`.

mod evidence;
pub(crate) mod guard;
pub(crate) mod junit;
pub(crate) mod promotion;
mod story;
#[cfg(test)]
mod streams;
pub(crate) mod summary;
mod verdict;

use std::collections::BTreeMap;

use anyhow::Context as _;
use ccci_core::lifetime::Cause;
use ccci_core::policy::Violation;
use ccci_core::rundir::{RunDir, file};
use ccci_core::snapshot::Origin;
use ccci_core::teardown::Receipt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::console::Console;
use crate::event::{self, Event};
use crate::history::Past;
use crate::keeper::Facts;
use crate::outcome::{Outcome, Rung, Tier, Verdict, level, rungs};
use crate::page::badge;
use crate::page::run::{self, Files};
use crate::plan::{Job, Plan};
pub(crate) use evidence::Evidence;
pub(crate) use promotion::Promotion;
use story::Story;
use verdict::{Asked, Case, judge, missing};

/// The version of the shape of `results.json`; a reader must refuse a later one. Since 2 a run whose result is not known
/// in full is `incomplete`.
pub(crate) const SCHEMA: u32 = 2;
/// The oldest version that is still read.
pub(crate) const OLDEST_SCHEMA: u32 = 1;

/// `results.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) schema: u32,
    pub(crate) run_id: String,
    pub(crate) recipe: String,
    pub(crate) pr: String,
    #[serde(rename = "ref")]
    pub(crate) git_ref: String,
    pub(crate) version: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) upgraded_from: Option<String>,
    pub(crate) engine: String,
    pub(crate) domain: String,
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
    /// Who or what ended it early.
    pub(crate) cause: Option<Cause>,
    /// The one thing that went wrong, if any.
    pub(crate) reason: Option<String>,
    /// What the verdict needs and nobody knows; nothing for a run that was ended before it could be known.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    pub(crate) level: usize,
    /// The recipe's run before this one that tells of a level.
    #[serde(default)]
    pub(crate) previous: Option<Previous>,
    pub(crate) rungs: BTreeMap<Rung, Outcome>,
    /// The stages that were asked for.
    pub(crate) asked: Vec<Tier>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) deploy_count: Option<DeployCount>,
    /// What an earlier run had left, and what became of it.
    pub(crate) preclean: Option<Receipt>,
    pub(crate) receipt: Option<Receipt>,
    /// What a quick run began with; nothing for a run that is none.
    #[serde(default)]
    pub(crate) quick: Option<Quick>,
    /// What became of the data of a release's run; nothing for a run that hands none on.
    #[serde(default)]
    pub(crate) kept: Option<Promotion>,
    /// What the operator's exceptions let through.
    #[serde(default)]
    pub(crate) policy: Policed,
    pub(crate) flags: Flags,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

impl Results {
    /// Whether the level says something of the recipe: all tests were asked for, and have spoken, and not those
    /// of a quick run.
    pub(crate) const fn tells_level(&self) -> bool {
        let spoken = matches!(self.verdict, Verdict::Green | Verdict::Red);
        spoken && self.quick.is_none() && self.asked.len() == Tier::ALL.len()
    }
}

/// What became of the policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Policed {
    /// What is refused by default, and the operator allows.
    pub(crate) granted: Vec<Granted>,
}

/// Something that the operator allows a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    /// The recipe: the run's own, or a dependency.
    pub(crate) recipe: String,
    #[serde(flatten)]
    pub(crate) violation: Violation,
}

impl std::fmt::Display for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Violation { rule, key, file, what, .. } = &self.violation;
        let place = if key.is_empty() { file } else { key };
        write!(f, "{rule}: {} {place}: {what}", self.recipe)
    }
}

/// What a quick run began with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Quick {
    /// The kept data.
    pub(crate) from: Option<Origin>,
    /// Why it began without any.
    pub(crate) why: Option<String>,
}

/// An earlier run, to compare with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) run_id: String,
    pub(crate) level: usize,
}

/// A tier with its tests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) tier: Tier,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) milliseconds: u64,
    pub(crate) tests: Vec<Test>,
}

/// A test.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) milliseconds: u64,
}

/// A phase of the run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) started: Timestamp,
    pub(crate) milliseconds: u64,
    /// What it was made of, in order; a phase without steps has none.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
}

/// A step of a phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) started: Timestamp,
    pub(crate) milliseconds: u64,
}

/// DG4.1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct DeployCount {
    pub(crate) counted: usize,
    pub(crate) expected: usize,
}

/// Promises kept or not; `null` where nobody could look.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flags {
    pub(crate) clean_teardown: Option<bool>,
    pub(crate) no_secret_leak: Option<bool>,
}

/// Concludes a run: assembles, writes everything, says the summary. What of the run's files cannot be read makes the
/// result incomplete, and keeps nobody from writing it.
///
/// # Errors
/// When `results.json` cannot be written.
pub(crate) fn conclude(plan: &Plan, dir: &RunDir, facts: &Facts, console: &mut Console) -> anyhow::Result<Results> {
    let mut results = assemble(plan, facts, Evidence::read(dir), Timestamp::now());
    promotion::settle(plan, &mut results, console);
    results.previous = Past::before(&results, &plan.places.runs_dir);
    let results = event::only_text(&results)?;
    write(dir, &results, console)?;
    Ok(results)
}

/// Concludes a run that died without a result, in its place: under the claim on its directory. `reaped` is what was
/// removed of it since. What it ended with, in words.
///
/// # Errors
/// As [`conclude`].
pub(crate) fn of_dead(
    plan: &Plan,
    dir: &RunDir,
    reaped: Option<&Receipt>,
    console: &mut Console,
) -> anyhow::Result<Option<Results>> {
    if let Some(reaped) = reaped
        && !dir.join(file::RECEIPT).try_exists()?
    {
        dir.write_json(file::RECEIPT, reaped)?;
    }
    // The first cause is the one that it ended for; without one it was killed with all its parts.
    let cause = Evidence::read(dir).events.into_iter().find_map(|stamped| match stamped.event {
        Event::Cancelled { cause } => Some(cause),
        _ => None,
    });
    let facts = Facts { cause: Some(cause.unwrap_or(Cause::KeeperDied)), ..Facts::default() };
    let results = match &plan.job {
        Job::Recipe(_) => Some(conclude(plan, dir, &facts, console)?),
        Job::Guard(job) => {
            guard::assemble(plan, job, &facts, &Evidence::read(dir), Timestamp::now()).write(dir)?;
            dir.insist(|dir| dir.mark(file::CLEAN))?;
            None
        }
    };
    dir.clear_temporary()?;
    dir.leave_index().context("cannot remove the run from the index of unfinished runs")?;
    Ok(results)
}

/// The result of a run that never had its lock.
///
/// # Errors
/// When `results.json` cannot be written.
pub(crate) fn without_lock(
    plan: &Plan,
    dir: &RunDir,
    verdict: Verdict,
    cause: Option<Cause>,
    why: &str,
    console: &mut Console,
) -> anyhow::Result<Results> {
    let mut results = assemble(plan, &Facts::default(), Evidence::read(dir), Timestamp::now());
    results.verdict = verdict;
    results.exit_code = verdict.exit_code();
    results.cause = cause;
    results.reason = Some(why.to_owned());
    results.missing.clear();
    // All that is made of it (pages, JUnit, the forge's comment) is made of this.
    let results = event::only_text(&results)?;
    write(dir, &results, console)?;
    Ok(results)
}

fn write(dir: &RunDir, results: &Results, console: &mut Console) -> anyhow::Result<()> {
    dir.write_json(file::RESULTS, results)?;
    // The result once more, for whoever looks at it now. It stands, whether or not these can be written.
    let junit = junit::xml(results).and_then(|xml| Ok(dir.put("junit.xml", xml.as_bytes())?));
    let files = Files::of(dir.path()).unwrap_or_else(|error| {
        console.say(&format!("!! the page is without logs: {error}"));
        Files::default()
    });
    let badge = dir.put("badge.svg", badge::svg(results).as_bytes());
    let page = dir.put("summary.html", run::page(results, &files, &[]).as_bytes());
    for error in [junit.err(), badge.err().map(Into::into), page.err().map(Into::into)].into_iter().flatten() {
        console.say(&format!("!! {error}"));
    }
    for line in summary::lines(results, dir.path()) {
        console.plain(&line);
    }
    Ok(())
}

/// Puts a recipe's result together.
pub(crate) fn assemble(plan: &Plan, facts: &Facts, evidence: Evidence, now: Timestamp) -> Results {
    let story = Story::of(&evidence.events, now);
    let stage_outcomes: BTreeMap<Tier, Outcome> =
        story.stages.iter().map(|stage| (stage.tier, stage.outcome.clone())).collect();
    let rungs = rungs(&stage_outcomes, story.lint.as_ref());
    let asked = match &plan.job {
        Job::Recipe(job) => Asked::Tiers { tiers: &job.stages, quick: job.quick && job.stages == Tier::QUICK },
        Job::Guard(_) => Asked::Command,
    };
    let case = Case { facts, story: &story, evidence: &evidence, asked };
    let (verdict, reason) = judge(&case);
    let missing = if verdict.is_on_the_tests() { missing(&case) } else { Vec::new() };
    let (recipe, pr, git_ref, engine, domain) = match &plan.job {
        Job::Recipe(job) => {
            (job.recipe.clone(), job.pr.clone(), job.git_ref.clone(), job.engine.to_string(), job.domain.clone())
        }
        Job::Guard(job) => (job.command.join(" "), String::new(), String::new(), "guard".to_owned(), plan.subject()),
    };
    let (asked, quick) = match &plan.job {
        Job::Recipe(job) => (job.stages.clone(), job.quick.then(|| story.quick.unwrap_or_default())),
        Job::Guard(_) => (Vec::new(), None),
    };
    Results {
        schema: SCHEMA,
        run_id: plan.run_id.clone(),
        recipe,
        pr,
        git_ref,
        version: story.version,
        commit: story.commit,
        upgraded_from: story.base,
        engine,
        domain,
        verdict,
        exit_code: verdict.exit_code(),
        cause: facts.cause.clone(),
        reason,
        missing,
        level: level(&rungs),
        previous: None,
        rungs,
        asked,
        stages: story.stages,
        phases: story.phases,
        deploy_count: story.deploys,
        preclean: evidence.preclean().filter(|preclean| !preclean.is_empty()).cloned(),
        flags: Flags {
            clean_teardown: evidence.receipt().map(Receipt::is_clean),
            no_secret_leak: story.leaked.as_ref().map(Vec::is_empty),
        },
        receipt: evidence.receipt().cloned(),
        quick,
        kept: story.handed.map(Promotion::from),
        policy: Policed { granted: story.granted },
        started: plan.started,
        finished: now,
    }
}
