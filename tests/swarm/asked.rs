//! Whether anybody asked the app: a run that asked nothing has not passed.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use ccci_tests::host::until;
use ccci_tests::process::Process;
use ccci_tests::step::Ended;
use ccci_tests::swarm::{RECIPE, SwarmHost, compose, daemon};

const QUICK: &str = "[timeouts]\ndeploy = \"60s\"\nmonitor = \"0s\"\nhttp = \"10s\"\n";

/// An install of the recipe, with this added to its test folder's settings.
fn install<'host>(swarm: &'host SwarmHost, toml: &str, code: i32) -> Ended<'host> {
    drop(swarm.folder(RECIPE).toml(&format!("{QUICK}{toml}")));
    let step = swarm.run().args(["--stages", "install"]).start();
    swarm.clean_end(step, code)
}

fn says(ended: &Ended<'_>, words: &[&str]) {
    let reason = ended.results()["reason"].as_str().unwrap_or_default().to_owned();
    for word in words {
        assert!(reason.contains(word), "`{word}` is missing in: {reason}");
    }
}

pub(crate) fn an_app_that_nobody_can_ask_is_not_green_and_the_run_says_what_to_set() {
    let swarm = SwarmHost::new();
    let ended = install(&swarm, "", 69);
    says(&ended, &["nobody can ask the app", "ingress = ", "compose.ccci.yml", "[health] none"]);
}

pub(crate) fn a_folder_that_asks_an_app_that_nobody_can_ask_is_an_error() {
    let swarm = SwarmHost::new();
    says(&install(&swarm, "[health]\npath = \"/\"\n", 2), &["recipe.toml asks the app", "ingress = "]);
    says(&install(&swarm, "[[readiness]]\ntcp = 8080\n", 2), &["no service publishes port 8080"]);
}

pub(crate) fn an_app_that_is_said_to_have_no_http_passes_and_the_result_says_so() {
    let swarm = SwarmHost::new();
    drop(swarm.folder(RECIPE).script("test_install.sh", "[ -z \"$CCCI_BASE_URL\" ]"));
    let ended = swarm.clean_end(swarm.run().args(["--stages", "install"]).start(), 0);
    let results = ended.results();
    let tests = results["stages"][0]["tests"].as_array().unwrap();
    let asked = tests.iter().find(|test| test["name"] == "generic/healthy").unwrap();
    assert_eq!(asked["outcome"], "skip", "{asked}");
    assert!(asked["reason"].as_str().unwrap().contains("the test image serves nothing"), "{asked}");
    assert!(ended.log().contains("CCCI_BASE_URL is not set: recipe.toml, health.none"), "{}", ended.log());
}

/// An install behind a reverse proxy that answers every request with this status; what it was asked.
fn behind_a_proxy(compose: &str, status: &str, code: i32) -> Vec<String> {
    let swarm = SwarmHost::new();
    let proxy = daemon().listen();
    swarm.host.settings(&format!("ingress = \"{}\"\n[policy]\nallow = [\"routes\"]\n", proxy.local_addr().unwrap()));
    swarm.recipe(RECIPE, &[compose]);
    drop(swarm.folder(RECIPE).toml(QUICK));
    let step = swarm.run().args(["--stages", "install"]).start();
    let (shell, mut asked) = (step.shell(), Vec::new());
    until("the run ends", || {
        answer(&proxy, status, &mut asked);
        Process::of(shell).is_none().then_some(())
    });
    let _ended = swarm.clean_end(step, code);
    let host = format!("host: {}", swarm.domain());
    assert!(asked.iter().all(|request| request.to_lowercase().contains(&host)), "{asked:#?}");
    asked
}

fn answer(proxy: &TcpListener, status: &str, asked: &mut Vec<String>) {
    while let Ok((mut peer, _)) = proxy.accept() {
        peer.set_nonblocking(false).unwrap();
        let mut request = [0; 4096];
        let length = peer.read(&mut request).unwrap_or(0);
        asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let _gone = peer.write_all(answer.as_bytes());
    }
}

pub(crate) fn an_app_without_a_port_is_asked_at_the_ingress() {
    assert!(!behind_a_proxy(&compose("run", ""), "200 OK", 0).is_empty());
    // Its answer counts.
    assert!(!behind_a_proxy(&compose("run", ""), "404 Not Found", 1).is_empty());
}

pub(crate) fn a_port_beside_the_reverse_proxys_is_not_the_front_door() {
    let labels = "      labels: [\"traefik.http.services.x.loadbalancer.server.port=8080\"]";
    let with_ssh = compose("run", labels)
        .replace("    stop_grace_period: 6s\n", "    stop_grace_period: 6s\n    ports: [{target: 22, mode: host}]\n");
    assert!(!behind_a_proxy(&with_ssh, "200 OK", 0).is_empty());
}
