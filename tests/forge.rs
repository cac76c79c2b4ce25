//! What a forge is told of a run, and what it may do meanwhile: nothing that changes the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ccci_tests::forge::{self, DRONE_TOKEN, Fault, Forge, ME, TOKEN};
use ccci_tests::host::{self, Host};
use ccci_tests::moment::Moment;
use ccci_tests::process;
use ccci_tests::step::Launch;
use nix::sys::signal::Signal;

/// A run of the recipe's present commit, as a CI asks for it; one deploy is enough here.
fn of_head(host: &Host) -> Launch<'_> {
    host.run().env("REF", &forge::head(host)).args(["--stages", "install"])
}

/// The states that were shown, in order.
fn shown(forge: &Forge) -> Vec<String> {
    forge.state().statuses.iter().filter_map(|status| status["state"].as_str().map(str::to_owned)).collect()
}

/// The texts of our comments.
fn comments(forge: &Forge) -> Vec<String> {
    forge.state().comments.iter().filter(|comment| comment.author == ME.0).map(|comment| comment.body.clone()).collect()
}

#[test]
fn a_run_shows_as_pending_and_then_as_what_it_came_to_in_one_comment() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "link = \"https://ci.example.org/runs/{run}/\"");
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).env("REF", &forge::head(&host)).args(["--stages", "install"]).start();
    let _known = step.keeper();
    held.reached(&step);
    forge
        .until("the beginning is told", |state| (state.statuses.len() == 1 && state.comments.len() == 1).then_some(()));
    assert!(comments(&forge)[0].contains("is being tested"), "{forge:?}");
    held.open();
    let ended = step.end().expect_clean(0);

    assert_eq!(shown(&forge), ["pending", "success"]);
    let results = ended.results();
    let state = forge.state();
    for status in &state.statuses {
        assert_eq!(status["sha"], results["commit"]);
        assert_eq!(status["context"], "cc-ci");
        assert_eq!(
            status["target_url"],
            format!("https://ci.example.org/runs/{}/", results["run_id"].as_str().unwrap())
        );
    }
    drop(state);
    let comments = comments(&forge);
    assert_eq!(comments.len(), 1, "updated in place: {comments:?}");
    assert!(
        comments[0].contains("✅ `hello`: green, level 1 of 5") && comments[0].contains("| pass |"),
        "{comments:?}"
    );
}

#[test]
fn the_pending_status_says_who_approved_which_commit() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "comment = false");
    let approval = "mallory approved 4444444444 of eve, who is no member";
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).env("REF", &forge::head(&host)).env("CCCI_APPROVAL", approval).start();
    let _known = step.keeper();
    held.reached(&step);
    forge.until("the beginning is told", |state| (state.statuses.len() == 1).then_some(()));
    let said = forge.state().statuses[0]["description"].clone();
    assert!(said.as_str().unwrap().starts_with(&format!("{approval}; run ")), "{said}");
    held.open();
    let _ended = step.end().expect_clean(0);
}

#[test]
fn red_is_a_failure_and_a_host_that_cannot_is_an_error() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let _red = host.folder("hello").script("test_install.sh", "echo '```@everyone'; exit 1");
    let _ended = of_head(&host).end().expect_clean(1);
    assert_eq!(shown(&forge).last().unwrap(), "failure");

    host.program("git", "exit 1");
    let _ended = of_head(&host).end().expect_clean(69);
    assert_eq!(shown(&forge).last().unwrap(), "error");
    let comments = comments(&forge);
    assert_eq!(comments.len(), 1, "one comment for all runs of a pull request: {comments:?}");
    assert!(comments[0].contains("⚠️ `hello`: host"), "{comments:?}");
}

#[test]
fn the_doctor_says_whether_the_token_works() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let doctor = || {
        let findings = host.command(&["cc-ci-run", "doctor", "--json"]).end().json();
        findings.as_array().unwrap().iter().find(|finding| finding["name"] == "forge").unwrap().clone()
    };
    let seen = doctor();
    assert!(seen["level"] == "ok" && seen["seen"].as_str().unwrap().ends_with("as ci"), "{seen}");
    let _another = forge::secret(&host, "forge-token", "another-token");
    let seen = doctor();
    assert!(seen["level"] == "warn" && seen["seen"].as_str().unwrap().contains("answered 401"), "{seen}");
}

#[test]
fn without_a_forge_or_without_a_pull_request_nothing_is_told() {
    let host = Host::new();
    let forge = Forge::new();
    let _untold = of_head(&host).end().expect_clean(0);
    forge.enlist(&host, "");
    let _by_hand = of_head(&host).env("PR", "0").end().expect_clean(0);
    let _a_guard = host.guard("db", &[], "true").end().expect_clean(0);
    assert_eq!(forge.state().requests, [] as [&str; 0]);
}

#[test]
fn what_fails_for_now_is_tried_again_as_the_forge_wishes() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let status = "POST /api/v1/repos/coop/hello/statuses";
    let wait = Fault::Answer { status: 429, header: Some(("Retry-After", "1".to_owned())), body: String::new() };
    let _told = of_head(&host).env("REF", "").end().expect_clean(0);
    assert_eq!(shown(&forge), ["success"], "a ref that is no commit id is told of at the end alone");
    for fault in [Fault::status(502), wait, Fault::AnswerLost] {
        forge.fault(status, fault);
    }
    let ended = of_head(&host).env("REF", "").end().expect_clean(0);
    assert_eq!(shown(&forge).last().unwrap(), "success");
    let tries = forge.state().requests.iter().filter(|line| line.starts_with(status)).count();
    assert_eq!(tries, 1 + 4);
    assert!(!ended.out().contains("!!"), "{}", ended.out());
}

#[test]
fn a_comment_whose_answer_got_lost_is_not_written_twice() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    forge.fault(&format!("POST /api/v1/repos/coop/hello/issues/{}/comments", host.pr()), Fault::AnswerLost);
    let _ended = of_head(&host).env("REF", "").end().expect_clean(0);
    assert_eq!(comments(&forge).len(), 1, "{forge:?}");
    assert!(comments(&forge)[0].contains("green"), "{forge:?}");
}

#[test]
fn a_comment_of_somebody_else_with_our_marker_is_left_alone() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let bait = "<!-- cc-ci-run report cc-ci 2020-01-01T00:00:00Z -->\nmine";
    forge.comment(host.pr(), (99, "eve"), bait);
    let _ended = of_head(&host).end().expect_clean(0);
    assert_eq!(forge.state().comments[0].body, bait);
    assert_eq!(comments(&forge).len(), 1, "{forge:?}");
}

#[test]
fn what_a_later_run_told_is_not_replaced_by_an_earlier_one() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let later = "<!-- cc-ci-run report cc-ci 2999-01-01T00:00:00Z -->\nlater";
    forge.comment(host.pr(), ME, later);
    let _ended = of_head(&host).end().expect_clean(0);
    assert_eq!(comments(&forge), [later]);
    assert_eq!(shown(&forge).last().unwrap(), "success", "a commit has its own status all the same");
}

#[test]
fn a_forge_that_is_down_changes_no_verdict() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "patience = \"300ms\"");
    drop(forge);
    let ended = of_head(&host).end().expect_clean(0);
    let said = ended.out();
    let after_the_summary = said.split("RUN SUMMARY").nth(1).unwrap();
    assert!(after_the_summary.contains("!! the pull request does not show this result: the forge at"), "{said}");
    assert_eq!(ended.results()["verdict"], "green");
}

#[test]
fn the_lock_is_free_before_the_forge_is_told_of_the_end() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "comment = false");
    forge.fault("POST /api/v1/repos/coop/hello/statuses", Fault::Held);
    let step = of_head(&host).env("REF", "").start();
    let _known = step.keeper();
    forge.until("the end is being told", |state| (state.requests.len() == 1).then_some(()));
    assert_eq!(host.kernel_on(&host.app_lock()), [], "somebody could wait for a forge");
    assert_eq!(host.service("app"), [] as [i32; 0], "and the app is gone");
    forge.release();
    let _ended = step.end().expect_clean(0);
}

#[test]
fn a_cancel_while_the_beginning_is_told_is_not_kept_waiting_and_is_told_last() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "comment = false");
    forge.fault("POST /api/v1/repos/coop/hello/statuses", Fault::Held);
    let held = Moment::Install.prepare(&host);
    let mut step = held.launch(&host).env("REF", &forge::head(&host)).start();
    let _known = (step.keeper(), step.run_dir());
    held.reached(&step);
    forge.until("the beginning is being told", |state| (state.requests.len() == 1).then_some(()));
    step.cancel();
    let ended = step.keeper_end().expect_clean(143);
    assert_eq!(shown(&forge), ["error"], "the beginning was called off: {forge:?}");
    assert!(ended.results()["reason"].as_str().unwrap().contains("CI step cancelled"));
}

#[test]
fn a_run_whose_keeper_was_killed_is_told_of_by_its_reaper() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).env("REF", &forge::head(&host)).start();
    let _known = (step.keeper(), step.run_dir());
    held.reached(&step);
    forge.until("the beginning is told", |state| (!state.comments.is_empty()).then_some(()));
    let worker = step.part("worker");
    process::signal(step.keeper(), Signal::SIGKILL);
    assert!(process::wait_gone(worker, host::limit()), "the reaper does not finish");
    let _ended = step.end().expect_clean(137);
    assert_eq!(shown(&forge), ["pending", "error"]);
    assert!(comments(&forge)[0].contains("the keeper was killed"), "{forge:?}");
}

#[test]
fn a_run_that_never_got_its_lock_is_told_of_too() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let held = Moment::Install.prepare(&host);
    // The same ref, so the same domain.
    let mut first = held.launch(&host).env("REF", &forge::head(&host)).start();
    let _known = (first.keeper(), first.run_dir());
    held.reached(&first);
    let second = of_head(&host).args(["--on-conflict", "fail"]).end().expect(75);
    assert_eq!(shown(&forge).last().unwrap(), "error");
    assert!(second.results()["reason"].as_str().unwrap().contains("is held by"));
    first.cancel();
    let _ended = first.keeper_end().expect_clean(143);
}

#[test]
fn hostile_answers_cost_a_line_in_the_log_and_nothing_else() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "patience = \"5s\"");
    let elsewhere = Forge::new();
    let status = "POST /api/v1/repos/coop/hello/statuses";
    let answer = |status, body: &str| Fault::Answer { status, header: None, body: body.to_owned() };
    let redirect = format!("{}/api/v1/user", elsewhere.url());
    for (request, fault, says) in [
        (
            status,
            answer(403, &format!("{{\"message\":\"no\\nway {TOKEN}\"}}")),
            "answered 403: no way ***; does the token",
        ),
        (
            status,
            Fault::Answer { status: 302, header: Some(("Location", redirect)), body: String::new() },
            "redirects are not",
        ),
        ("GET /api/v1/user", answer(200, "<html>"), "cannot be understood"),
        ("GET /api/v1/user", answer(200, &"x".repeat(5 * 1024 * 1024)), "longer than 4 MiB"),
        ("GET /api/v1/repos/coop/hello/issues", answer(200, "[{\"id\":\"one\"}]"), "cannot be understood"),
    ] {
        // For the beginning, which may be called off before it gets there, and for the end; a list is asked for twice.
        for _ in 0..4 {
            forge.fault(request, fault.clone());
        }
        let ended = of_head(&host).env("REF", "").end().expect_clean(0);
        let line = ended.log().lines().find(|line| line.contains("!! ")).unwrap_or_default().to_owned();
        assert!(line.contains(says), "{says}: {}", ended.log());
        forge.forget_faults();
        assert!(!ended.log().contains(TOKEN) && !ended.out().contains(TOKEN));
    }
    assert_eq!(elsewhere.state().requests, [] as [&str; 0], "the token goes to nobody else");
}

#[test]
fn the_token_is_in_no_file_no_argument_and_no_output_and_not_everybodys() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).env("REF", &forge::head(&host)).env("CCCI_LOG", "trace").start();
    let _known = (step.keeper(), step.run_dir());
    held.reached(&step);
    for process in host.processes() {
        let seen = process.args.iter().chain(&process.environ).any(|text| text.contains(TOKEN));
        assert!(!seen, "{process}");
    }
    held.open();
    let ended = step.end().expect_clean(0);
    let dir = ended.run_dir.clone().unwrap();
    for name in host::list(&dir) {
        let text = fs::read(dir.join(&name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(TOKEN), "{name}");
    }
    assert!(!(ended.out() + &ended.err()).contains(TOKEN));
    assert!(forge.state().bodies.iter().all(|body| !body.contains(TOKEN) && !body.contains(DRONE_TOKEN)));

    let told = forge.state().requests.len();
    let _plain = host.folder("hello");
    fs::set_permissions(host.path("forge-token"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = of_head(&host).end().expect_clean(0);
    assert!(ended.log().contains("chmod 0600"), "{}", ended.log());
    assert_eq!(forge.state().requests.len(), told);
}
