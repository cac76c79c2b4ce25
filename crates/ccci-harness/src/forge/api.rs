//! What is asked of a forge: the part of the API that Gitea and Forgejo share.
//!
//! Its answers are somebody else's: typed, bounded, and nothing of them is put into a URL unseen.

use std::collections::BTreeSet;

use ccci_core::config::forge::{Forge as Settings, Repository, is_segment};
use ccci_core::lifetime::clock::Deadline;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::remote::secret::Secret;
use crate::remote::{Remote, Trouble};

/// How much of a list is asked for at once.
const PAGE: usize = 50;
/// A list that does not end here is not read any further.
const MOST_PAGES: usize = 20;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) login: String,
}

/// A comment.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Comment {
    pub(crate) id: u64,
    /// Nobody, where the account is deleted.
    pub(crate) user: Option<User>,
    #[serde(default)]
    pub(crate) body: String,
    pub(crate) created_at: Timestamp,
    /// Empty for a comment on an issue.
    #[serde(default)]
    pub(crate) pull_request_url: String,
}

/// A pull request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pull {
    pub(crate) state: String,
    pub(crate) head: Head,
}

/// What a pull request wants to bring in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Head {
    pub(crate) sha: String,
    /// Nothing, where the fork is deleted.
    pub(crate) repo: Option<HeadRepository>,
}

/// Where it comes from.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HeadRepository {
    pub(crate) clone_url: String,
}

/// A check's result at a commit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewStatus<'a> {
    pub(crate) state: super::State,
    pub(crate) context: &'a str,
    pub(crate) description: &'a str,
    pub(crate) target_url: &'a str,
}

/// A forge.
#[derive(Debug)]
pub(crate) struct Api {
    remote: Remote,
    /// When nothing more is asked.
    until: Deadline,
}

impl Api {
    /// The forge of the settings, with its patience from now on.
    ///
    /// # Errors
    /// When there is no token.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let token = Secret::read(&settings.token_file)?;
        let remote =
            Remote::new("the forge", &format!("{}/api/v1", settings.url.trim_end_matches('/')), "token", &token)?;
        Ok(Self { remote, until: Deadline::after(settings.patience) })
    }

    /// Starts its patience anew.
    pub(crate) fn renew(&mut self, settings: &Settings) {
        self.until = Deadline::after(settings.patience);
    }

    /// When nothing more is asked.
    pub(crate) const fn until(&self) -> Deadline {
        self.until
    }

    /// Who the token belongs to.
    pub(crate) fn myself(&self) -> Result<User, Trouble> {
        self.get("/user")
    }

    /// Adds a result to a commit's.
    pub(crate) fn add_status(&self, repository: &Repository, sha: &str, status: &NewStatus<'_>) -> Result<(), Trouble> {
        let path = format!("/repos/{repository}/statuses/{sha}");
        self.remote.ask(&Method::POST, &path, Some(&json!(status)), self.until).map(drop)
    }

    /// All comments of a pull request, oldest first. Once: who calls it looks again anyway.
    pub(crate) fn comments_of(&self, repository: &Repository, pull: u64) -> Result<Vec<Comment>, Trouble> {
        self.pages(&format!("/repos/{repository}/issues/{pull}/comments?"), |comment: &Comment| comment.id)
            .map(|(all, _)| all)
    }

    /// The comments of a repository that are new or changed since then, and the forge's own time.
    pub(crate) fn comments_since(
        &self,
        repository: &Repository,
        since: Timestamp,
    ) -> Result<(Vec<Comment>, Timestamp), Trouble> {
        let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
        let path = format!("/repos/{repository}/issues/comments?since={since}&");
        let (comments, date) = self.pages(&path, |comment: &Comment| comment.id)?;
        Ok((comments, date.unwrap_or_else(Timestamp::now)))
    }

    /// Writes a comment. Once: one that was written although the answer got lost must be looked for first.
    pub(crate) fn write_comment(&self, repository: &Repository, pull: u64, body: &str) -> Result<(), Trouble> {
        let path = format!("/repos/{repository}/issues/{pull}/comments");
        self.remote.ask_once(&Method::POST, &path, Some(&json!({ "body": body })), self.until).map(drop)
    }

    /// Replaces a comment's text.
    pub(crate) fn edit_comment(&self, repository: &Repository, comment: u64, body: &str) -> Result<(), Trouble> {
        let path = format!("/repos/{repository}/issues/comments/{comment}");
        self.remote.ask_once(&Method::PATCH, &path, Some(&json!({ "body": body })), self.until).map(drop)
    }

    /// Puts a reaction on a comment; false when it was there already.
    pub(crate) fn react(&self, repository: &Repository, comment: u64, content: &str) -> Result<bool, Trouble> {
        let path = format!("/repos/{repository}/issues/comments/{comment}/reactions");
        let body = json!({ "content": content });
        self.remote.ask_once(&Method::POST, &path, Some(&body), self.until).map(|answer| answer.status == 201)
    }

    /// A pull request as it is now.
    pub(crate) fn pull(&self, repository: &Repository, number: u64) -> Result<Pull, Trouble> {
        self.get(&format!("/repos/{repository}/pulls/{number}"))
    }

    /// Whether somebody is a member of an organisation. Who is no member and who cannot be are alike.
    pub(crate) fn is_member(&self, organisation: &str, login: &str) -> Result<bool, Trouble> {
        if !is_segment(organisation) || !is_segment(login) {
            return Ok(false);
        }
        let path = format!("/orgs/{organisation}/members/{login}");
        match self.remote.ask(&Method::GET, &path, None, self.until) {
            Ok(answer) => Ok(answer.status == 204),
            Err(Trouble::Refused { status: 404, .. }) => Ok(false),
            // 302 leads to the public members: the token may not see all, and nobody is let in by half.
            Err(other) => Err(other),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let answer = self.remote.ask(&Method::GET, path, None, self.until)?;
        self.remote.understand(&answer)
    }

    /// A list to its end. A forge that does not page repeats itself, which is an end too.
    fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        id: impl Fn(&T) -> u64,
    ) -> Result<(Vec<T>, Option<Timestamp>), Trouble> {
        let (mut all, mut known, mut date) = (Vec::new(), BTreeSet::new(), None);
        for page in 1..=MOST_PAGES {
            let answer = self.remote.ask(&Method::GET, &format!("{path}limit={PAGE}&page={page}"), None, self.until)?;
            // The first page's: what comes later may miss what is written meanwhile.
            date = date.or(answer.date);
            let items: Vec<Value> = self.remote.understand(&answer)?;
            let mut fresh = 0;
            for item in items {
                let item = serde_json::from_value(item).map_err(|error| self.remote.nonsense(&error.to_string()))?;
                if known.insert(id(&item)) {
                    fresh += 1;
                    all.push(item);
                }
            }
            // A page may be shorter than what was asked for, if the forge's own limit is.
            if fresh == 0 {
                return Ok((all, date));
            }
        }
        Err(self.remote.nonsense(&format!("a list of more than {} entries", MOST_PAGES * PAGE)))
    }
}
