//! The n-th fault: one system call of a run fails, and the promise holds all the same.
//!
//! `cargo test --package ccci-tests --test faults` plays a sample that a CI can wait for. By hand:
//!
//! ```text
//! … --test faults -- --whole                         every n of every call (hours)
//! … --test faults -- --calls write,fsync --step 3    every third n of these
//! … --test faults -- --scenario guard --calls clone --only 7 --errno EAGAIN --span 1
//! ```
//! A scenario is run undisturbed first, which says how many calls there are. Then it is run once for each n, with the
//! n-th call failing (`inject.c` says how), and afterwards:
//!
//! - exit 0 only if everything passed, and `results.json` says so, whole;
//! - any other exit code is the scenario's own or 69: what the host could not do is never the recipe's fault;
//! - after one sweep nothing is left: no process, no lock file, nothing of the app;
//! - `results.json` agrees with the exit code;
//! - a guard's teardown ran exactly once if its command ran.

#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod fault;
mod scenario;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use ccci_core::process::Job;
use ccci_tests::binaries;

use fault::{Fault, KINDS};
use scenario::{Broken, Scenario, Stage};

/// How many cases when nobody says.
const SAMPLE: usize = 120;
/// When nobody says; a fixed one, so that a failure of CI is everybody's.
const SEED: u64 = 20_261;
/// So many scenarios beside each other: they wait half of their time.
const AT_ONCE: usize = 3;

fn say(text: &str) {
    let _unread = writeln!(std::io::stdout(), "faults: {text}");
}

/// The value of `--name`.
fn option(name: &str) -> Option<String> {
    let flag = format!("--{name}");
    std::env::args().skip_while(|arg| *arg != flag).nth(1)
}

fn number(name: &str) -> Option<u64> {
    option(name).map(|text| text.parse().unwrap_or_else(|_| panic!("--{name} {text}: not a number")))
}

/// Whether an item is wanted by a list of names.
fn wanted(list: Option<&String>, name: &str) -> bool {
    list.is_none_or(|list| list.split(',').any(|one| one == name))
}

/// The injector, built anew.
fn build() -> PathBuf {
    let program = binaries::dir().join("ccci-inject");
    let source = binaries::workspace().join("tests/faults/inject.c");
    let cc = Job::new("cc").args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).args([&program, &source]);
    cc.run_ok(&mut |line| say(line)).unwrap_or_else(|error| panic!("{error}"));
    program
}

/// `splitmix64`: the same sample on every machine.
const fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// All cases that were asked for, and how many calls each scenario makes.
fn cases(inject: &std::path::Path) -> Vec<(Scenario, Fault)> {
    let (calls, scenarios, errno) = (option("calls"), option("scenario"), option("errno"));
    let (step, only, span) = (number("step").unwrap_or(1), number("only"), number("span").unwrap_or(1));
    let mut all = Vec::new();
    for scenario in Scenario::ALL {
        if !wanted(scenarios.as_ref(), scenario.name()) {
            continue;
        }
        let stage = Stage::new(inject, scenario);
        let mut counts = BTreeMap::new();
        for kind in KINDS {
            if !wanted(calls.as_ref(), kind.call) || (calls.is_none() && kind.by_hand) {
                continue;
            }
            let total = *counts.entry(kind.call).or_insert_with(|| stage.count(kind.call));
            let errors = kind.errors.iter().filter(|error| wanted(errno.as_ref(), error.name));
            for error in errors {
                let numbers = only.map_or(1..=total, |only| only..=only);
                let faults = numbers.step_by(usize::try_from(step).unwrap());
                all.extend(faults.map(|nth| (scenario, Fault { call: kind.call, error: *error, nth, span })));
            }
        }
        say(&format!("{}: calls of an undisturbed run: {counts:?}", scenario.name()));
    }
    all
}

fn main() -> ExitCode {
    // What `cargo test` asks of every suite.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let inject = build();
    let seed = number("seed").unwrap_or(SEED);
    let mut all = cases(&inject);
    let total = all.len();
    let chosen = ["calls", "only", "scenario", "step"].iter().any(|name| option(name).is_some());
    if !std::env::args().any(|arg| arg == "--whole") && (!chosen || option("sample").is_some()) {
        let sample = usize::try_from(number("sample").unwrap_or(SAMPLE as u64)).unwrap();
        let mut numbered: Vec<_> = all.into_iter().enumerate().collect();
        numbered.sort_by_key(|(number, _)| mixed(seed ^ (*number as u64).wrapping_mul(0x9E37_79B9)));
        all = numbered.into_iter().map(|(_, case)| case).take(sample).collect();
    }
    say(&format!("{} of {total} cases, seed {seed}; {} s so far", all.len(), begun.elapsed().as_secs()));
    let count = all.len();
    let (todo, done) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| work(&inject, &todo, &done));
        }
    });
    let done = done.into_inner().unwrap();
    let failed = done.iter().filter(|(_, _, broken)| !broken.is_empty()).count();
    say(&format!("\n{}", table(&done)));
    say(&format!("{} s; seed {seed}", begun.elapsed().as_secs()));
    say(&format!("{} passed, {failed} failed", done.len() - failed));
    if failed == 0 && done.len() == count && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Done = (Scenario, Fault, Vec<Broken>);

fn work(inject: &std::path::Path, todo: &Mutex<std::vec::IntoIter<(Scenario, Fault)>>, done: &Mutex<Vec<Done>>) {
    let mut stages: BTreeMap<Scenario, Stage> = BTreeMap::new();
    loop {
        let Some((scenario, fault)) = todo.lock().unwrap().next() else { return };
        let mut stage = stages.remove(&scenario).unwrap_or_else(|| Stage::new(inject, scenario));
        let played = std::panic::catch_unwind(AssertUnwindSafe(|| stage.play(&fault)));
        let broken = played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            vec![Broken { what: "ends", how: text.lines().next().unwrap_or("panic").to_owned() }]
        });
        if broken.is_empty() {
            stages.insert(scenario, stage);
        } else {
            let hit = stage.hit();
            for Broken { what, how } in &broken {
                say(&format!("BROKEN {} {fault} [{hit}]: {what}: {how}", scenario.name()));
            }
        }
        done.lock().unwrap().push((scenario, fault, broken));
    }
}

/// By scenario and call: how many were tried, and how often each part of the promise was broken.
fn table(done: &[Done]) -> String {
    let mut rows: BTreeMap<(&str, &str, &str), (usize, BTreeMap<&str, usize>)> = BTreeMap::new();
    for (scenario, fault, broken) in done {
        let row = rows.entry((scenario.name(), fault.call, fault.error.name)).or_default();
        row.0 += 1;
        for one in broken {
            *row.1.entry(one.what).or_default() += 1;
        }
    }
    let mut text = "| scenario | call | error | cases | broken |\n|---|---|---|---|---|\n".to_owned();
    for ((scenario, call, error), (tried, broken)) in rows {
        let broken: Vec<String> = broken.iter().map(|(what, n)| format!("{n} {what}")).collect();
        text += &format!("| {scenario} | {call} | {error} | {tried} | {} |\n", broken.join(", "));
    }
    text
}
