//! Telling a forge (Gitea, Forgejo) how the run of a pull request stands: a status at the commit, and one
//! comment that is kept up to date. Off unless `[forge]` is in the settings.
//!
//! A forge is never waited for where something hangs on it: the beginning is told by a process of its own,
//! the end when the lock is free, within `patience`; and whatever it answers, the verdict stays.

mod comment;
mod state;

use std::ffi::OsString;
use std::process::ExitCode;

use ccci_core::config::forge::{Forge as Settings, Repository};
use ccci_core::lifetime::exec::Birth;
use ccci_core::process::{Child, spawn_part};
use ccci_core::redact::Redactor;
use ccci_core::rundir::RunDir;
use ccci_core::weaken::{self, Protection};
use ccci_forge::api::{Api, NewStatus, is_full_id};
use ccci_forge::remote::{self, Trouble, retry};
use nix::sys::signal::Signal;

use crate::console::Console;
use crate::plan::{Job, Plan};
use crate::results::Results;
use comment::Story;

/// What a forge shows of a description.
const DESCRIPTION: usize = 140;

/// What is told of: which pull request, which commit.
#[derive(Debug)]
struct Subject<'a> {
    settings: &'a Settings,
    /// The name of the check.
    context: String,
    repository: Repository,
    pull: u64,
}

impl<'a> Subject<'a> {
    /// `None` where nothing is to be told: no forge, no pull request.
    fn of(plan: &'a Plan) -> Option<Result<Self, String>> {
        let settings = plan.settings.forge.as_ref()?;
        let Job::Recipe(job) = &plan.job else { return None };
        let pull = job.pr.parse().ok().filter(|pull| *pull > 0)?;
        let repository = job.repository.clone().map_or_else(|| settings.repository_of(&job.recipe), Ok);
        let context = if job.quick && weaken::on(Protection::QuickContext) {
            format!("{}/quick", settings.context)
        } else {
            settings.context.clone()
        };
        Some(repository.map(|repository| Self { settings, context, repository, pull }))
    }
}

/// The telling of a run's beginning, under way.
#[derive(Debug)]
pub(crate) struct Announcement(Child);

impl Announcement {
    /// Ends it, so that it cannot come after what is told next.
    fn end(mut self) {
        self.0.signal(Signal::SIGKILL);
        if let Err(error) = self.0.wait() {
            tracing::debug!(%error, "the announcement is not collected");
        }
    }
}

/// Begins to tell that the run has begun, in a process that ends with this one.
pub(crate) fn announce(plan: &Plan, dir: &RunDir) -> Option<Announcement> {
    Subject::of(plan)?.ok()?;
    let args: [OsString; 2] = ["announce".into(), dir.path().into()];
    let birth = Birth { death_signal: Some(Signal::SIGKILL), ..Birth::default() };
    match spawn_part(&args, std::env::vars_os(), birth) {
        Ok(part) => Some(Announcement(part)),
        Err(error) => {
            tracing::warn!(%error, "the forge is not told of the beginning");
            None
        }
    }
}

/// That process.
///
/// # Errors
/// When the run's directory cannot be read.
pub(crate) fn announcing(dir: &RunDir) -> anyhow::Result<ExitCode> {
    let plan = Plan::read(dir)?;
    let told = tell_all(&plan, &Story::begun(&plan), full_id(&plan));
    if let Err(why) = told {
        // In the log alone: the end will say it again where a person looks.
        tracing::debug!(why, "the forge was not told of the beginning");
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells how the run ended. Its lock is free by now, and its verdict stands.
pub(crate) fn conclude(announcement: Option<Announcement>, plan: &Plan, results: &Results, console: &mut Console) {
    if let Some(announcement) = announcement {
        announcement.end();
    }
    let commit = results.commit.as_deref().or_else(|| full_id(plan));
    if let Err(why) = tell_all(plan, &Story::ended(plan, results), commit) {
        console.say(&format!("!! the pull request does not show this result: {why}"));
    }
}

/// The commit, where the run was asked for by its full id.
fn full_id(plan: &Plan) -> Option<&str> {
    match &plan.job {
        Job::Recipe(job) => Some(job.git_ref.as_str()).filter(|id| is_full_id(id)),
        Job::Guard(_) => None,
    }
}

/// Both, the status first: it is what a merge may hang on. One that fails does not keep the other back.
fn tell_all(plan: &Plan, story: &Story, commit: Option<&str>) -> Result<(), String> {
    let Some(subject) = Subject::of(plan) else { return Ok(()) };
    let subject = subject?;
    let api = Api::open(subject.settings).map_err(|error| format!("{error:#}"))?;
    let status = commit.map_or(Ok(()), |commit| set_status(&api, &subject, story, commit));
    let comment = if subject.settings.comment { put_comment(&api, &subject, story) } else { Ok(()) };
    let troubles: Vec<String> =
        [status, comment].into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) }
}

fn set_status(api: &Api, subject: &Subject<'_>, story: &Story, commit: &str) -> Result<(), Trouble> {
    let description = remote::one_line(&Redactor::default().clean(&story.headline), DESCRIPTION);
    let status = NewStatus {
        state: story.state,
        context: &subject.context,
        description: &description,
        target_url: story.link.as_deref().unwrap_or_default(),
    };
    api.add_status(&subject.repository, commit, &status)
}

/// Looking and writing are tried again together: a comment that was written although the answer got lost
/// is then found, and not written twice.
fn put_comment(api: &Api, subject: &Subject<'_>, story: &Story) -> Result<(), Trouble> {
    let context = &subject.context;
    let me = api.myself()?;
    retry::while_it_may_help(api.until(), || {
        let comments = api.comments_of(&subject.repository, subject.pull)?;
        match comment::own(&comments, &me, context) {
            Some((_, Some(of))) if of > story.started => Ok(()),
            Some((id, _)) => api.edit_comment(&subject.repository, id, &story.body(context)),
            None => api.write_comment(&subject.repository, subject.pull, &story.body(context)),
        }
    })
}
