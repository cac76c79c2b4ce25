//! Runs beside each other and after each other, by abra.

use ccci_tests::abra::AbraHost;
use ccci_tests::gate::Gate;
use ccci_tests::swarm::{At, RECIPE, compose, daemon};
use jiff::Timestamp;

pub(crate) fn two_refs_of_one_recipe_are_up_at_once_each_from_its_own_tree() {
    let abra = AbraHost::new();
    let host = &abra.swarm.host;
    abra.swarm.recipe(RECIPE, &[&compose("run", ""), &compose("run", "").replace("ccci-test:1", "ccci-test:2")]);
    let gate = host.gate("both");
    let own_tree = format!("head -n 1 \"$ABRA_DIR/recipes/{RECIPE}/conf.txt\" >\"$TMPDIR/$CCCI_APP_DOMAIN\"");
    let _folder = abra.swarm.folder(RECIPE).script("test_install.sh", &format!("{}\n{own_tree}", gate.pass()));
    let refs = ["0.0.0+1.0.0", "main"];
    let steps = refs.map(|wanted| abra.run_of(RECIPE).args(["--stages", "install", "--ref", wanted]).start());
    // Both are up before either may go on.
    for _ in refs {
        gate.reached();
    }
    let domains = refs.map(|wanted| host.domain_of(RECIPE, host.pr(), wanted));
    let stacks = domains.each_ref().map(ccci_core::name::Domain::stack_name);
    stacks.iter().for_each(|stack| assert!(daemon().has("service", &format!("{stack}_app")), "{stack} is not up"));
    refs.iter().for_each(|_| gate.open());
    let ended = steps.map(|step| step.end().expect(0));
    for (number, domain) in domains.iter().enumerate() {
        let tree = std::fs::read_to_string(host.path("tmp").join(domain.as_str())).unwrap();
        assert_eq!(tree, format!("version {number}\n"), "{domain}");
        assert!(daemon().of_stack(&stacks[number]).is_empty());
    }
    ended.iter().for_each(|ended| abra.swarm.judge_clean(ended));
}

pub(crate) fn a_double_trigger_waits_and_each_run_deploys_once() {
    let abra = AbraHost::new();
    let gate: Gate = abra.swarm.host.gate("first");
    // Nobody is held: it only counts the deploys of both runs.
    abra.swarm.hold("stack deploy", 0, At::After, &gate);
    let _folder = abra.swarm.folder(RECIPE).script("test_install.sh", &gate.pass());
    let start = || abra.run_of(RECIPE).args(["--stages", "install"]).start();
    let first = start();
    gate.reached();
    let second = start();
    second.waits_for(&abra.swarm.host.lock_of(abra.swarm.domain()));
    second.says("another run of");
    let before = deploys(&abra);
    gate.open();
    let first = first.end().expect(0);
    gate.reached();
    gate.open();
    let second = abra.swarm.clean_end(second, 0);
    assert_eq!((before, deploys(&abra)), (1, 2), "one deploy each, the second's after the first one's end");
    let calls = std::fs::read_to_string(abra.swarm.host.path("calls")).unwrap();
    assert_eq!(calls.lines().count(), 2, "and no more of Docker itself");
    let gone = first.results()["receipt"]["removed"].as_array().unwrap().last().unwrap()["removed_at"].clone();
    let events = second.events();
    let locked = events.iter().find(|event| event["event"] == "locked").unwrap()["at"].clone();
    let time = |value: serde_json::Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(time(locked) > time(gone), "the second began before the first was gone");
}

fn deploys(abra: &AbraHost) -> usize {
    abra.calls().iter().filter(|call| call.contains("app deploy")).count()
}
