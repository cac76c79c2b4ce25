//! Watching one repository's comments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ccci_core::config::forge::{Bridge, Forge, Repository};
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use super::command::{self, Wish};
use super::drone::Drone;
use super::say;
use crate::forge::api::{Api, Comment, Pull};
use crate::forge::is_full_id;
use crate::remote::{Trouble, one_line};

/// Each look begins this long before the last one: what was being written then is not missed.
const OVERLAP: Duration = Duration::from_secs(600);
/// The reaction to a wish that was taken.
const TAKEN: &str = "eyes";
/// The reaction to one that could not be fulfilled.
const FAILED: &str = "confused";

/// Who has a say in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties<'a> {
    pub(super) api: &'a Api,
    pub(super) drone: &'a Drone,
    pub(super) forge: &'a Forge,
    pub(super) bridge: &'a Bridge,
}

/// A repository under watch.
#[derive(Debug)]
pub(super) struct Watch {
    repository: Repository,
    /// The forge's own clock at the first look, and at the last one that went through.
    times: Option<(Timestamp, Timestamp)>,
    /// The comments that are dealt with. A number each: a busy year has a few thousand.
    done: BTreeSet<u64>,
    /// The trouble that was said last, so that an outage is said once.
    trouble: Option<String>,
}

impl Watch {
    pub(super) fn new(repository: Repository) -> Self {
        Self { repository, times: None, done: BTreeSet::new(), trouble: None }
    }

    /// Looks once, and deals with what is new. A trouble is said and the next look tries again.
    pub(super) fn look(&mut self, parties: &Parties<'_>) {
        let looked = match self.times {
            None => self.begin(parties.api),
            Some(times) => self.go_on(times, parties),
        };
        let trouble = looked.err().map(|trouble| trouble.to_string());
        match (&trouble, &self.trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => say(&format!("{}: {now}", self.repository)),
            (None, Some(_)) => say(&format!("{}: it answers again", self.repository)),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// What is there at the beginning is none of ours. The forge's clock is asked for first: ours may differ.
    fn begin(&mut self, api: &Api) -> Result<(), Trouble> {
        let (_, now) = api.comments_since(&self.repository, Timestamp::now())?;
        let (before, _) = api.comments_since(&self.repository, earlier(now))?;
        self.done.extend(before.iter().map(|comment| comment.id));
        self.times = Some((now, now));
        say(&format!("{}: watching for `!testme` from {now} on", self.repository));
        Ok(())
    }

    fn go_on(&mut self, (first, last): (Timestamp, Timestamp), parties: &Parties<'_>) -> Result<(), Trouble> {
        let (comments, now) = parties.api.comments_since(&self.repository, earlier(last))?;
        for comment in comments {
            // An old one turns up when it is edited. An edit is no wish.
            if comment.created_at < earlier(first) || self.done.contains(&comment.id) {
                continue;
            }
            if let Some((wish, pull)) = command::parse(&comment.body).zip(command::pull_of(&comment.pull_request_url)) {
                self.consider(&comment, wish, pull, parties)?;
            }
            self.done.insert(comment.id);
        }
        self.times = Some((first, now));
        Ok(())
    }

    /// Fulfils a wish, or says why not. An error means that it is to be considered again.
    fn consider(&self, comment: &Comment, wish: Wish, number: u64, parties: &Parties<'_>) -> Result<(), Trouble> {
        let Parties { api, drone, forge, bridge } = parties;
        let (repository, id) = (&self.repository, comment.id);
        let who = comment.user.as_ref().map_or("", |user| user.login.as_str());
        let subject = format!("{repository}#{number}: comment {id} of `{}`", one_line(who, 60));
        let organisation = bridge.members_of.as_deref().unwrap_or(repository.owner());
        let member =
            if who == organisation { Some(true) } else { settled(&subject, api.is_member(organisation, who))? };
        if member != Some(true) && weaken::on(Protection::MembersOnly) {
            say(&format!("{subject}: not a member of {organisation}, ignored"));
            return Ok(());
        }
        let Some(pull) = settled(&subject, api.pull(repository, number))? else { return Ok(()) };
        let parameters = match parameters(repository, number, wish, &pull, &forge.url) {
            Ok(parameters) => parameters,
            Err(why) => {
                say(&format!("{subject}: {why}, ignored"));
                return Ok(());
            }
        };
        // The claim comes first: a bridge that dies here costs a build, one that lives twice starts none twice.
        let claimed = settled(&subject, api.react(repository, id, TAKEN))?;
        if claimed != Some(true) && weaken::on(Protection::ClaimedOnce) {
            say(&format!("{subject}: taken already, or not to be taken"));
            return Ok(());
        }
        match drone.build(&parameters, api.until()) {
            Ok(build) => say(&format!("{subject}: build {} tests {}", build.number, pull.head.sha)),
            Err(trouble) => {
                say(&format!("{subject}: {trouble}"));
                let _unseen = api.react(repository, id, FAILED);
            }
        }
        Ok(())
    }
}

/// An answer, or nothing where the forge said no: that is said here, and does not get better by asking again.
fn settled<T>(subject: &str, answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(trouble @ (Trouble::Refused { .. } | Trouble::Nonsense { .. })) => {
            say(&format!("{subject}: {trouble}"));
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

fn earlier(time: Timestamp) -> Timestamp {
    time.checked_sub(OVERLAP).unwrap_or(time)
}

/// The parameters of the build; `Err` is why there can be none.
fn parameters(
    repository: &Repository,
    number: u64,
    wish: Wish,
    pull: &Pull,
    forge: &str,
) -> Result<BTreeMap<&'static str, String>, String> {
    if pull.state != "open" {
        return Err(format!("the pull request is {}", one_line(&pull.state, 20)));
    }
    if !is_full_id(&pull.head.sha) {
        return Err("its head is no commit id".to_owned());
    }
    let source = pull.head.repo.as_ref().map(|repo| repo.clone_url.as_str()).ok_or("its fork is gone")?;
    let forge = format!("{}/", forge.trim_end_matches('/'));
    if !source.strip_prefix(&forge).is_some_and(|path| path.split('/').all(ccci_core::config::forge::is_segment)) {
        return Err(format!("its source is not below {forge}"));
    }
    let mut parameters = BTreeMap::from([
        ("RECIPE", repository.name().to_owned()),
        ("REF", pull.head.sha.clone()),
        ("PR", number.to_string()),
        ("SRC", source.to_owned()),
        ("CCCI_REPOSITORY", repository.to_string()),
    ]);
    if wish.quick {
        parameters.insert("CCCI_QUICK", "1".to_owned());
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::api::{Head, HeadRepository};

    fn asked(state: &str, sha: &str, clone_url: &str) -> Result<BTreeMap<&'static str, String>, String> {
        let repo = Some(HeadRepository { clone_url: clone_url.to_owned() });
        let pull = Pull { state: state.to_owned(), head: Head { sha: sha.to_owned(), repo } };
        parameters(&"coop/hello".parse().unwrap(), 12, Wish { quick: false }, &pull, "https://git.example.org/")
    }

    #[test]
    fn what_a_forge_says_becomes_a_build_only_if_it_can_be_nothing_else() {
        let (sha, url) = ("4".repeat(40), "https://git.example.org/eve/hello.git");
        let good = asked("open", &sha, url).unwrap();
        assert_eq!((good["RECIPE"].as_str(), good["PR"].as_str(), good["SRC"].as_str()), ("hello", "12", url));
        assert!(!good.contains_key("CCCI_QUICK"));
        for (state, sha, url, says) in [
            ("closed", sha.as_str(), url, "closed"),
            ("open", "main", url, "no commit id"),
            ("open", &"G".repeat(40), url, "no commit id"),
            ("open", &sha, "https://git.example.org.evil/eve/hello.git", "not below"),
            ("open", &sha, "https://git.example.org/../x", "not below"),
            ("open", &sha, "--upload-pack=evil", "not below"),
        ] {
            let why = asked(state, sha, url).unwrap_err();
            assert!(why.contains(says), "{state} {sha} {url}: {why}");
        }
    }
}
