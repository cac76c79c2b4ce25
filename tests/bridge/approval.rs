//! Who may ask, for which commit, and who is told: a comment approves what could be seen when it was written.

use ccci_tests::forge::{Fault, Forge, ME, MEMBER, ORG};
use ccci_tests::host::{self, Host};

use crate::{EVE, answers, built, enlist, refused, start, stop, two_looks};

/// The reference of the last build.
fn tested(forge: &Forge) -> String {
    forge.state().builds.last().unwrap()["REF"].clone()
}

fn answered(forge: &Forge, count: usize) -> String {
    host::until("the answer is there", || (answers(forge).len() >= count).then_some(()));
    let said = answers(forge);
    assert_eq!(said.len(), count, "{said:?}");
    said.last().unwrap().clone()
}

#[test]
fn a_head_that_was_pushed_after_the_comment_is_not_tested() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    let evil = "e".repeat(40);
    // Both before the bridge looks again.
    let asked = {
        let url = format!("{}/fork/hello.git", forge.url());
        let mut state = forge.state();
        let asked = state.add(12, MEMBER, "!testme");
        state.pulls.insert(12, ("open".to_owned(), evil.clone(), url));
        state.pushed(12, &evil);
        asked
    };
    refused(&forge, asked);
    let said = answered(&forge, 1);
    assert!(
        said.contains("`eeeeeeeeee` was pushed after the comment") && said.contains("`!testme eeeeeeeeee`"),
        "{said}"
    );
    two_looks(&forge);
    assert_eq!(forge.state().builds.len(), 0);
    // Now it can be seen.
    forge.comment(12, MEMBER, "!testme eeeeeeeeee");
    built(&forge, 1);
    assert_eq!(tested(&forge), evil);
    let _log = stop(step, pid);
}

#[test]
fn a_head_whose_push_the_forge_has_not_told_of_yet_waits_until_it_has() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    let fresh = "f".repeat(40);
    forge.push(12, &fresh, false);
    let asked = forge.comment(12, MEMBER, "!testme");
    host::until("the bridge waits", || step.err().contains("does not tell when `ffffffffff` was pushed").then_some(()));
    two_looks(&forge);
    assert_eq!(forge.state().builds.len(), 0);
    forge.state().pushed(12, &fresh);
    refused(&forge, asked);
    assert!(answered(&forge, 1).contains("was pushed after the comment"));
    // Its id in full is the commit itself, whenever it was pushed; one that only begins like it is not.
    let (another, state) = (format!("{}{}", "f".repeat(10), "0".repeat(30)), &forge);
    let asked = {
        let mut state = state.state();
        let asked = state.add(12, MEMBER, "!testme ffffffffff");
        let url = format!("{}/fork/hello.git", forge.url());
        state.pulls.insert(12, ("open".to_owned(), another.clone(), url));
        state.pushed(12, &another);
        asked
    };
    refused(&forge, asked);
    let asked = forge.comment(12, MEMBER, &format!("!testme {fresh}"));
    refused(&forge, asked);
    assert!(answered(&forge, 3).contains("head is `ffffffffff`"));
    assert_eq!(forge.state().builds.len(), 0);
    forge.comment(12, MEMBER, &format!("!testme {another} --quick"));
    built(&forge, 1);
    assert_eq!(tested(&forge), another);
    let _log = stop(step, pid);
}

#[test]
fn a_forge_that_does_not_tell_of_pushes_needs_the_commit_by_name() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    for _ in 0..50 {
        forge.fault("GET /api/v1/repos/coop/hello/issues/12/timeline", Fault::status(404));
    }
    forge.comment(12, MEMBER, "!testme");
    host::until("the bridge waits", || step.err().contains("does not tell when the head was pushed").then_some(()));
    // One that has waited long enough for the forge to know is answered.
    let asked = {
        let mut state = forge.state();
        let asked = state.add(12, MEMBER, "!testme");
        state.comment(asked).backdate(300);
        asked
    };
    refused(&forge, asked);
    let named = format!("!testme {}", "4".repeat(40));
    assert!(answered(&forge, 1).contains(&format!("`{named}`")));
    assert_eq!(forge.state().builds.len(), 0);
    forge.comment(12, MEMBER, &named);
    built(&forge, 1);
    let _log = stop(step, pid);
}

#[test]
fn a_strangers_change_shows_who_approved_which_commit() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    forge.comment(12, MEMBER, "!testme");
    let shown = |count| {
        forge.until("the commit shows it", |state| (state.statuses.len() >= count).then_some(()));
        forge.state().statuses.last().unwrap().clone()
    };
    assert_eq!(shown(1)["description"], "asked for by mallory; build 1 is queued");
    forge.state().author = Some((EVE.0, EVE.1.to_owned()));
    forge.comment(12, MEMBER, "!testme --quick");
    let status = shown(2);
    assert_eq!(status["description"], "mallory approved 4444444444 of eve, who is no member; build 2 is queued");
    assert_eq!((status["state"].as_str(), status["context"].as_str()), (Some("pending"), Some("cc-ci/quick")));
    assert_eq!(status["sha"], "4".repeat(40));
    assert!(status["target_url"].as_str().unwrap().ends_with("/coop/ci/2"), "{status}");
    let approvals: Vec<_> = forge.state().builds.iter().map(|build| build["CCCI_APPROVAL"].clone()).collect();
    assert_eq!(approvals, ["asked for by mallory", "mallory approved 4444444444 of eve, who is no member"]);
    let _log = stop(step, pid);
}

#[test]
fn who_cannot_be_asked_about_is_no_stranger_and_the_thread_learns_what_is_missing() {
    let members = format!("GET /api/v1/orgs/{ORG}/members/{}", MEMBER.1);
    let scope = "{\"message\":\"token does not have at least one of required scope(s), required=[read:organization]\"}";
    for (fault, says) in [
        (Fault::Answer { status: 403, header: None, body: scope.to_owned() }, "lacks the scope `read:organization`"),
        (Fault::status(303), "is no member of coop and is told of public members only"),
        (Fault::status(302), "is no member of coop and is told of public members only"),
        (Fault::status(200), "status 200 for a membership"),
    ] {
        let host = Host::new();
        let forge = Forge::new();
        enlist(&host, &forge, "20ms", "");
        let (step, pid) = start(&host);
        for _ in 0..2 {
            forge.fault(&members, fault.clone());
            let asked = forge.comment(12, MEMBER, "!testme");
            if answers(&forge).is_empty() {
                refused(&forge, asked);
            }
            two_looks(&forge);
        }
        assert!(answered(&forge, 1).contains(says), "said once in a thread: {:?}", answers(&forge));
        assert_eq!(forge.state().builds.len(), 0);
        forge.comment(12, MEMBER, "!testme");
        built(&forge, 1);
        let log = stop(step, pid);
        assert!(log.matches(says).count() == 2 && !log.contains("not a member of coop, ignored"), "{log}");
    }
}

#[test]
fn a_token_that_cannot_ask_about_members_is_said_at_the_start() {
    for (status, says) in
        [(404, "!! the token's user ci is no member of coop"), (403, "needs the scope `read:organization`")]
    {
        let host = Host::new();
        let forge = Forge::new();
        enlist(&host, &forge, "20ms", "");
        forge.fault(&format!("GET /api/v1/orgs/{ORG}/members/{}", ME.1), Fault::status(status));
        let (step, pid) = start(&host);
        let log = stop(step, pid);
        assert!(log.contains(says), "{log}");
    }
}
