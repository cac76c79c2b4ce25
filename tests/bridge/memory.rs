//! What a restart, a deleted account and a long list cost: nothing.

use std::os::unix::fs::PermissionsExt as _;

use ccci_tests::forge::{Fault, Forge, Gone, MEMBER};
use ccci_tests::host::{self, Host};
use ccci_tests::process;
use nix::sys::signal::Signal;

use crate::{EVE, NEVER, answers, bridge, built, enlist, refused, start, state_dir, stop, two_looks};

#[test]
fn a_wish_of_the_time_between_two_bridges_is_found_by_the_second() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let before = forge.comment(12, MEMBER, "!testme");
    let (step, pid) = start(&host);
    let first = forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    two_looks(&forge);
    let _log = stop(step, pid);
    let gap = forge.comment(12, MEMBER, "!testme");
    let (step, pid) = start(&host);
    built(&forge, 2);
    two_looks(&forge);
    let _log = stop(step, pid);
    // Also without a gap, and after an end that it was not told of.
    let (step, pid) = start(&host);
    process::signal(pid, Signal::SIGKILL);
    let _ended = step.end();
    let (step, pid) = start(&host);
    two_looks(&forge);
    let _log = stop(step, pid);
    let state = forge.state();
    assert_eq!(state.builds.len(), 2, "each is started once");
    let taken: Vec<_> = state.reactions.iter().cloned().collect();
    assert_eq!(taken, [format!("{first}:eyes"), format!("{gap}:eyes")], "{before} was there before the first");
}

#[test]
fn what_it_has_seen_and_cannot_be_read_any_more_is_looked_for_again() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    let first = forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let _log = stop(step, pid);
    let seen = state_dir(&host).join("seen.json");
    let half = std::fs::read(&seen).unwrap();
    std::fs::write(&seen, &half[..half.len() / 2]).unwrap();
    let gap = forge.comment(12, MEMBER, "!testme");
    let (step, pid) = start(&host);
    built(&forge, 2);
    two_looks(&forge);
    let log = stop(step, pid);
    assert!(log.contains("and the bridge looks back") && log.contains("taken already"), "{log}");
    assert!(forge.state().reactions.contains(&format!("{gap}:eyes")));
    assert!(!forge.state().reactions.contains(&format!("{first}:confused")));
}

#[test]
fn a_bridge_that_is_killed_while_it_asks_for_a_build_owns_up_at_its_next_start() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    forge.fault("POST /api/repos/coop/ci/builds", Fault::Held);
    let asked = forge.comment(12, MEMBER, "!testme");
    forge.until("the build is asked for", |state| {
        state.requests.iter().any(|line| line.starts_with("POST /api/repos/coop/ci/builds")).then_some(())
    });
    process::signal(pid, Signal::SIGKILL);
    let _ended = step.end();
    let (step, pid) = start(&host);
    refused(&forge, asked);
    two_looks(&forge);
    let _log = stop(step, pid);
    let said = answers(&forge);
    assert!(said.len() == 1 && said[0].contains("does not know whether there is one"), "{said:?}");
    let (step, pid) = start(&host);
    let log = stop(step, pid);
    assert!(!log.contains("does not know whether"), "once: {log}");
}

#[test]
fn who_is_deleted_and_what_is_null_hide_no_other_comment() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    for gone in [Gone::Null, Gone::Ghost, Gone::Entry] {
        let mut state = forge.state();
        let id = state.add(12, EVE, "!testme");
        state.comment(id).gone = Some(gone);
    }
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    two_looks(&forge);
    let log = stop(step, pid);
    assert_eq!(log.matches("has no account any more, ignored").count(), 2, "{log}");
    assert_eq!(forge.state().builds.len(), 1);
}

#[test]
fn a_thousand_comments_and_long_ones_hide_no_other() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    {
        let mut state = forge.state();
        for number in 0..1200 {
            state.add(12, EVE, &format!("comment {number}"));
        }
        // Together too long for an answer, and one by itself.
        for _ in 0..5 {
            state.add(12, EVE, &"x".repeat(1024 * 1024));
        }
        state.add(12, EVE, &"y".repeat(5 * 1024 * 1024));
        state.add(12, MEMBER, "!testme");
    }
    // Its timeline is as long.
    built(&forge, 1);
    let log = stop(step, pid);
    assert!(log.contains("an entry of more than 4 MiB"), "{log}");
}

#[test]
fn a_pull_request_that_the_forge_cannot_tell_of_holds_up_no_other() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    forge.push(13, &"5".repeat(40), true);
    // It would be tried again for the forge's whole patience, and then at each look.
    for _ in 0..4 {
        forge.fault(
            "GET /api/v1/repos/coop/hello/pulls/12",
            Fault::Answer { status: 503, header: Some(("Retry-After", "60".to_owned())), body: String::new() },
        );
    }
    {
        let mut state = forge.state();
        state.add(12, MEMBER, "!testme");
        state.add(13, MEMBER, "!testme");
    }
    built(&forge, 2);
    let of = |number: usize| forge.state().builds[number]["PR"].clone();
    assert_eq!((of(0), of(1)), ("13".to_owned(), "12".to_owned()));
    let _log = stop(step, pid);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_said_at_the_start() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, NEVER, "");
    std::fs::create_dir(state_dir(&host)).unwrap();
    std::fs::set_permissions(state_dir(&host), std::fs::Permissions::from_mode(0o500)).unwrap();
    let ended = bridge(&host).under(&host::NO_PRIVILEGES).end().expect_clean(2);
    assert!(ended.err().contains("set bridge.state_dir"), "{}", ended.err());
    assert_eq!(forge.state().requests, [] as [&str; 0]);
}
