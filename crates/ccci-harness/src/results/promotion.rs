//! The end of what a release's run has handed on: kept for quick runs if the run came out green, else gone.
//!
//! Whoever concludes the run does it, under the app's lock. Nothing that goes wrong here changes a verdict.

use ccci_core::name::RunId;
use ccci_core::weaken::{self, Protection};
use serde::{Deserialize, Serialize};

use super::Results;
use crate::console::Console;
use crate::event::Handed;
use crate::outcome::Verdict;
use crate::plan::{Job, Plan};
use crate::worker::kept::{PATIENCE, shelf};

/// What became of a release's data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promotion {
    /// Whether quick runs begin with them from now on.
    pub(crate) promoted: bool,
    /// How many bytes they are.
    pub(crate) bytes: u64,
    /// Why they are not kept.
    pub(crate) why: Option<String>,
}

impl From<Handed> for Promotion {
    fn from(Handed { bytes, why }: Handed) -> Self {
        Self { promoted: false, bytes, why }
    }
}

/// Promotes or removes what the run has handed on.
pub(super) fn settle(plan: &Plan, results: &mut Results, console: &mut Console) {
    let Job::Recipe(job) = &plan.job else { return };
    let (Some(shelf), Some(domain), Ok(id)) = (shelf(plan, job), plan.domain(), RunId::new(&plan.run_id)) else {
        return;
    };
    let candidate = shelf.candidate(&domain, &id);
    let mut handed = results.kept.as_mut().filter(|kept| kept.why.is_none());
    if let Some(gone) = handed.as_mut().filter(|_| !candidate.is_whole()) {
        gone.why = Some("what it had handed on is no longer there".to_owned());
    }
    // Without the worker's word on it, it was not finished.
    let Some(kept) = handed.filter(|kept| kept.why.is_none()) else {
        if let Err(error) = candidate.discard() {
            console.say(&format!("!! kept: {error}"));
        }
        return;
    };
    let version = results.version.as_deref().unwrap_or_default();
    if results.verdict == Verdict::Green || !weaken::on(Protection::PromoteGreen) {
        match candidate.promote(PATIENCE, &mut || console.say("== kept: a quick run reads what is kept — waiting =="))
        {
            Ok(()) => {
                kept.promoted = true;
                console.say(&format!("== kept: quick runs begin with the data of {version} ({} bytes) ==", kept.bytes));
            }
            Err(error) => {
                console.say(&format!("!! kept: nothing of this run: {error}"));
                kept.why = Some(error.to_string());
            }
        }
    } else {
        kept.why = Some("the run did not come out green".to_owned());
    }
    // It, or what it has replaced. What stays is the janitor's.
    if let Err(error) = candidate.discard() {
        console.say(&format!("!! kept: {error}"));
    }
}
