//! The one comment of a pull request: how it is recognised, and what it says.
//!
//! What it quotes comes out of a recipe that anybody may have sent in, so it stands in code: there it pings
//! nobody, loads nothing and looks like nothing else.

use std::time::Duration;

use ccci_core::config::duration;
use ccci_core::redact::Redactor;
use ccci_core::weaken::{self, Protection};
use ccci_forge::api::{Comment, State, User, is_full_id};
use ccci_forge::remote::one_line;
use jiff::Timestamp;

use super::state;
use crate::outcome::Rung;
use crate::plan::{Job, Plan};
use crate::results::Results;

/// How much of a reason is quoted, in lines and in characters of a line.
const QUOTED_LINES: usize = 20;
const QUOTED_LINE: usize = 300;

/// What there is to tell of a run.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) state: State,
    /// In one line.
    pub(super) headline: String,
    /// The run's page, if there is one.
    pub(super) link: Option<String>,
    /// When the run began: what is told of a later one is never replaced.
    pub(super) started: Timestamp,
    run: String,
    recipe: String,
    commit: Option<String>,
    rungs: Vec<(Rung, &'static str)>,
    reason: Option<String>,
    /// What a quick run began with.
    quick: Option<String>,
    /// What the operator's exceptions let through.
    granted: Vec<String>,
    took: Option<Duration>,
}

impl Story {
    /// Of a run that has begun.
    pub(super) fn begun(plan: &Plan) -> Self {
        let (recipe, git_ref, approval) = match &plan.job {
            Job::Recipe(job) => (job.recipe.clone(), job.git_ref.clone(), job.approval.clone()),
            Job::Guard(_) => (String::new(), String::new(), None),
        };
        // First, as a forge shows only so much of it.
        let approval = approval.map(|approval| approval + "; ").unwrap_or_default();
        Self {
            state: State::Pending,
            headline: format!("{approval}run {} waits or is at work", plan.run_id),
            link: link(plan),
            started: plan.started,
            run: plan.run_id.clone(),
            recipe,
            commit: Some(git_ref).filter(|git_ref| !git_ref.is_empty()),
            rungs: Vec::new(),
            reason: None,
            quick: None,
            granted: Vec::new(),
            took: None,
        }
    }

    /// Of a run that has ended.
    pub(super) fn ended(plan: &Plan, results: &Results) -> Self {
        let word = results.verdict.word();
        let headline = match &results.reason {
            None if results.quick.is_some() => format!("{word}, a quick run"),
            None => format!("{word}, level {} of {}", results.level, Rung::ALL.len()),
            Some(reason) => format!("{word}: {reason}"),
        };
        let tested = !results.stages.is_empty();
        let rungs = results.rungs.iter().filter(|_| tested);
        let begun = Self::begun(plan);
        Self {
            state: state::of(results.verdict),
            headline,
            commit: results.commit.clone().or(begun.commit),
            rungs: rungs.map(|(rung, outcome)| (*rung, outcome.word())).collect(),
            reason: results.reason.clone(),
            quick: results.quick.as_ref().map(|quick| match (&quick.from, &quick.why) {
                (Some(from), _) => format!("began with the data of {} that run {} kept", from.version, from.run_id),
                (None, Some(why)) => format!("began cold: {why}"),
                (None, None) => "ended before it began".to_owned(),
            }),
            granted: results.policy.granted.iter().map(ToString::to_string).collect(),
            took: Duration::try_from(results.finished.duration_since(results.started)).ok(),
            ..begun
        }
    }

    /// The comment.
    pub(super) fn body(&self, context: &str) -> String {
        let mut text = format!("{} {} -->\n", marker(context), self.started);
        text += &match self.state {
            State::Pending => format!("### {} {} is being tested\n", state::sign(self.state), code(&self.recipe)),
            _ => format!("### {} {}: {}\n", state::sign(self.state), code(&self.recipe), self.title()),
        };
        if !self.rungs.is_empty() {
            let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
            text += "\n";
            text += &row(self.rungs.iter().map(|(rung, _)| rung.to_string()).collect());
            text += &row(self.rungs.iter().map(|_| "---".to_owned()).collect());
            text += &row(self.rungs.iter().map(|(_, word)| (*word).to_owned()).collect());
        }
        if let Some(quick) = &self.quick {
            text += &format!("\nA quick run, on which nothing is to hang: {}\n", code(quick));
        }
        if !self.granted.is_empty() {
            text += "\nAllowed by the operator of this host:\n";
            text += &self.granted.iter().map(|granted| format!("- {}\n", code(granted))).collect::<String>();
        }
        if let Some(reason) = &self.reason {
            text += &format!("\n{}", quote(&Redactor::default(), reason));
        }
        let commit =
            self.commit.as_deref().map(|commit| format!("commit {} in ", code(&short(commit)))).unwrap_or_default();
        let took = self
            .took
            .map(|took| format!(", {}", duration::show(Duration::from_secs(took.as_secs()))))
            .unwrap_or_default();
        let link = self.link.as_deref().map(|link| format!(", [all of it](<{link}>)")).unwrap_or_default();
        text + &format!("\n{commit}run {}{took}{link}\n", code(&self.run))
    }

    fn title(&self) -> &str {
        // The reason follows in full.
        if self.reason.is_none() { &self.headline } else { self.headline.split(':').next().unwrap_or_default() }
    }
}

/// The run's page: as the settings have it, else the CI's page of the build.
fn link(plan: &Plan) -> Option<String> {
    let configured = plan.settings.forge.as_ref().and_then(|forge| forge.link.as_ref());
    let build = match &plan.job {
        Job::Recipe(job) => job.link.clone(),
        Job::Guard(_) => None,
    };
    let link = configured.map(|link| link.replace("{run}", &plan.run_id)).or(build)?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '\\');
    let good = ["https://", "http://"].iter().any(|scheme| link.starts_with(scheme)) && link.chars().all(plain);
    good.then_some(link)
}

/// How a comment of ours begins; nobody sees it.
fn marker(context: &str) -> String {
    format!("<!-- cc-ci-run report {context}")
}

/// Our own comment among those of a pull request, and when the run that it tells of began. Anybody can
/// write the marker, and the token may be allowed to change anybody's words: it must be ours by its author too.
pub(super) fn own(comments: &[Comment], me: &User, context: &str) -> Option<(u64, Option<Timestamp>)> {
    let marker = marker(context) + " ";
    comments.iter().find_map(|comment| {
        let rest = comment.body.strip_prefix(&marker)?;
        let ours = comment.user.as_ref().is_some_and(|user| user.id == me.id) || !weaken::on(Protection::OwnComment);
        let started = rest.split_once(" -->").and_then(|(started, _)| started.parse().ok());
        ours.then_some((comment.id, started))
    })
}

fn short(commit: &str) -> String {
    if is_full_id(commit) { commit.chars().take(10).collect() } else { commit.to_owned() }
}

/// Inline code, from which nothing gets out.
fn code(text: &str) -> String {
    format!("`{}`", one_line(&text.replace('`', "'"), QUOTED_LINE))
}

/// A block of code, from which nothing gets out: its fence is longer than any in it.
fn quote(redactor: &Redactor, text: &str) -> String {
    let lines: Vec<String> =
        text.lines().take(QUOTED_LINES).map(|line| one_line(&redactor.clean(line), QUOTED_LINE)).collect();
    let body = lines.join("\n");
    let longest = body.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{body}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> User {
        User { id: 7, login: "ci".to_owned() }
    }

    fn comment(id: u64, author: i64, body: &str) -> Comment {
        Comment {
            id,
            user: Some(User { id: author, login: "x".to_owned() }),
            body: body.to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            pull_request_url: String::new(),
        }
    }

    fn story() -> Story {
        Story {
            state: State::Failure,
            headline: "red: install: no".to_owned(),
            link: None,
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            run: "512".to_owned(),
            recipe: "hello".to_owned(),
            commit: Some("a".repeat(40)),
            rungs: vec![(Rung::Install, "fail"), (Rung::Upgrade, "unver")],
            reason: Some("install: no\n```\n@everyone <img src=x>\n````\nDB_PASSWORD=hunter2".to_owned()),
            quick: None,
            granted: Vec::new(),
            took: Some(Duration::from_secs(75)),
        }
    }

    #[test]
    fn a_comment_is_ours_by_its_author_and_by_how_it_begins() {
        let body = story().body("cc-ci");
        let started = Some(story().started);
        assert_eq!(own(&[comment(1, 9, &body), comment(2, 7, &body)], &me(), "cc-ci"), Some((2, started)));
        assert_eq!(own(&[comment(1, 9, &body)], &me(), "cc-ci"), None, "somebody else's with our marker");
        assert_eq!(own(&[comment(1, 7, &format!("> {body}"))], &me(), "cc-ci"), None, "a quotation of it");
        assert_eq!(own(&[comment(1, 7, &body)], &me(), "cc"), None, "another check's");
        let torn = "<!-- cc-ci-run report cc-ci yesterday -->";
        assert_eq!(own(&[comment(1, 7, torn)], &me(), "cc-ci"), Some((1, None)));
        let nobody = Comment { user: None, ..comment(1, 7, &body) };
        assert_eq!(own(&[nobody], &me(), "cc-ci"), None);
    }

    #[test]
    fn what_is_quoted_stays_in_its_block_and_keeps_its_secrets() {
        let body = story().body("cc-ci");
        let (before, block) = body.split_once("\n`````text\n").unwrap();
        let (block, after) = block.split_once("\n`````\n").unwrap();
        assert!(block.contains("@everyone <img src=x>"), "{body}");
        assert!(!before.contains('@') && !after.contains('@'), "{body}");
        assert!(block.contains("DB_PASSWORD=***") && !body.contains("hunter2"), "{body}");
        assert!(body.contains("### ❌ `hello`: red\n") && body.contains("| fail | unver |"), "{body}");
        assert!(after.contains("commit `aaaaaaaaaa` in run `512`, 1m 15s"), "{body}");
    }

    #[test]
    fn a_name_cannot_leave_its_code_span() {
        assert_eq!(code("a`b\nc"), "`a'b c`");
        assert!(quote(&Redactor::default(), &"x\n".repeat(1000)).lines().count() <= QUOTED_LINES + 2);
    }
}
