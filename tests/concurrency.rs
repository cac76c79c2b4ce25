//! Locks: runs of one domain exclude each other, runs of different ones do not.

use ccci_tests::host::Host;

#[test]
fn a_run_is_green_and_leaves_nothing() {
    let host = Host::new();
    let run = host.run().end().expect_clean(0);
    let results = run.results();
    assert_eq!(results["verdict"], "green");
    assert_eq!(results["deploy_count"]["counted"], 1);
    assert!(run.out().contains("RUN SUMMARY"));
}

#[test]
fn a_second_run_of_the_domain_waits_and_then_deploys_once() {
    let host = Host::new();
    let gate = host.gate("first");
    let _folder =
        host.folder("hello").script("test_install.sh", &format!("[ $CCCI_RUN_ID != r1 ] || {{ {}; }}", gate.pass()));
    let first = host.run().start();
    gate.reached();
    let second = host.run().start();
    second.says("another run of");
    second.waits_for(&host.app_lock());
    let log = second.log();
    assert!(log.contains(&format!("== app lock: another run of {} in flight — waiting ==", host.domain())), "{log}");
    assert!(log.contains(&format!("held by run r1 (pid {}, PR {}, phase install", first.keeper(), host.pr())), "{log}");
    gate.open();
    let first = first.end().expect(0);
    let second = second.end().expect_clean(0);
    for run in [&first, &second] {
        assert!(run.log().contains("deploy-count = 1 (expect 1)"));
    }
    assert!(second.log().contains(&format!("== app lock: {} acquired after", host.domain())));
    // The second touched nothing before the first had taken everything down.
    let end_of_first = first.events().last().unwrap()["at"].as_str().unwrap().to_owned();
    let locked =
        second.events().iter().find(|event| event["event"] == "locked").unwrap()["at"].as_str().unwrap().to_owned();
    assert!(end_of_first <= locked, "{end_of_first} {locked}");
}
