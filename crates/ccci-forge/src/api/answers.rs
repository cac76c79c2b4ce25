//! What a forge answers, as far as it is needed. Fields that nobody knows are passed over.

use ccci_core::config::forge::Repository;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Negative for who is nobody any more: a deleted account is `Ghost`, -1 (incident `[ghost]`).
    pub id: i64,
    /// The name in addresses.
    pub login: String,
}

impl User {
    /// Whether there is an account behind it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.id > 0 && !self.login.is_empty()
    }
}

/// A comment.
#[derive(Debug, Clone, Deserialize)]
pub struct Comment {
    /// Its number, which grows with time, over all repositories.
    pub id: u64,
    /// Nobody, where the account is deleted, or is not told of in a way that is understood.
    #[serde(default, deserialize_with = "somebody")]
    pub user: Option<User>,
    /// Its text.
    #[serde(default, deserialize_with = "text")]
    pub body: String,
    /// When it was written. An edit does not change it.
    pub created_at: Timestamp,
    /// Empty for a comment on an issue.
    #[serde(default, deserialize_with = "text")]
    pub pull_request_url: String,
}

/// A pull request.
#[derive(Debug, Clone, Deserialize)]
pub struct Pull {
    /// `open` or `closed`.
    pub state: String,
    /// Its author.
    #[serde(default, deserialize_with = "somebody")]
    pub user: Option<User>,
    /// What it wants to bring in.
    pub head: Head,
}

/// What a pull request wants to bring in.
#[derive(Debug, Clone, Deserialize)]
pub struct Head {
    /// The commit.
    pub sha: String,
    /// Nothing, where the fork is deleted.
    pub repo: Option<HeadRepository>,
}

/// Where it comes from.
#[derive(Debug, Clone, Deserialize)]
pub struct HeadRepository {
    /// Its address for git.
    pub clone_url: String,
}

/// What was pushed to a pull request's branch at once, as the pull request's timeline has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Its number, in the same row as the comments'.
    pub id: u64,
    /// When the forge noticed it.
    pub created_at: Timestamp,
    /// Whether it replaced what was there. The commits are then the one before and the one after.
    pub forced: bool,
    /// The commits, the oldest first.
    pub commits: Vec<String>,
}

impl Push {
    /// Whether this commit is what the branch was at after it.
    #[must_use]
    pub fn led_to(&self, sha: &str) -> bool {
        if self.forced {
            self.commits.last().is_some_and(|commit| commit == sha)
        } else {
            self.commits.iter().any(|commit| commit == sha)
        }
    }
}

/// An entry of a timeline, before it is known what it is.
#[derive(Debug, Deserialize)]
pub(super) struct Happened {
    pub(super) id: u64,
    #[serde(rename = "type")]
    kind: String,
    created_at: Timestamp,
    #[serde(default, deserialize_with = "text")]
    body: String,
}

#[derive(Debug, Deserialize)]
struct Pushed {
    #[serde(default)]
    is_force_push: bool,
    #[serde(default, deserialize_with = "commits")]
    commit_ids: Vec<String>,
}

impl Happened {
    /// The push that it was; `None` for anything else.
    ///
    /// # Errors
    /// When it is a push and does not say of what.
    pub(super) fn push(self) -> Result<Option<Push>, serde_json::Error> {
        if self.kind != "pull_push" {
            return Ok(None);
        }
        let pushed: Pushed = serde_json::from_str(&self.body)?;
        let (forced, commits) = (pushed.is_force_push, pushed.commit_ids);
        Ok(Some(Push { id: self.id, created_at: self.created_at, forced, commits }))
    }
}

/// What a forge shows at a commit. What is nobody's fault who wrote the commit is an `error`, not a `failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits or is at work.
    Pending,
    /// Everything passed.
    Success,
    /// What was committed did not.
    Failure,
    /// It was not tested to its end.
    Error,
}

/// A check's result at a commit.
#[derive(Debug, Clone, Serialize)]
pub struct NewStatus<'a> {
    /// How it stands.
    pub state: State,
    /// The name of the check.
    pub context: &'a str,
    /// In one line.
    pub description: &'a str,
    /// Where all of it is.
    pub target_url: &'a str,
}

/// A list of a forge's, as far as it was understood.
#[derive(Debug)]
pub struct List<T> {
    /// What was understood.
    pub items: Vec<T>,
    /// Why an entry was not, a line each.
    pub unread: Vec<String>,
    /// The forge's own time, before the list was made.
    pub date: Option<Timestamp>,
}

/// Whether `text` is a commit id in full.
#[must_use]
pub fn is_full_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// The repository's path in an address.
pub(super) fn of(repository: &Repository) -> String {
    format!("/repos/{repository}")
}

/// A text; none is an empty one.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn commits<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Somebody. Who is not told of in a way that is understood is nobody, and nobody may ask for anything.
fn somebody<'de, D: Deserializer<'de>>(from: D) -> Result<Option<User>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value::<User>(value).ok().filter(User::exists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_deleted_or_missing_is_nobody_and_costs_no_comment() {
        for user in ["null", "{\"id\":-1,\"login\":\"Ghost\"}", "{\"id\":0,\"login\":\"\"}", "{\"id\":1}", "7", "[]"] {
            let text = format!(
                "{{\"id\":5,\"user\":{user},\"body\":null,\"created_at\":\"2026-01-02T03:04:05Z\",\"new\":[1]}}"
            );
            let comment: Comment = serde_json::from_str(&text).unwrap();
            assert_eq!((comment.user, comment.body.as_str(), comment.id), (None, "", 5), "{user}");
        }
    }

    #[test]
    fn a_push_leads_to_what_it_brought_and_a_forced_one_not_to_what_it_replaced() {
        let happened = |body: &str| {
            let text =
                serde_json::json!({ "id": 9, "type": "pull_push", "created_at": "2026-01-02T03:04:05Z", "body": body });
            serde_json::from_value::<Happened>(text).unwrap().push()
        };
        let plain = happened("{\"is_force_push\":false,\"commit_ids\":[\"a\",\"b\"]}").unwrap().unwrap();
        assert!(plain.led_to("a") && plain.led_to("b") && !plain.led_to("c"));
        let forced = happened("{\"is_force_push\":true,\"commit_ids\":[\"a\",\"b\"]}").unwrap().unwrap();
        assert!(!forced.led_to("a") && forced.led_to("b"));
        assert!(happened("").is_err(), "a push of what?");
        assert!(!happened("{\"commit_ids\":null}").unwrap().unwrap().led_to(""));
    }
}
