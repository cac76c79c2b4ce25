//! Services that come to an end, and those that never begin: each wait ends as soon as anybody knows how.

use std::io::Write as _;

use ccci_tests::step::Ended;
use ccci_tests::swarm::{RECIPE, SwarmHost, daemon};
use jiff::{SignedDuration, Timestamp};

/// The front door of a recipe whose other services matter.
const APP: &str = "version: \"3.8\"\nservices:\n  app: {image: \"ccci-test:1\"}\n";

/// An install of a recipe with these services besides `app`; its health checks decide when it is there.
fn install<'host>(swarm: &'host SwarmHost, services: &str, code: i32) -> Ended<'host> {
    // What the operator may allow is not the point here.
    swarm.host.settings("[policy]\nallow = [\"ports\", \"limits\"]\n");
    swarm.recipe(RECIPE, &[&format!("{APP}{services}")]);
    let step = swarm.run().args(["--stages", "install"]).start();
    swarm.clean_end(step, code)
}

fn says(ended: &Ended<'_>, words: &[&str]) {
    let reason = ended.results()["reason"].as_str().unwrap_or_default().to_owned();
    for word in words {
        assert!(reason.contains(word), "`{word}` is missing in: {reason}");
    }
}

/// From the deploy to the verdict on it; shown, and far from the deploy's timeout of 90 s.
fn is_quick(ended: &Ended<'_>, what: &str) {
    let events = ended.events();
    let at = |found: &dyn Fn(&serde_json::Value) -> bool| -> Timestamp {
        let event = events.iter().find(|event| found(event)).unwrap_or_else(|| panic!("{events:#?}"));
        event["at"].as_str().unwrap().parse().unwrap()
    };
    let begun = at(&|event| event["event"] == "step" && event["name"] == "converge");
    let ended = at(&|event| event["event"] == "stage" && event["tier"] == "install");
    let took = ended.duration_since(begun);
    let _shown = writeln!(std::io::stderr(), "{what}: verdict {took:#} after the deploy");
    assert!(took < SignedDuration::from_secs(60), "{took:#}");
}

pub(crate) fn a_job_that_is_done_is_there_and_its_teardown_is_clean() {
    let swarm = SwarmHost::new();
    let job = "  migrate: {image: \"ccci-test:1\", command: [done], deploy: {mode: replicated-job, \
               restart_policy: {condition: none}}}\n";
    let global = "  each: {image: \"ccci-test:1\", command: [done], deploy: {mode: global-job, \
                  restart_policy: {condition: on-failure}}}\n";
    is_quick(&install(&swarm, &format!("{job}{global}"), 0), "a job");
}

pub(crate) fn a_service_that_ends_well_and_is_not_restarted_is_there() {
    let swarm = SwarmHost::new();
    let once = "  init: {image: \"ccci-test:1\", command: [done], deploy: {restart_policy: {condition: none}}}\n";
    let none = "  manual: {image: \"ccci-test:1\", deploy: {replicas: 0}}\n";
    let nowhere = "  agent: {image: \"ccci-test:1\", deploy: {mode: global, placement: {constraints: \
                   [\"node.role == worker\"]}}}\n";
    is_quick(&install(&swarm, &format!("{once}{none}{nowhere}"), 0), "a one-shot");
}

pub(crate) fn what_fails_for_good_is_red_at_once_with_its_exit_code() {
    let policy = "restart_policy: {condition: on-failure, max_attempts: 1, delay: 100ms}";
    for mode in ["", "mode: replicated-job, "] {
        let swarm = SwarmHost::new();
        let bad = format!("  init: {{image: \"ccci-test:1\", command: [fail], deploy: {{{mode}{policy}}}}}\n");
        let ended = install(&swarm, &bad, 1);
        says(&ended, &["_init failed and is not started again", "exit code 3", "cannot open the database"]);
        is_quick(&ended, "a failing one-shot");
    }
}

pub(crate) fn a_task_that_no_node_can_have_is_told_in_swarms_words_and_ends_the_wait() {
    let swarm = SwarmHost::new();
    let constraint =
        "  b: {image: \"ccci-test:1\", deploy: {placement: {constraints: [\"node.labels.nope == yes\"]}}}\n";
    let ended = install(&swarm, constraint, 1);
    says(&ended, &["_b: no suitable node (scheduling constraints not satisfied on 1 node)"]);
    is_quick(&ended, "an impossible constraint");
    let waited = ended.events().iter().any(|event| {
        event["event"] == "waiting" && event["what"].as_str().unwrap().contains("0 of 1 tasks: no suitable node")
    });
    assert!(waited, "told while it waited: {:#?}", ended.events());
    let memory = "  b: {image: \"ccci-test:1\", deploy: {resources: {reservations: {memory: 900G}}}}\n";
    let ended = install(&swarm, memory, 69);
    says(&ended, &["_b: no suitable node (insufficient resources on 1 node)"]);
    is_quick(&ended, "too much memory");
}

pub(crate) fn a_health_check_that_fails_is_told_with_what_it_said() {
    let check = |retries: u32| {
        format!(
            "  b:\n    image: \"ccci-test:1\"\n    healthcheck: {{test: [CMD, /app, fail], interval: 1s, timeout: 5s, \
             retries: {retries}}}\n    deploy: {{restart_policy: {{delay: 100ms}}}}\n"
        )
    };
    let words = ["its health check fails, ", " in a row: exit 3: cannot open the database"];
    // Swarm ends it three times.
    let swarm = SwarmHost::new();
    let ended = install(&swarm, &check(2), 1);
    says(&ended, &["_b failed 3 times", words[0], words[1]]);
    is_quick(&ended, "a failing health check");
    // Swarm never does.
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, &[&format!("{APP}{}", check(300))]);
    drop(swarm.folder(RECIPE).toml("[health]\nnone = \"no HTTP\"\n[timeouts]\ndeploy = \"15s\"\n"));
    let ended = swarm.clean_end(swarm.run().args(["--stages", "install"]).start(), 1);
    says(&ended, &["not there within 15s", "running, but ", words[0], words[1]]);
}

pub(crate) fn a_port_of_the_host_that_another_stack_has_is_told_with_its_name() {
    let swarm = SwarmHost::new();
    let port = 20_000 + u16::try_from(swarm.host.pr() % 10_000).unwrap();
    let holder = format!("holder-{}", swarm.host.pr());
    let publish = format!("mode=host,target=80,published={port}");
    daemon().cli(&[
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        &holder,
        "--publish",
        &publish,
        "ccci-test:1",
    ]);
    ccci_tests::host::until("the holder runs", || {
        let state = ["service", "ps", "--format", "{{.CurrentState}}", &holder];
        daemon().cli(&state).starts_with("Running").then_some(())
    });
    let ports = format!("  b: {{image: \"ccci-test:1\", ports: [{{target: 80, published: {port}, mode: host}}]}}\n");
    let ended = install(&swarm, &ports, 69);
    says(&ended, &["host-mode port already in use", &format!("port {port} is {holder}'s")]);
    daemon().cli(&["service", "rm", &holder]);
}

pub(crate) fn an_image_whose_name_is_none_is_the_recipes_fault() {
    let swarm = SwarmHost::new();
    let ended = install(&swarm, "  b: {image: \"example/${NAME}:${TAG}\"}\n", 1);
    says(&ended, &["example/:", "invalid reference format"]);
}
