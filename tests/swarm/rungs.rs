//! Every rung is red once, by the test that is named.

use ccci_tests::step::Ended;
use ccci_tests::swarm::{RECIPE, SAVED, SwarmHost, compose};

/// Fails unless the run was red in this tier, by this test with these words.
fn is_red(ended: &Ended<'_>, tier: &str, reason: &str) {
    let results = ended.results();
    assert_eq!(results["verdict"], "red");
    assert_eq!(results["reason"], format!("{tier}: {reason}"));
    let stages = results["stages"].as_array().unwrap();
    for stage in stages.iter().filter(|stage| stage["outcome"] == "fail") {
        assert_eq!(stage["tier"], tier, "{stage:#}");
    }
}

fn red(stages: &str, versions: &[&str], test: &str, tier: &str, reason: &str) {
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, versions);
    let _folder = swarm.folder(RECIPE).script(test, "echo 'what is wrong'\nexit 4");
    let step = swarm.run().args(["--stages", stages]).start();
    let ended = swarm.clean_end(step, 1);
    is_red(&ended, tier, reason);
}

pub(crate) fn a_failed_install_test_is_red_and_named() {
    let one = [&*compose("run", "")];
    red("install", &one, "test_install.sh", "install", "test_install.sh: exit code 4: what is wrong");
}

pub(crate) fn a_failed_upgrade_test_is_red_and_named() {
    let (from, to) = (compose("run", ""), compose("run", "").replace("ccci-test:1", "ccci-test:2"));
    red("install,upgrade", &[&from, &to], "test_upgrade.sh", "upgrade", "test_upgrade.sh: exit code 4: what is wrong");
}

pub(crate) fn a_backup_that_does_not_verify_is_red_and_named() {
    let swarm = SwarmHost::new();
    let _folder = swarm.folder(RECIPE).script("hooks/backup_verify", "echo 'the dump is cut off'\nexit 1");
    let step = swarm.run().args(["--stages", "install,backup,restore"]).start();
    let ended = swarm.clean_end(step, 1);
    let reason = ended.results()["reason"].to_string();
    assert!(reason.contains("backup: hook backup_verify") && reason.contains("the dump is cut off"), "{reason}");
    assert!(ended.log().contains("did not verify, trying again (2 of 3)"), "{}", ended.log());
}

pub(crate) fn a_failed_restore_test_is_red_and_named() {
    let one = [&*compose("run", SAVED)];
    let stages = "install,backup,restore";
    red(stages, &one, "test_restore.sh", "restore", "test_restore.sh: exit code 4: what is wrong");
}

pub(crate) fn a_failed_custom_test_is_red_and_named() {
    let one = [&*compose("run", "")];
    red("install,custom", &one, "custom/it.sh", "custom", "custom/it.sh: exit code 4: what is wrong");
}

pub(crate) fn an_app_that_does_not_ask_for_it_is_not_backed_up() {
    let swarm = SwarmHost::new();
    let rung = |compose: &str| {
        swarm.recipe(RECIPE, &[compose]);
        let step = swarm.run().args(["--stages", "install,backup,restore"]).start();
        swarm.clean_end(step, 0).results()["rungs"]["backup_restore"].clone()
    };
    let unasked = rung(&compose("run", ""));
    assert_eq!(unasked["outcome"], "skip", "{unasked}");
    assert!(unasked["reason"].as_str().unwrap().contains("backupbot.backup=true"), "{unasked}");
    assert_eq!(rung(&compose("run", SAVED))["outcome"], "pass");
}
