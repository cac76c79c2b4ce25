//! What could not be removed, or what nobody was left to remove: named, and gone at the next chance.

use std::fs;

use ccci_tests::moment::abandon;
use ccci_tests::process;
use ccci_tests::swarm::{RECIPE, SwarmHost, daemon};
use serde_json::Value;

/// A run whose custom test lets somebody else take hold of a part of the app; who, by its name.
fn held(hold: impl Fn(&str, &str) -> String, kind: &str, part: &str, free: &[&str]) {
    let swarm = SwarmHost::new();
    // The part stays for as long as somebody has it: no need to try for ten minutes.
    swarm.host.settings("teardown_budget = \"8s\"\n");
    let (holder, part) = (format!("holder-{}", swarm.host.pr()), format!("{}_{part}", swarm.stack()));
    let _folder = swarm.folder(RECIPE).script("custom/hold.sh", &hold(&holder, &part));
    let ended = swarm.run().args(["--stages", "install,custom"]).end().expect(1);
    let results = ended.results();
    assert_eq!(results["verdict"], "red");
    assert_eq!(results["flags"]["clean_teardown"], false);
    let reason = results["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("left behind: {kind} {part}")), "{reason}");
    assert!(reason.contains("in use"), "{reason}");
    let residue = results["receipt"]["residue"].to_string();
    assert!(residue.contains(&format!("{kind} {part}")) && residue.contains("env file"), "{residue}");
    assert!(daemon().everything().iter().any(|line| line.ends_with(&holder)), "the holder is not ours to remove");

    // Freed, it goes with the next run, which says so.
    daemon().cli(&[free, &[&holder]].concat());
    let _plain = swarm.folder(RECIPE);
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 0);
    let preclean = ended.results()["preclean"].to_string();
    assert!(preclean.contains(&part), "{preclean}");
}

pub(crate) fn a_volume_in_use_is_named_and_the_next_run_removes_it() {
    let hold =
        |holder: &str, part: &str| format!("docker run --detach --name {holder} --volume {part}:/data ccci-test:1");
    held(hold, "volume", "data", &["rm", "--force"]);
}

pub(crate) fn a_secret_in_use_is_named_and_the_next_run_removes_it() {
    let hold = |holder: &str, part: &str| {
        format!("docker service create --detach --no-resolve-image --name {holder} --secret {part} ccci-test:1")
    };
    held(hold, "secret", "token_v1", &["service", "rm"]);
}

/// Leaves an app whose keeper and worker died at once.
fn orphan(swarm: &SwarmHost) {
    let gate = swarm.host.gate("orphan");
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &gate.pass());
    let mut step = swarm.run().start();
    let _now = (step.keeper(), step.run_dir());
    let stopped = gate.reached();
    abandon(&mut step);
    process::signal(stopped, nix::sys::signal::Signal::SIGKILL);
    let _plain = swarm.folder(RECIPE);
}

pub(crate) fn an_app_whose_guardians_all_died_is_removed_by_the_next_run() {
    let swarm = SwarmHost::new();
    orphan(&swarm);
    let left = daemon().of_stack(&swarm.stack());
    assert!(left.len() >= 8, "{left:?}");
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 0);
    let preclean = ended.results()["preclean"].to_string();
    for line in left {
        let name = line.split_once(' ').unwrap().1;
        assert!(preclean.contains(name), "{name} is not in {preclean}");
    }
    assert!(ended.log().contains("== preclean: an earlier run left"), "{}", ended.log());
}

pub(crate) fn an_app_whose_guardians_all_died_is_removed_by_the_janitor() {
    let swarm = SwarmHost::new();
    // The other claims' apps are on the same Docker, and their locks are not this janitor's.
    let base = format!("ci{}.example", swarm.host.pr());
    swarm.host.settings(&format!("base_domain = \"{base}\"\n"));
    orphan(&swarm);
    let ours = || {
        let everything = daemon().everything();
        let all = everything.into_iter().filter(|line| line.contains(&base.replace('.', "_")));
        all.collect::<Vec<_>>()
    };
    assert!(ours().len() >= 8, "{:?}", ours());
    let sweep = swarm.there(swarm.host.command(&["cc-ci-janitor", "sweep"])).end();
    assert_eq!(sweep.code, 0, "{}{}", sweep.out(), sweep.err());
    assert_eq!(ours(), [] as [String; 0]);
    swarm.assert_clean();
}

pub(crate) fn images_without_a_name_go_from_a_full_disk_and_never_under_a_live_run() {
    let swarm = SwarmHost::new();
    // The other claims' apps are on the same Docker, and their locks are not this janitor's.
    swarm.host.settings(&format!("base_domain = \"ci{}.example\"\n", swarm.host.pr()));
    let archive = swarm.host.path("empty.tar");
    fs::write(&archive, [0; 1024]).unwrap();
    let image = daemon().cli(&["import", archive.to_str().unwrap()]);
    let root = daemon().cli(&["info", "--format", "{{.DockerRootDir}}"]);
    // The disk as the janitor alone sees it: a small one in the place of the daemon's.
    let sweep = |kilobytes: u32| -> Value {
        let disk = format!("mount -t tmpfs -o size=1m none \"$0\"; head -c {kilobytes}k /dev/zero >\"$0/filler\"");
        let script = format!("{disk}; exec \"$@\"");
        let launch = swarm.there(swarm.host.command(&["cc-ci-janitor", "sweep", "--json"]));
        launch.under(&["unshare", "--mount", "sh", "-ec", &script, &root]).end().expect(0).json()
    };
    let swept = sweep(700);
    assert!(swept["pruned"].is_null() && daemon().has("image", &image), "not full enough: {swept:#}");

    let path = swarm.host.path("locks/cc-ci-host.lock");
    let share = fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    rustix::fs::flock(&share, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
    let swept = sweep(850);
    assert!(swept["pruned"].is_null() && daemon().has("image", &image), "a run is live: {swept:#}");
    let why = &swept["findings"][0];
    assert!(why["what"].to_string().contains("image prune (disk 83 % full)"), "{why:#}");
    assert_eq!(why["why"], "a run is live");

    drop(share);
    let swept = sweep(850);
    assert!(!daemon().has("image", &image), "{swept:#}");
    assert!(swept["pruned"]["images"].as_u64().unwrap() > 0, "{swept:#}");
    assert!(daemon().has("image", "ccci-test:1"), "what has a name stays");
}
