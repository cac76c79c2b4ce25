//! Watching one repository's comments: which are new, which are dealt with, which are to be tried again.
//!
//! Anybody may comment, so no comment may hide another: one that cannot be understood is passed over and said, one
//! that the forge cannot tell more of is tried again beside the others, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ccci_core::config::forge::Repository;
use ccci_core::weaken::{self, Protection};
use ccci_forge::api::{Api, Comment};
use ccci_forge::remote::Trouble;
use jiff::Timestamp;

use crate::answer::FAILED;
use crate::command;
use crate::ledger::{Ledger, Place};
use crate::say;
use crate::wish::{Asked, Done, Parties};

/// Each look begins this long before the last one: what was being written then is not missed.
const OVERLAP: Duration = Duration::from_secs(600);
/// A wish that could not be dealt with for so long is given up.
const GIVEN_UP_AFTER: i64 = 3600;

/// A repository under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    repository: Repository,
    place: Where,
    /// The comments that are to be tried again, and since when.
    again: BTreeMap<u64, Timestamp>,
    /// The threads that were told that nobody can be asked who is a member.
    told: BTreeSet<u64>,
    /// The trouble that was said last, so that an outage is said once.
    trouble: Option<String>,
    /// The entries that could not be understood, each said once.
    unread: BTreeSet<String>,
}

/// How far it is.
#[derive(Debug)]
enum Where {
    /// It never looked; whether an earlier bridge did is not known any more where `lost`.
    New { lost: bool },
    /// An earlier bridge came so far.
    Left(Place),
    /// It came so far itself.
    At(Place),
}

impl Watch {
    /// Goes on where the ledger says.
    pub(crate) fn new(repository: Repository, ledger: &Ledger) -> Self {
        let place = match ledger.place(&repository) {
            (Some(place), _) if weaken::on(Protection::LookBack) => Where::Left(place),
            (_, lost) => Where::New { lost },
        };
        Self {
            repository,
            place,
            again: BTreeMap::new(),
            told: BTreeSet::new(),
            trouble: None,
            unread: BTreeSet::new(),
        }
    }

    /// Looks once, and deals with what is new. A trouble is said and the next look tries again.
    pub(crate) fn look(&mut self, parties: &Parties<'_>, ledger: &mut Ledger) {
        let looked = match &self.place {
            Where::At(place) => {
                let place = place.clone();
                self.go_on(place, parties, ledger)
            }
            Where::New { .. } | Where::Left(_) => self.begin(parties).map(|()| None),
        };
        if let Where::At(place) = &self.place {
            ledger.keep(&self.repository, place);
        }
        let trouble = looked.unwrap_or_else(|trouble| Some(trouble.to_string()));
        match (&trouble, &self.trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => say(&format!("{}: {now}", self.repository)),
            (None, Some(_)) => say(&format!("{}: it answers again", self.repository)),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// Where to begin. The forge's clock is asked for first: ours may differ. Without an earlier bridge, what is there
    /// is none of ours; with one, what came since is.
    fn begin(&mut self, parties: &Parties<'_>) -> Result<(), Trouble> {
        let Parties { api, bridge, .. } = parties;
        let now = time(api, &self.repository)?;
        let furthest = now.checked_sub(bridge.look_back).unwrap_or(now);
        let place = match &self.place {
            Where::At(_) => return Ok(()),
            Where::New { lost: true } => Place { last: furthest, done: BTreeMap::new() },
            Where::New { lost: false } => {
                let before = api.comments_since(&self.repository, earlier(now))?;
                let done = before.items.iter().map(|comment| (comment.id, comment.created_at)).collect();
                Place { last: now, done }
            }
            Where::Left(place) if place.last < furthest => {
                say(&format!("{}: comments from {} to {furthest} are not looked at", self.repository, place.last));
                Place { last: furthest, done: place.done.clone() }
            }
            Where::Left(place) => place.clone(),
        };
        say(&format!("{}: watching for `!testme` from {} on", self.repository, place.last));
        self.place = Where::At(place);
        Ok(())
    }

    /// What is new; the trouble with one of it, if there was any.
    fn go_on(
        &mut self,
        mut place: Place,
        parties: &Parties<'_>,
        ledger: &mut Ledger,
    ) -> Result<Option<String>, Trouble> {
        let from = earlier(place.last);
        let list = parties.api.comments_since(&self.repository, from)?;
        let now = list.date.unwrap_or_else(Timestamp::now);
        for why in list.unread {
            if self.unread.insert(why.clone()) {
                say(&format!("{}: a comment cannot be understood and is passed over: {why}", self.repository));
            }
        }
        let (mut trouble, mut held) = (None, now);
        for comment in list.items {
            // An old one turns up when it is edited. An edit is no wish.
            if comment.created_at < from || place.done.contains_key(&comment.id) {
                continue;
            }
            if let Some(why) = self.deal_with(&comment, now, parties, ledger) {
                held = held.min(comment.created_at);
                trouble.get_or_insert(why);
            } else {
                self.again.remove(&comment.id);
                place.done.insert(comment.id, comment.created_at);
            }
        }
        // What is not dealt with yet is in the next look too.
        place.last = place.last.max(now.min(held));
        let from = earlier(place.last);
        place.done.retain(|_, created| *created >= from);
        self.place = Where::At(place);
        Ok(trouble)
    }

    /// Deals with a comment; `Some` is why it is to be tried again.
    fn deal_with(
        &mut self,
        comment: &Comment,
        now: Timestamp,
        parties: &Parties<'_>,
        ledger: &mut Ledger,
    ) -> Option<String> {
        let (wish, pull) = command::parse(&comment.body).zip(command::pull_of(&comment.pull_request_url))?;
        let said_unknown = self.told.contains(&pull);
        let asked = Asked { repository: &self.repository, pull, comment, wish, now, said_unknown };
        let why = match asked.consider(parties, ledger) {
            Done::Dealt => return None,
            Done::SaidUnknown => {
                self.told.insert(pull);
                return None;
            }
            Done::Later(why) => why,
        };
        let first = *self.again.entry(comment.id).or_insert(now);
        if now.duration_since(first).as_secs() < GIVEN_UP_AFTER {
            return Some(why);
        }
        say(&format!("{}#{pull}: comment {}: given up: {why}", self.repository, comment.id));
        if let Err(trouble) = parties.api.react(&self.repository, comment.id, FAILED) {
            say(&format!("{}#{pull}: comment {}: {trouble}", self.repository, comment.id));
        }
        None
    }
}

/// The forge's own time.
fn time(api: &Api, repository: &Repository) -> Result<Timestamp, Trouble> {
    Ok(api.comments_since(repository, Timestamp::now())?.date.unwrap_or_else(Timestamp::now))
}

fn earlier(time: Timestamp) -> Timestamp {
    time.checked_sub(OVERLAP).unwrap_or(time)
}
