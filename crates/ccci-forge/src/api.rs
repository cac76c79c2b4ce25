//! What is asked of a forge: the part of the API that Gitea and Forgejo share.
//!
//! Its answers are somebody else's: typed, bounded, and nothing of them is put into a URL unseen.

mod answers;
mod list;

use std::cell::Cell;

use ccci_core::config::forge::{Forge as Settings, Repository, is_segment};
use ccci_core::lifetime::clock::Deadline;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::http::Method;

use crate::remote::secret::Secret;
use crate::remote::{Remote, Trouble};
pub use answers::{Comment, Head, HeadRepository, List, NewStatus, Pull, Push, State, User, is_full_id};
use answers::{Happened, of};

/// A forge.
#[derive(Debug)]
pub struct Api {
    remote: Remote,
    /// When nothing more is asked.
    until: Cell<Deadline>,
}

impl Api {
    /// The forge of the settings, with its patience from now on.
    ///
    /// # Errors
    /// When there is no token.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let token = Secret::read(&settings.token_file)?;
        let remote =
            Remote::new("the forge", &format!("{}/api/v1", settings.url.trim_end_matches('/')), "token", &token)?;
        Ok(Self { remote, until: Cell::new(Deadline::after(settings.patience)) })
    }

    /// Starts its patience anew.
    pub fn renew(&self, settings: &Settings) {
        self.until.set(Deadline::after(settings.patience));
    }

    /// When nothing more is asked.
    #[must_use]
    pub fn until(&self) -> Deadline {
        self.until.get()
    }

    /// Who the token belongs to.
    ///
    /// # Errors
    /// [`Trouble`], as everywhere here.
    pub fn myself(&self) -> Result<User, Trouble> {
        self.get("/user")
    }

    /// Adds a result to a commit's.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn add_status(&self, repository: &Repository, sha: &str, status: &NewStatus<'_>) -> Result<(), Trouble> {
        let path = format!("{}/statuses/{sha}", of(repository));
        self.remote.ask(&Method::POST, &path, Some(&json!(status)), self.until()).map(drop)
    }

    /// All comments of a pull request, oldest first. Once: who calls it looks again anyway.
    ///
    /// # Errors
    /// [`Trouble`], also when one of them cannot be understood: it may be the one that is looked for.
    pub fn comments_of(&self, repository: &Repository, pull: u64) -> Result<Vec<Comment>, Trouble> {
        let path = format!("{}/issues/{pull}/comments?", of(repository));
        let list = self.pages(&path, |comment: &Comment| comment.id)?;
        match list.unread.first() {
            None => Ok(list.items),
            Some(why) => Err(self.remote.nonsense(why)),
        }
    }

    /// The comments of a repository that are new or changed since then.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn comments_since(&self, repository: &Repository, since: Timestamp) -> Result<List<Comment>, Trouble> {
        let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
        let path = format!("{}/issues/comments?since={since}&", of(repository));
        self.pages(&path, |comment: &Comment| comment.id)
    }

    /// What was pushed to a pull request's branch, the first push that it was opened with among it. An entry that
    /// cannot be understood is left out: who asks has to look whether the last push led to the head.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn pushes(&self, repository: &Repository, pull: u64) -> Result<Vec<Push>, Trouble> {
        let path = format!("{}/issues/{pull}/timeline?", of(repository));
        let list = self.pages(&path, |happened: &Happened| happened.id)?;
        let pushes = list.items.into_iter().filter_map(|happened| happened.push().ok().flatten());
        Ok(pushes.collect())
    }

    /// Writes a comment. Once: one that was written although the answer got lost must be looked for first.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn write_comment(&self, repository: &Repository, pull: u64, body: &str) -> Result<(), Trouble> {
        let path = format!("{}/issues/{pull}/comments", of(repository));
        self.remote.ask_once(&Method::POST, &path, Some(&json!({ "body": body })), self.until()).map(drop)
    }

    /// Replaces a comment's text.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn edit_comment(&self, repository: &Repository, comment: u64, body: &str) -> Result<(), Trouble> {
        let path = format!("{}/issues/comments/{comment}", of(repository));
        self.remote.ask_once(&Method::PATCH, &path, Some(&json!({ "body": body })), self.until()).map(drop)
    }

    /// Puts a reaction on a comment; false when it was there already.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn react(&self, repository: &Repository, comment: u64, content: &str) -> Result<bool, Trouble> {
        let path = format!("{}/issues/comments/{comment}/reactions", of(repository));
        let body = json!({ "content": content });
        self.remote.ask_once(&Method::POST, &path, Some(&body), self.until()).map(|answer| answer.status == 201)
    }

    /// A pull request as it is now.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn pull(&self, repository: &Repository, number: u64) -> Result<Pull, Trouble> {
        self.get(&format!("{}/pulls/{number}", of(repository)))
    }

    /// Whether somebody is a member of an organisation.
    ///
    /// # Errors
    /// [`Trouble`] when the forge did not say: 403, the token may not ask; a redirect, its user is no member and
    /// sees public members only. Both are no answer, and never "no".
    pub fn is_member(&self, organisation: &str, login: &str) -> Result<bool, Trouble> {
        if !is_segment(organisation) || !is_segment(login) {
            return Ok(false);
        }
        let path = format!("/orgs/{organisation}/members/{login}");
        match self.remote.ask(&Method::GET, &path, None, self.until()) {
            Ok(answer) if answer.status == 204 => Ok(true),
            Ok(answer) => Err(self.remote.nonsense(&format!("status {} for a membership", answer.status))),
            Err(Trouble::Refused { status: 404, .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let answer = self.remote.ask(&Method::GET, path, None, self.until())?;
        self.remote.understand(&answer)
    }

    fn pages<T: DeserializeOwned>(&self, path: &str, id: impl Fn(&T) -> u64) -> Result<List<T>, Trouble> {
        list::read(&self.remote, path, self.until(), id)
    }
}
