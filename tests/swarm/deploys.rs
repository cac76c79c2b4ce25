//! Deploys that do not come about, each with whose fault it is and in whose words.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use ccci_tests::host::until;
use ccci_tests::process::Process;
use ccci_tests::step::Ended;
use ccci_tests::swarm::{At, RECIPE, SwarmHost, compose, compose_with, daemon};
use jiff::Timestamp;

fn reason(ended: &Ended<'_>) -> String {
    ended.results()["reason"].as_str().unwrap_or_default().to_owned()
}

/// A run of these versions; its exit code, and what its reason must contain.
fn ends(versions: &[&str], stages: &str, code: i32, words: &[&str]) {
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, versions);
    run_ends(&swarm, stages, code, words);
}

fn run_ends(swarm: &SwarmHost, stages: &str, code: i32, words: &[&str]) {
    let step = swarm.run().args(["--stages", stages]).start();
    let ended = swarm.clean_end(step, code);
    let reason = reason(&ended);
    for word in words {
        assert!(reason.contains(word), "`{word}` is missing in: {reason}");
    }
}

pub(crate) fn a_service_that_keeps_dying_fails_fast_with_its_own_words() {
    // Fast is: the timeout is far away, and three failures are not many. Nothing asks this app, so only
    // its staying up tells that it is there.
    let words = ["install: generic/", "_app failed 3 times", "non-zero exit (3)", "cannot open the database"];
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, &[&compose("fail", "")]);
    // A busy Docker hears late that a container died.
    drop(swarm.folder(RECIPE).toml("[health]\nnone = \"no HTTP\"\n[timeouts]\ndeploy = \"90s\"\nmonitor = \"30s\"\n"));
    run_ends(&swarm, "install", 1, &words);
}

pub(crate) fn a_wait_in_vain_ends_with_the_last_lines_of_the_service() {
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, &[&compose("run", "")]);
    // Up, and never for long enough: the time is for a busy machine to have it up at all.
    drop(swarm.folder(RECIPE).toml("[health]\nnone = \"no HTTP\"\n[timeouts]\ndeploy = \"45s\"\nmonitor = \"1h\"\n"));
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 1);
    let reason = reason(&ended);
    assert!(reason.contains("not there within 45s") && reason.ends_with("_app's last lines:\nup"), "{reason}");
}

pub(crate) fn an_image_that_does_not_exist_is_red() {
    let swarm = SwarmHost::new();
    let registry = daemon().listen();
    let image = format!("{}/none:1", registry.local_addr().unwrap());
    swarm.recipe(RECIPE, &[&compose("run", "").replace("ccci-test:1", &image)]);
    // Nobody is held: it only counts the deploys.
    swarm.hold("stack deploy", 0, At::After, &swarm.host.gate("deploy"));
    let step = swarm.run().start();
    let shell = step.shell();
    until("the run ends", || {
        answer(&registry);
        Process::of(shell).is_none().then_some(())
    });
    let ended = swarm.clean_end(step, 1);
    let reason = reason(&ended);
    assert!(reason.starts_with(&format!("install: image {image} cannot be had")), "{reason}");
    assert!(reason.contains("manifest unknown"), "{reason}");
    assert!(!swarm.host.path("calls").exists(), "it was deployed without its image");
}

/// A registry that has nothing: answers whoever has come.
fn answer(registry: &TcpListener) {
    while let Ok((mut peer, _)) = registry.accept() {
        peer.set_nonblocking(false).unwrap();
        let mut request = [0; 4096];
        let length = peer.read(&mut request).unwrap_or(0);
        let begin = String::from_utf8_lossy(&request[..length]).into_owned();
        let (status, body) = if begin.starts_with("GET /v2/ ") {
            ("200 OK", "{}")
        } else {
            ("404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
        };
        let head =
            "Docker-Distribution-Api-Version: registry/2.0\r\nContent-Type: application/json\r\nConnection: close";
        let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _gone = peer.write_all(answer.as_bytes());
    }
}

pub(crate) fn an_image_whose_registry_is_down_is_the_hosts_fault() {
    let text = compose("run", "").replace("ccci-test:1", "127.0.0.1:1/none:1");
    ends(&[&text], "install", 69, &["image 127.0.0.1:1/none:1 cannot be pulled now", "connection refused"]);
}

/// An update whose new tasks cannot live, and what Swarm is told to do about it.
fn failing_update(action: &str, words: &[&str]) {
    // Restarted slowly: Swarm has decided long before the failures are too many. It hears of a failure late
    // on a busy host, and one that comes after its monitoring time does not count.
    let deploy = |text: String| {
        let text = text.replace("monitor: 1s", &format!("monitor: 30s, failure_action: {action}"));
        text.replace("delay: 100ms", "delay: 2s")
    };
    let (good, bad) = (deploy(compose("run", "")), deploy(compose("fail", "")));
    ends(&[&good, &bad], "install,upgrade", 1, words);
}

pub(crate) fn an_update_that_swarm_rolls_back_is_red_with_the_reason() {
    let words =
        ["upgrade: generic/converged", "did not go through", "rollback", "exit (3)", "cannot open the database"];
    failing_update("rollback", &words);
}

pub(crate) fn an_update_that_swarm_pauses_is_red_with_the_reason() {
    let words = ["upgrade: generic/converged", "did not go through", "paused", "exit (3)", "cannot open the database"];
    failing_update("pause", &words);
}

pub(crate) fn a_service_that_the_new_version_dropped_is_gone_after_the_upgrade() {
    let swarm = SwarmHost::new();
    let new = compose_with("run", "", "").replace("ccci-test:1", "ccci-test:2");
    swarm.recipe(RECIPE, &[&compose("run", ""), &new]);
    let list = "docker service ls --format '{{.Name}}' | grep \"^$CCCI_STACK\"";
    let stack = swarm.stack();
    let list = |file: &str| format!("{} >\"$TMPDIR/{file}\"", list.replace("$CCCI_STACK", &format!("{stack}_")));
    let _folder =
        swarm.folder(RECIPE).script("test_install.sh", &list("before")).script("test_upgrade.sh", &list("after"));
    let step = swarm.run().args(["--stages", "install,upgrade"]).start();
    let _green = swarm.clean_end(step, 0);
    let names = |file: &str| std::fs::read_to_string(swarm.host.path("tmp").join(file)).unwrap();
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(names("before")), [format!("{stack}_app"), format!("{stack}_db")]);
    assert_eq!(sorted(names("after")), [format!("{stack}_app")]);
}

pub(crate) fn an_upgrade_to_the_same_commit_is_no_upgrade() {
    let swarm = SwarmHost::new();
    let step = swarm.run().args(["--stages", "install,upgrade", "--version-from", "HEAD"]).start();
    let ended = swarm.clean_end(step, 1);
    assert!(reason(&ended).contains("upgrade: generic/commit: the upgrade moved nothing"), "{}", reason(&ended));
}

pub(crate) fn a_stack_that_docker_refuses_half_way_is_red_and_leaves_nothing() {
    // Networks, configs and the services before it are made by then; what is wrong here, only Swarm sees.
    let text = compose("run", "").replace(
        "    networks: [internal]\n",
        "    networks: [internal]\n    deploy: {placement: {constraints: [\"nonsense\"]}}\n",
    );
    ends(&[&text], "install", 1, &["install: ", "_db", "constraint expected one operator"]);
}

pub(crate) fn a_compose_file_that_cannot_be_read_is_red_before_anything_is_made() {
    // [prepull]: a file that was refused made the pull skip silently, and the deploy went on.
    let swarm = SwarmHost::new();
    swarm.recipe(RECIPE, &[&compose("run", "").replace("image:", "imag:")]);
    swarm.hold("stack deploy", 0, At::After, &swarm.host.gate("deploy"));
    run_ends(&swarm, "install", 1, &["install: ", "imag"]);
    assert!(!swarm.host.path("calls").exists(), "it was deployed all the same");
}

pub(crate) fn a_shared_network_without_addresses_is_the_hosts_fault() {
    let swarm = SwarmHost::new();
    let docker = daemon();
    let network = format!("full-{}", swarm.host.pr());
    docker.cli(&["network", "create", "--driver", "overlay", "--subnet", "10.99.7.0/28", &network]);
    swarm.host.settings(&format!("[policy]\nexternal = [\"{network}\"]\n"));
    // Each service has one address; of the 14 one is the gateway's.
    let fillers: Vec<String> = (0..13).map(|number| format!("filler-{}-{number}", swarm.host.pr())).collect();
    for filler in &fillers {
        let make = ["service", "create", "--detach", "--no-resolve-image", "--replicas", "0", "--name", filler];
        docker.cli(&[&make[..], &["--network", &network, "ccci-test:1"]].concat());
    }
    let text = compose("run", "").replace("networks: [internal, proxy]", &format!("networks: [internal, {network}]"));
    swarm.recipe(RECIPE, &[&text.replace("  proxy: {", &format!("  {network}: {{"))]);
    let step = swarm.run().start();
    let ended = swarm.clean_end(step, 69);
    let reason = reason(&ended);
    assert!(reason.contains("no address") && reason.contains(&network), "{reason}");
    for filler in &fillers {
        docker.cli(&["service", "rm", filler]);
    }
    docker.cli(&["network", "rm", &network]);
}

pub(crate) fn a_run_soon_sees_that_its_tasks_run() {
    let swarm = SwarmHost::new();
    let stack = swarm.stack();
    // When Swarm itself knew it, not when the container started.
    let list = format!(
        "for service in app db; do docker service ps --quiet {stack}_$service; done | \
         xargs docker inspect --type task --format '{{{{json .UpdatedAt}}}}' | tr -d '\"' | sort >\"$TMPDIR/running\""
    );
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &list);
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 0);
    let running = std::fs::read_to_string(swarm.host.path("tmp/running")).unwrap();
    let last: Timestamp = running.lines().last().unwrap().parse().unwrap();
    let events = ended.events();
    let converged = events.iter().find(|event| event["name"] == "generic/converged").unwrap();
    let seen: Timestamp = converged["at"].as_str().unwrap().parse().unwrap();
    let late = seen.duration_since(last);
    let _shown = writeln!(std::io::stderr(), "converged {late:#} after Swarm had the last task running");
    // On an idle machine it is below 0.1 s; polling by the second would be found out on any.
    assert!(late.as_millis() < 2000, "{late:#}");
}
