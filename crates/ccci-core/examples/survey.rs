//! Measures a survey of a Docker host both ways; see `tests/bench/survey.sh`.

#![expect(clippy::print_stdout, reason = "a measurement's result")]

use std::time::{Duration, Instant};

use ccci_core::config::{Places, Settings};
use ccci_core::docker::{Docker, Endpoint};
use ccci_core::name::BaseDomain;
use ccci_core::substrate::Substrate;
use ccci_core::substrate::swarm::Swarm;

const ROUNDS: usize = 11;

fn measure(what: &str, mut survey: impl FnMut() -> usize) {
    let mut found = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            found = survey();
            begun.elapsed()
        })
        .collect();
    times.sort();
    let [least, median, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| times[at].as_secs_f64() * 1000.0);
    println!("| {what} | {found} | {median:.1} ms | {least:.1} to {most:.1} ms |");
}

const KINDS: [&str; 6] = ["service", "container", "network", "volume", "secret", "config"];

fn list(docker: &Docker, kind: &str) -> String {
    let args =
        if kind == "container" { vec!["container", "ls", "--all", "--quiet"] } else { vec![kind, "ls", "--quiet"] };
    let ids = docker.job(args).capture().run_ok(&mut |_| {}).map(|done| done.stdout).unwrap_or_default();
    String::from_utf8_lossy(&ids).into_owned()
}

/// What the program has to be asked for the same: the names alone come without labels, so each kind
/// is listed and then inspected.
fn by_program(docker: &Docker) -> usize {
    let mut found = 0;
    for kind in KINDS {
        let ids = list(docker, kind);
        if ids.trim().is_empty() {
            continue;
        }
        let args = [kind, "inspect"].into_iter().chain(ids.split_whitespace());
        let inspected = docker.job(args).capture().run_ok(&mut |_| {}).map(|done| done.stdout).unwrap_or_default();
        let objects: Vec<serde_json::Value> = serde_json::from_slice(&inspected).unwrap_or_default();
        found += objects.len();
    }
    found
}

/// The names alone, which tell nobody whose they are.
fn by_lists(docker: &Docker) -> usize {
    KINDS.iter().map(|kind| list(docker, kind).lines().count()).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stacks = std::env::args().nth(1).unwrap_or_default();
    let endpoint = Endpoint::find()?.ok_or("no Docker is configured: set DOCKER_HOST")?;
    let places = Places::find(&Settings::default())?;
    let base = BaseDomain::new("ci.x")?;
    let swarm = Swarm::new(Docker::new(endpoint.clone()), &places);
    let docker = Docker::new(endpoint);
    println!("\n| a look at {stacks} stacks | found | median of {ROUNDS} | range |\n|---|---|---|---|");
    measure("the daemon's API, apps", || swarm.apps(&base).map_or(0, |apps| apps.len()));
    measure("the `docker` program, one list per kind", || by_lists(&docker));
    measure("the `docker` program, lists and inspects", || by_program(&docker));
    Ok(())
}
