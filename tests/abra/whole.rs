//! The whole way by abra, green.

use ccci_core::process::Job;
use ccci_tests::abra::AbraHost;
use ccci_tests::binaries;
use ccci_tests::swarm::{RECIPE, compose};

/// Copies the example's test folder onto the host.
fn example_folder(abra: &AbraHost) -> ccci_tests::folder::Folder {
    let folder = abra.swarm.host.folder("hello");
    let example = binaries::workspace().join("tests/recipes/hello");
    let copy = Job::new("cp").args(["-R".as_ref(), example.join(".").as_os_str(), folder.path().as_os_str()]);
    copy.run_ok(&mut |_| {}).unwrap();
    folder
}

/// Whether a call is one that cc-ci must not rely on.
fn is_forbidden(call: &str) -> bool {
    ["app ls", "app undeploy", "app volume"].iter().any(|words| call.contains(words))
}

pub(crate) fn a_recipe_goes_through_every_tier_by_abra_and_leaves_nothing() {
    let abra = AbraHost::new();
    let _folder = example_folder(&abra);
    let ended = abra.run_of("hello").end().expect(0);
    let results = ended.results();
    assert_eq!(results["verdict"], "green");
    assert_eq!(results["engine"], "abra");
    assert_eq!(results["level"], 5, "{:#}", results["rungs"]);
    assert_eq!(results["deploy_count"]["counted"], 1);
    assert_eq!(results["flags"]["no_secret_leak"], true);
    abra.swarm.judge_clean(&ended);

    let calls = abra.calls();
    assert!(!calls.iter().any(|call| is_forbidden(call)), "{calls:#?}");
    assert!(calls.iter().all(|call| call.split(' ').any(|word| word == "-n") && call.contains(" -o")), "{calls:#?}");
    for verb in ["app backup create", "app restore", "recipe lint"] {
        let on_terminal = calls.iter().any(|call| call.starts_with(&format!("terminal {verb} ")));
        assert!(on_terminal, "{verb}: {calls:#?}");
    }
    assert!(calls.iter().any(|call| call.starts_with("pipe app secret generate ")), "{calls:#?}");
}

pub(crate) fn a_release_is_deployed_pinned_and_the_head_by_chaos() {
    let abra = AbraHost::new();
    let (old, new) = (compose("run", ""), compose("run", "").replace("ccci-test:1", "ccci-test:2"));
    abra.swarm.recipe(RECIPE, &[&old, &new]);
    let step = abra.run_of(RECIPE).args(["--stages", "install,upgrade"]).start();
    let ended = abra.swarm.clean_end(step, 0);
    assert_eq!(ended.results()["upgraded_from"], "0.0.0+1.0.0");
    let calls = abra.calls();
    let deploys: Vec<&String> = calls.iter().filter(|call| call.contains("app deploy")).collect();
    let [base, head] = deploys[..] else { panic!("{calls:#?}") };
    let has = |call: &str, flag: &str| call.split(' ').any(|word| word == flag);
    assert!(has(base, "0.0.0+1.0.0") && !has(base, "-C"), "{base}");
    assert!(has(head, "-C") && !has(head, "0.1.0+1.1.0"), "{head}");
}
