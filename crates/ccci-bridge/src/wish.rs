//! One wish: who asks, for which commit, and the build.

use std::collections::BTreeMap;

use ccci_core::config::forge::{Bridge, Forge, Repository, is_segment};
use ccci_core::weaken::{self, Protection};
use ccci_forge::api::{Api, Comment, NewStatus, Pull, State, is_full_id};
use ccci_forge::remote::{Trouble, one_line};
use jiff::Timestamp;

use crate::answer::{TAKEN, Thread, code, is_final};
use crate::approval::{self, Approval, short};
use crate::command::Wish;
use crate::drone::{Build, Drone};
use crate::ledger::{Claim, Ledger};
use crate::say;

/// So long after a comment the forge has to know which push led to the head.
const SETTLED_AFTER: i64 = 120;
/// What a forge shows of a description.
const DESCRIPTION: usize = 140;

/// Who has a say in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) api: &'a Api,
    pub(crate) drone: &'a Drone,
    pub(crate) forge: &'a Forge,
    pub(crate) bridge: &'a Bridge,
}

/// A wish, and where it was found.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) pull: u64,
    pub(crate) comment: &'a Comment,
    pub(crate) wish: Wish,
    /// The forge's time.
    pub(crate) now: Timestamp,
    /// Whether the thread was told already that nobody can be asked who is a member.
    pub(crate) said_unknown: bool,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is dealt with.
    Dealt,
    /// It is dealt with: nobody could be asked who is a member, which the thread was told.
    SaidUnknown,
    /// It is to be considered again, and why.
    Later(String),
}

impl From<Trouble> for Done {
    fn from(trouble: Trouble) -> Self {
        Self::Later(trouble.to_string())
    }
}

/// Whom the author of a change is to the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    Member,
    Stranger,
    Unknown,
}

impl Asked<'_> {
    /// Fulfils it, or says why not.
    pub(crate) fn consider(&self, parties: &Parties<'_>, ledger: &mut Ledger) -> Done {
        self.try_it(parties, ledger).unwrap_or_else(Done::from)
    }

    fn try_it(&self, parties: &Parties<'_>, ledger: &mut Ledger) -> Result<Done, Trouble> {
        let Parties { api, drone, forge, bridge } = parties;
        let (repository, number, id) = (self.repository, self.pull, self.comment.id);
        let thread = Thread { api, repository, pull: number, comment: id };
        let Some(user) = &self.comment.user else {
            say(&format!("{repository}#{number}: comment {id}: its author has no account any more, ignored"));
            return Ok(Done::Dealt);
        };
        let who = one_line(&user.login, 60);
        let subject = format!("{repository}#{number}: comment {id} of `{who}`");
        let organisation = bridge.organisation(repository);
        match membership(api, organisation, &user.login) {
            Ok(true) => {}
            Ok(false) if weaken::on(Protection::MembersOnly) => {
                say(&format!("{subject}: not a member of {organisation}, ignored"));
                return Ok(Done::Dealt);
            }
            Ok(false) => {}
            Err(trouble) if is_final(&trouble) => {
                let why = could_not_ask(organisation, &trouble);
                if self.said_unknown {
                    say(&format!("{subject}: {why}"));
                } else {
                    thread.refuse(&subject, &why)?;
                }
                return Ok(Done::SaidUnknown);
            }
            Err(trouble) => return Err(trouble),
        }
        let pull = match api.pull(repository, number) {
            Err(trouble) if is_final(&trouble) => return refused(&thread, &subject, &code(&trouble.to_string())),
            pull => pull?,
        };
        let mut parameters = match parameters(repository, number, &self.wish, &pull, &forge.url) {
            Ok(parameters) => parameters,
            Err(why) => return refused(&thread, &subject, &why),
        };
        match self.approval(api, &pull.head.sha)? {
            Approval::Given => {}
            Approval::Refused(why) => {
                let again = format!("{why}. Look at it, then ask again: `!testme {}`", short(&pull.head.sha));
                return refused(&thread, &subject, &again);
            }
            Approval::Unknown(why) if self.settles() => return Ok(Done::Later(why)),
            Approval::Unknown(why) => {
                let again = format!("{why}. Name it in full, to be sure: `!testme {}`", pull.head.sha);
                return refused(&thread, &subject, &again);
            }
        }
        let approved = approved(&who, &pull, author(api, organisation, &pull)?);
        parameters.insert("CCCI_APPROVAL", approved.clone());
        // The claim comes first: a bridge that dies here costs a build, one that lives twice starts none twice.
        ledger.claim(id, Claim { repository: repository.clone(), pull: number, commit: pull.head.sha.clone() });
        let claimed = api.react(repository, id, TAKEN);
        if !matches!(claimed, Ok(true)) && weaken::on(Protection::ClaimedOnce) {
            ledger.settle(id);
            match claimed {
                Err(trouble) if !is_final(&trouble) => return Err(trouble),
                Err(trouble) => say(&format!("{subject}: cannot be claimed: {trouble}")),
                Ok(_) => say(&format!("{subject}: taken already")),
            }
            return Ok(Done::Dealt);
        }
        let built = drone.build(&parameters);
        // Drone may have taken longer than the forge's patience.
        api.renew(forge);
        let why = match built {
            Ok(Some(build)) => {
                say(&format!("{subject}: build {} tests {}; {approved}", build.number, pull.head.sha));
                self.show_queued(parties, &pull, &build, &approved, &subject);
                None
            }
            Ok(None) => Some(format!("no pipeline in the {} takes `event: custom`", drone.pipeline())),
            Err(trouble) => Some(code(&trouble.to_string())),
        };
        let answered = why.map_or(Ok(()), |why| thread.refuse(&subject, &why));
        ledger.settle(id);
        if let Err(trouble) = answered {
            // It is claimed: another try would find it taken.
            say(&format!("{subject}: cannot be answered: {trouble}"));
        }
        Ok(Done::Dealt)
    }

    /// Whether the comment is for this head.
    fn approval(&self, api: &Api, head: &str) -> Result<Approval, Trouble> {
        if let Some(wanted) = &self.wish.commit {
            let named = approval::by_name(wanted, head);
            // The begin of an id can be made to fit in minutes, so it counts only for what was there to be seen.
            if named != Approval::Given || wanted.len() == head.len() {
                return Ok(named);
            }
        }
        match api.pushes(self.repository, self.pull) {
            Ok(pushes) => Ok(approval::by_time(self.comment, head, &pushes)),
            Err(trouble) if is_final(&trouble) => Ok(Approval::Unknown(format!(
                "the forge does not tell when the head was pushed ({})",
                code(&trouble.to_string())
            ))),
            Err(trouble) => Err(trouble),
        }
    }

    /// Whether the forge may still come to know it.
    fn settles(&self) -> bool {
        self.now.duration_since(self.comment.created_at).as_secs() < SETTLED_AFTER
    }

    /// Shows at the commit that a build is on its way, and who answers for it.
    fn show_queued(&self, parties: &Parties<'_>, pull: &Pull, build: &Build, approved: &str, subject: &str) {
        let quick = if self.wish.quick { "/quick" } else { "" };
        let status = NewStatus {
            state: State::Pending,
            context: &format!("{}{quick}", parties.forge.context),
            description: &one_line(&format!("{approved}; build {} is queued", build.number), DESCRIPTION),
            target_url: &parties.drone.page(build),
        };
        if let Err(trouble) = parties.api.add_status(self.repository, &pull.head.sha, &status) {
            say(&format!("{subject}: the commit does not show the build: {trouble}"));
        }
    }
}

fn refused(thread: &Thread<'_>, subject: &str, why: &str) -> Result<Done, Trouble> {
    thread.refuse(subject, why).map(|()| Done::Dealt)
}

/// Whether somebody may ask. A person's own repository has one member.
fn membership(api: &Api, organisation: &str, login: &str) -> Result<bool, Trouble> {
    if login == organisation { Ok(true) } else { api.is_member(organisation, login) }
}

/// Why nobody can be asked who is a member, and what to do.
pub(crate) fn could_not_ask(organisation: &str, trouble: &Trouble) -> String {
    let remedy = match (trouble.missing_scope(), trouble) {
        (Some(scope), _) => format!("the bridge's token lacks the scope `{}`", one_line(scope, 100)),
        (None, Trouble::Refused { status: 301..=308, .. }) => {
            format!("the user of the bridge's token is no member of {organisation} and is told of public members only")
        }
        (None, Trouble::Refused { status: 403, .. }) => {
            "the bridge's token may not ask: it needs the scope `read:organization`".to_owned()
        }
        (None, other) => code(&other.to_string()),
    };
    format!("the forge does not tell who is a member of {organisation}: {remedy}")
}

/// What the author is; a trouble that will not pass is no reason to hold up a member's wish.
fn author(api: &Api, organisation: &str, pull: &Pull) -> Result<Author, Trouble> {
    let Some(user) = &pull.user else { return Ok(Author::Unknown) };
    match membership(api, organisation, &user.login) {
        Ok(true) => Ok(Author::Member),
        Ok(false) => Ok(Author::Stranger),
        Err(trouble) if is_final(&trouble) => Ok(Author::Unknown),
        Err(trouble) => Err(trouble),
    }
}

/// Who answers for which commit, in a few words.
fn approved(who: &str, pull: &Pull, author: Author) -> String {
    let by = pull.user.as_ref().map(|user| user.login.as_str()).filter(|login| is_segment(login));
    let by = by.unwrap_or("somebody without an account");
    let commit = short(&pull.head.sha);
    match author {
        Author::Member => format!("asked for by {who}"),
        Author::Stranger => format!("{who} approved {commit} of {by}, who is no member"),
        Author::Unknown => format!("{who} approved {commit} of {by}"),
    }
}

/// The parameters of the build; `Err` is why there can be none.
fn parameters(
    repository: &Repository,
    number: u64,
    wish: &Wish,
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
    if !source.strip_prefix(&forge).is_some_and(|path| path.split('/').all(is_segment)) {
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
    use ccci_forge::api::{Head, HeadRepository, User};

    fn pull(state: &str, sha: &str, clone_url: &str) -> Pull {
        let repo = Some(HeadRepository { clone_url: clone_url.to_owned() });
        let user = Some(User { id: 3, login: "eve".to_owned() });
        Pull { state: state.to_owned(), user, head: Head { sha: sha.to_owned(), repo } }
    }

    fn asked(state: &str, sha: &str, clone_url: &str) -> Result<BTreeMap<&'static str, String>, String> {
        let (wish, pull) = (Wish { quick: false, commit: None }, pull(state, sha, clone_url));
        parameters(&"coop/hello".parse().unwrap(), 12, &wish, &pull, "https://git.example.org/")
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

    #[test]
    fn who_could_not_ask_says_what_is_missing() {
        let refused = |status, said: &str| Trouble::Refused {
            service: "the forge",
            url: "https://x".to_owned(),
            status,
            said: said.to_owned(),
        };
        for (status, said, says) in [
            (403, ": no, required=[read:organization], token scope=x", "lacks the scope `read:organization`"),
            (403, "", "needs the scope `read:organization`"),
            (303, "", "is no member of coop"),
            (302, "", "is no member of coop"),
            (401, ": bad token", "answered 401: bad token"),
        ] {
            let text = could_not_ask("coop", &refused(status, said));
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn a_strangers_change_names_who_approved_which_commit() {
        let pull = pull("open", &"4".repeat(40), "x");
        assert_eq!(approved("mallory", &pull, Author::Member), "asked for by mallory");
        let said = approved("mallory", &pull, Author::Stranger);
        assert_eq!(said, "mallory approved 4444444444 of eve, who is no member");
        assert_eq!(approved("mallory", &pull, Author::Unknown), "mallory approved 4444444444 of eve");
    }
}
