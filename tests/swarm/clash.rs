//! Runs beside each other and after each other.

use ccci_tests::swarm::{At, RECIPE, SwarmHost, compose};
use jiff::Timestamp;

pub(crate) fn two_recipes_are_up_at_the_same_time() {
    let swarm = SwarmHost::new();
    swarm.recipe("other", &[&compose("run", "")]);
    let gates = [RECIPE, "other"].map(|recipe| {
        let gate = swarm.host.gate(recipe);
        let _folder = swarm.folder(recipe).script("test_install.sh", &gate.pass());
        gate
    });
    let steps = [RECIPE, "other"].map(|recipe| swarm.run_of(recipe).args(["--stages", "install"]).start());
    // Both are there before either may go on.
    for gate in &gates {
        gate.reached();
    }
    gates.iter().for_each(ccci_tests::gate::Gate::open);
    let ended = steps.map(|step| step.end().expect(0));
    assert_ne!(ended[0].results()["domain"], ended[1].results()["domain"]);
    ended.iter().for_each(|ended| assert_eq!(ended.results()["flags"]["clean_teardown"], true));
    swarm.assert_clean();
}

pub(crate) fn a_second_run_of_the_domain_waits_and_then_deploys_once() {
    let swarm = SwarmHost::new();
    let gate = swarm.host.gate("first");
    // Nobody is held: it only counts the deploys of both runs.
    swarm.hold("stack deploy", 0, At::After, &gate);
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &gate.pass());
    let first = swarm.run().args(["--stages", "install"]).start();
    gate.reached();
    let second = swarm.run().args(["--stages", "install"]).start();
    second.waits_for(&swarm.host.lock_of(swarm.domain()));
    second.says("another run of");
    gate.open();
    let first = first.end().expect(0);
    gate.reached();
    gate.open();
    let second = swarm.clean_end(second, 0);
    let calls = std::fs::read_to_string(swarm.host.path("calls")).unwrap();
    assert_eq!(calls.lines().count(), 2, "one deploy each");
    // Not before the first one's last object was gone.
    let receipt = &first.results()["receipt"]["removed"];
    let gone: Timestamp = receipt.as_array().unwrap().last().unwrap()["removed_at"].as_str().unwrap().parse().unwrap();
    let events = second.events();
    let locked = events.iter().find(|event| event["event"] == "locked").unwrap();
    let locked: Timestamp = locked["at"].as_str().unwrap().parse().unwrap();
    assert!(locked > gone, "{locked} {gone}");
    assert!(second.results()["preclean"].is_null(), "{:#}", second.results()["preclean"]);
}
