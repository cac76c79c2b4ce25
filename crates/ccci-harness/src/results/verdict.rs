//! The verdict: a table of rules over what is known. Pure.
//!
//! A run is green if no rule says otherwise, and the last rules say otherwise wherever anything is missing: green needs
//! the worker's word that it finished, all that it said before, a pass or a skip with its reason for each tier that was
//! asked for, and a teardown report that says that nothing is left.

use ccci_core::lifetime::Cause;
use ccci_core::weaken::{self, Protection};

use super::evidence::Evidence;
use super::story::Story;
use crate::event::WorkerEnd;
use crate::keeper::Facts;
use crate::outcome::{Outcome, Tier, Verdict};

/// What is judged.
pub(super) struct Case<'run> {
    /// How the run ended, as far as who concludes it knows.
    pub(super) facts: &'run Facts,
    /// What its events tell.
    pub(super) story: &'run Story,
    /// Its files.
    pub(super) evidence: &'run Evidence,
    /// The tiers that must have passed; of a guard none.
    pub(super) asked: Asked<'run>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'run> {
    /// These tiers of a recipe.
    Tiers {
        tiers: &'run [Tier],
        /// Whether these are the tiers of a quick run, and nobody named them.
        quick: bool,
    },
    /// A guard's command, whose exit status is its own.
    Command,
}

/// A rule: the verdict that it comes to, with the reason, or nothing.
type Rule = fn(&Case<'_>) -> Option<(Verdict, String)>;

/// The rules, in the order in which they count. Who ended a run outweighs what its half-done tests say; a host that
/// failed outweighs a test; what is known to be wrong outweighs what is not known.
const RULES: [Rule; 10] = [
    ended_early,
    host_failed,
    worker_gave_up,
    worker_died,
    tier_failed,
    deploys_differ,
    secret_leaked,
    something_left,
    something_missing,
    tier_unverified,
];

/// The verdict, with the one thing that went wrong: the first rule that says something.
pub(super) fn judge(case: &Case<'_>) -> (Verdict, Option<String>) {
    match RULES.iter().find_map(|rule| rule(case)) {
        Some((verdict, reason)) => (verdict, Some(reason)),
        None => (Verdict::Green, None),
    }
}

fn ended_early(case: &Case<'_>) -> Option<(Verdict, String)> {
    // Who ends the time in which a finished run keeps its app up ends nothing else.
    let keeping = case.story.end.is_some() && case.story.kept;
    let cause = case.facts.cause.as_ref().filter(|_| !keeping)?;
    let verdict = match cause {
        Cause::Deadline | Cause::Alarm { .. } => Verdict::Deadline,
        _ => Verdict::Cancelled,
    };
    Some((verdict, format!("{cause}{}", case.story.place())))
}

fn host_failed(case: &Case<'_>) -> Option<(Verdict, String)> {
    case.facts.host.clone().map(|host| (Verdict::Host, host))
}

fn worker_gave_up(case: &Case<'_>) -> Option<(Verdict, String)> {
    match case.story.end.as_ref()? {
        WorkerEnd::Usage { message } => Some((Verdict::Usage, message.clone())),
        WorkerEnd::Host { message } => Some((Verdict::Host, message.clone())),
        WorkerEnd::Finished => None,
    }
}

fn worker_died(case: &Case<'_>) -> Option<(Verdict, String)> {
    if case.story.end.is_some() {
        return None;
    }
    let how = match (&case.facts.worker_died, weaken::on(Protection::Completeness)) {
        (Some(how), _) => how,
        (None, false) => "it left no word",
        (None, true) => return None,
    };
    let why = format!("the worker died before it was done ({how}): killed by hand, or out of memory?");
    Some((Verdict::Host, why))
}

fn tier_failed(case: &Case<'_>) -> Option<(Verdict, String)> {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Fail { .. });
    let stage = case.story.stages.iter().find(|stage| failed(&stage.outcome));
    if let Some(stage) = stage {
        return Some((Verdict::Red, format!("{}: {}", stage.tier, stage.outcome.reason())));
    }
    let tests = case.story.stages.iter().flat_map(|stage| stage.tests.iter().map(|test| (stage.tier, test)));
    let (tier, test) = tests
        .chain(case.story.tests.iter().map(|(tier, test)| (*tier, test)))
        .find(|(_, test)| failed(&test.outcome))?;
    Some((Verdict::Red, format!("{tier}: {}: {}", test.name, test.outcome.reason())))
}

fn deploys_differ(case: &Case<'_>) -> Option<(Verdict, String)> {
    let count = case.story.deploys.filter(|count| count.counted != count.expected)?;
    let differ = weaken::on(Protection::DeployCount);
    differ.then(|| (Verdict::Red, format!("deploy-count = {} (expect {})", count.counted, count.expected)))
}

fn secret_leaked(case: &Case<'_>) -> Option<(Verdict, String)> {
    let files = case.story.leaked.as_ref().filter(|files| !files.is_empty())?;
    let leaked = weaken::on(Protection::SecretSearch);
    leaked.then(|| (Verdict::Red, format!("a secret of the app stands in {}", files.join(", "))))
}

fn something_left(case: &Case<'_>) -> Option<(Verdict, String)> {
    let receipt = case.evidence.receipt().filter(|receipt| !receipt.is_clean())?;
    let first = receipt.residue.first();
    let what = first.map_or_else(|| "unknown".to_owned(), |left| format!("{} ({})", left.what, left.why));
    Some((Verdict::Red, format!("left behind: {what}")))
}

fn something_missing(case: &Case<'_>) -> Option<(Verdict, String)> {
    let missing = missing(case);
    let first = missing.first()?;
    let more = match missing.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    Some((Verdict::Incomplete, format!("not known: {first}{more}")))
}

fn tier_unverified(case: &Case<'_>) -> Option<(Verdict, String)> {
    if !weaken::on(Protection::Completeness) {
        return None;
    }
    let required = required(case);
    let stages = case.story.stages.iter().filter(|stage| required.contains(&stage.tier));
    let reason = stages.into_iter().find_map(|stage| match &stage.outcome {
        Outcome::Unverified { why } => Some(format!("{} was asked for and says nothing: {why}", stage.tier)),
        Outcome::Skip { reason } if reason.is_empty() => Some(format!("{} was skipped without a reason", stage.tier)),
        Outcome::Pass | Outcome::Fail { .. } | Outcome::Skip { .. } => None,
    })?;
    Some((Verdict::Incomplete, reason))
}

/// The tiers that must have spoken. Without an install there is nothing to test, whether it was named or not.
fn required(case: &Case<'_>) -> Vec<Tier> {
    let Asked::Tiers { tiers, quick } = case.asked else { return Vec::new() };
    // A quick run that nothing was kept for was asked for what it can do without.
    let cold = quick && case.story.quick.as_ref().is_some_and(|quick| quick.from.is_none());
    let wanted = |tier: &Tier| *tier == Tier::Install || tiers.contains(tier);
    Tier::ALL.into_iter().filter(wanted).filter(|tier| *tier != Tier::Upgrade || !cold).collect()
}

/// What would have to be known and is not, in words.
pub(super) fn missing(case: &Case<'_>) -> Vec<String> {
    if !weaken::on(Protection::Completeness) {
        return if case.evidence.receipt().is_none() { vec!["the teardown report".to_owned()] } else { Vec::new() };
    }
    let story = case.story;
    let mut missing = Vec::new();
    let mut expect = |there: bool, what: &str| {
        if !there {
            missing.push(what.to_owned());
        }
    };
    expect(story.end.is_some(), "the worker's last word: it was ended by hand, or the word was lost");
    for tier in required(case) {
        let told: Vec<_> = story.stages.iter().filter(|stage| stage.tier == tier).collect();
        let [stage] = told.as_slice() else {
            expect(!told.is_empty(), &format!("what became of the tier {tier}"));
            expect(told.is_empty(), &format!("what became of the tier {tier}: there are {} results", told.len()));
            continue;
        };
        let (there, said) = (stage.tests.len(), story.tests_said.get(&tier).copied().unwrap_or(0));
        expect(there == said, &format!("tests of the tier {tier}: {there} of {said} are there"));
        let passed = stage.outcome != Outcome::Pass || stage.tests.iter().any(|test| test.outcome == Outcome::Pass);
        expect(passed, &format!("a test of the tier {tier} that passed"));
    }
    if let Asked::Tiers { .. } = case.asked {
        expect(story.deploys.is_some(), "the number of deploys");
        expect(story.leaked.is_some(), "whether the run's files were searched for its secrets");
    } else {
        expect(story.command.is_some(), "how the command ended");
    }
    match &case.evidence.receipt {
        Ok(Some(_)) => {}
        Ok(None) => missing.push("the teardown report: the teardown did not finish".to_owned()),
        Err(why) => missing.push(why.clone()),
    }
    missing.extend(case.evidence.preclean.as_ref().err().cloned());
    missing.splice(..0, case.evidence.gaps.iter().cloned());
    missing
}
