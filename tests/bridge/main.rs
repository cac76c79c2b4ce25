//! From a comment to a build: who may ask, what is asked for, and that it is asked for once.

#![expect(clippy::unwrap_used, reason = "a client that cannot do its work fails the test")]

mod approval;
mod listener;
mod memory;

use std::path::PathBuf;

use ccci_tests::forge::{DRONE_TOKEN, Fault, Forge, MEMBER, ORG, REPOSITORY, State, TOKEN, secret};
use ccci_tests::host::{self, Host};
use ccci_tests::process::{self, Process};
use ccci_tests::step::{Launch, Step};
use nix::sys::signal::Signal;

const EVE: (u64, &str) = (99, "eve");
/// A poll that never comes by itself in a test.
const NEVER: &str = "1h";

/// The settings of a bridge, and a pull request 12.
fn enlist(host: &Host, forge: &Forge, every: &str, more: &str) {
    let token = secret(host, "drone-token", DRONE_TOKEN);
    forge.push(12, &"4".repeat(40), true);
    forge.enlist(
        host,
        &format!(
            "[bridge]\nrepositories = [\"{REPOSITORY}\"]\nevery = \"{every}\"\nstate_dir = \"{}\"\n\
             [bridge.drone]\nurl = \"{}\"\ntoken_file = \"{}\"\nrepository = \"{ORG}/ci\"\nbranch = \"release/1\"\n{more}",
            state_dir(host).display(),
            forge.url(),
            token.display()
        ),
    );
}

/// How often somebody looked for comments: a look begins with the first page.
fn looks(state: &State) -> usize {
    let first = |line: &&String| line.contains("/issues/comments?") && line.ends_with("&page=1");
    state.requests.iter().filter(first).count()
}

fn state_dir(host: &Host) -> PathBuf {
    host.path("bridge")
}

fn bridge(host: &Host) -> Launch<'_> {
    host.command(&["cc-ci-bridge"])
}

/// The process that a bridge is, also one that was called by its earlier name.
fn pid_of(host: &Host, step: &Step<'_>) -> i32 {
    let shell = step.shell();
    host::until("the bridge starts", || {
        let own = |process: &Process| process.parent == shell && process.name.starts_with("cc-ci-");
        host.processes().into_iter().find(own).map(|process| process.pid)
    })
}

/// A bridge that watches, and the process that it is.
fn start(host: &Host) -> (Step<'_>, i32) {
    watching(host, bridge(host).start())
}

fn watching<'host>(host: &'host Host, step: Step<'host>) -> (Step<'host>, i32) {
    let pid = pid_of(host, &step);
    host::until("the bridge watches", || step.err().contains("watching for").then_some(()));
    (step, pid)
}

fn stop(step: Step<'_>, pid: i32) -> String {
    process::signal(pid, Signal::SIGTERM);
    step.end().expect_clean(143).err()
}

fn built(forge: &Forge, count: usize) {
    forge.until("the builds are started", |state| (state.builds.len() >= count).then_some(()));
    assert_eq!(forge.state().builds.len(), count);
}

/// Waits until the bridge has looked twice more: what it had to do by then is done.
fn two_looks(forge: &Forge) {
    let before = looks(&forge.state());
    forge.until("the bridge looks again", |state| (looks(state) >= before + 2).then_some(()));
}

#[test]
fn a_members_wish_becomes_one_build_of_the_pull_requests_head() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    forge.comment(12, MEMBER, "!testme");
    let (step, pid) = start(&host);
    assert_eq!(forge.state().builds.len(), 0, "what was there before is none of it");

    let wish = forge.comment(12, MEMBER, "!testme\n\nthank you");
    built(&forge, 1);
    let quick = forge.comment(12, MEMBER, "!testme --quick");
    built(&forge, 2);
    for (pull, who, body) in
        [(12, EVE, "!testme"), (12, MEMBER, "I would say !testme"), (0, MEMBER, "!testme"), (13, MEMBER, "!testme")]
    {
        forge.comment(pull, who, body);
    }
    two_looks(&forge);
    two_looks(&forge);
    let log = stop(step, pid);

    let state = forge.state();
    let [full, other] = state.builds.as_slice() else { panic!("{:?}", state.builds) };
    let clone_url = format!("{}/fork/hello.git", forge.url());
    let wanted = [
        ("RECIPE", "hello"),
        ("PR", "12"),
        ("REF", &"4".repeat(40)),
        ("SRC", &clone_url),
        ("CCCI_REPOSITORY", REPOSITORY),
        ("branch", "release/1"),
    ];
    for (key, value) in wanted {
        assert_eq!((full[key].as_str(), other[key].as_str()), (value, value), "{key}");
    }
    assert_eq!((full.get("CCCI_QUICK"), other["CCCI_QUICK"].as_str()), (None, "1"));
    let reactions: Vec<_> = state.reactions.iter().cloned().collect();
    assert_eq!(reactions[..2], [format!("{wish}:eyes"), format!("{quick}:eyes")]);
    assert!(reactions.len() == 3 && reactions[2].ends_with(":confused"), "there is no pull request 13: {reactions:?}");
    assert!(log.contains("`eve`: not a member of coop, ignored"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains(DRONE_TOKEN), "{log}");
}

#[test]
fn a_wish_that_another_bridge_took_is_left_to_it() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (one, one_pid) = start(&host);
    let (two, two_pid) = start(&host);
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let claims = |state: &State| state.requests.iter().filter(|line| line.contains("/reactions")).count();
    forge.until("both wanted it", |state| (claims(state) == 2).then_some(()));
    process::signal(one_pid, Signal::SIGTERM);
    let logs = one.end().expect(143).err() + &stop(two, two_pid);
    assert!(logs.contains("taken already"), "{logs}");
    assert_eq!(forge.state().builds.len(), 1);
}

#[test]
fn a_forge_that_is_down_is_said_once_and_its_wishes_are_fulfilled_later() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    // What is refused ends a look at once; what fails for now it would try again, for 20 s.
    for _ in 0..3 {
        forge.fault("GET /api/v1/repos/coop/hello/issues/comments", Fault::status(403));
    }
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let log = stop(step, pid);
    assert_eq!(log.matches("answered 403").count(), 1, "{log}");
    assert_eq!(log.matches("it answers again").count(), 1, "{log}");
}

#[test]
fn a_build_that_drone_refuses_or_whose_answer_got_lost_is_not_asked_for_again() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    let build = "POST /api/repos/coop/ci/builds";
    forge.fault(build, Fault::status(404));
    let refused = forge.comment(12, MEMBER, "!testme");
    let confused = |id: u64| move |state: &State| state.reactions.contains(&format!("{id}:confused")).then_some(());
    forge.until("the refusal is shown", confused(refused));
    forge.fault(build, Fault::AnswerLost);
    let lost = forge.comment(12, MEMBER, "!testme");
    forge.until("the loss is shown", confused(lost));
    two_looks(&forge);
    let log = stop(step, pid);
    assert_eq!(forge.state().requests.iter().filter(|line| line.starts_with(build)).count(), 2, "{log}");
    assert_eq!(forge.state().builds.len(), 1, "the one whose answer got lost");
}

#[test]
fn what_starts_nothing_is_answered_once_and_holds_nobody_up() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = start(&host);
    let (sha, own) = ("4".repeat(40), format!("{}/fork/hello.git", forge.url()));
    let pulls =
        [("closed", sha.as_str(), own.as_str()), ("open", "main", &own), ("open", &sha, "https://evil.example/x.git")];
    for (number, (state, sha, clone_url)) in (20..).zip(pulls) {
        forge.state().pulls.insert(number, (state.to_owned(), sha.to_owned(), clone_url.to_owned()));
        let asked = forge.comment(number, MEMBER, "!testme");
        refused(&forge, asked);
    }
    let nonsense = Fault::Answer { status: 200, header: None, body: "<html>".to_owned() };
    for (request, fault) in [
        ("GET /api/v1/repos/coop/hello/pulls", nonsense),
        ("POST /api/v1/repos/coop/hello/issues/comments", Fault::status(403)),
    ] {
        forge.fault(request, fault);
        forge.comment(12, MEMBER, "!testme");
        two_looks(&forge);
    }
    forge.state().no_build = true;
    let asked = forge.comment(12, MEMBER, "!testme");
    refused(&forge, asked);
    forge.state().no_build = false;
    assert_eq!(forge.state().builds.len(), 0);
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let log = stop(step, pid);
    for why in ["is closed", "no commit id", "not below", "cannot be understood", "cannot be claimed", "answered 403"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    let said = answers(&forge);
    let whys = [
        "is closed",
        "no commit id",
        "not below",
        "cannot be understood",
        "no pipeline in the `.drone.yml` of coop/ci",
    ];
    assert_eq!(said.len(), whys.len(), "each once: {said:?}");
    for (why, said) in whys.iter().zip(&said) {
        assert!(said.contains(why), "{why}: {said}");
    }
}

/// What the bridge answered, in order.
fn answers(forge: &Forge) -> Vec<String> {
    let state = forge.state();
    let ours = state.comments.iter().filter(|comment| comment.body.starts_with("<!-- cc-ci-bridge -->"));
    ours.map(|comment| comment.body.clone()).collect()
}

/// Waits until a comment carries the reaction of what starts nothing; the answer follows it.
fn refused(forge: &Forge, comment: u64) {
    forge.until("the comment is refused", |state| {
        state.reactions.contains(&format!("{comment}:confused")).then_some(())
    });
}

#[test]
fn a_bridge_that_is_not_configured_or_whose_secret_everybody_reads_does_not_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::new();
    let ended = bridge(&host).end().expect_clean(2);
    assert!(ended.err().contains("no [bridge]"), "{}", ended.err());
    let forge = Forge::new();
    enlist(&host, &forge, NEVER, "");
    std::fs::set_permissions(host.path("drone-token"), std::fs::Permissions::from_mode(0o604)).unwrap();
    let ended = bridge(&host).end().expect_clean(2);
    assert!(ended.err().contains("chmod 0600"), "{}", ended.err());
}

#[test]
fn the_name_by_which_units_called_it_before_leads_to_it() {
    let host = Host::new();
    let forge = Forge::new();
    enlist(&host, &forge, "20ms", "");
    let (step, pid) = watching(&host, host.command(&["cc-ci-run", "bridge"]).start());
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let _log = stop(step, pid);
}
