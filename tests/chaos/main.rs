//! Chaos: many runs of several domains at once, and a random hand that kills, stops, unlinks, fills the
//! disk, and ends the Docker daemon.
//!
//! `cargo test --package ccci-tests --test chaos -- --engine local --rounds 1000 --seed 7`; `--only N` plays
//! one round of a seed again, `--length MS` as on a machine that is faster or slower. What is done, to
//! whom and when in the life of a run follows from the seed alone; what it meets there is the kernel's
//! affair. After each round:
//!
//! - one kill: nothing is left, *without* the janitor;
//! - several, unlinked lock files, a full disk, another daemon: nothing is left after one sweep;
//! - a run that nobody aimed at is green, and none that was only robbed of its lock file lost its app;
//! - the witness, a live run or another's stack, is what it was.
//!
//! Without arguments both engines are played, as many rounds as a CI can wait for.

#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod disk;
mod ground;
mod play;
mod round;
mod tally;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ccci_tests::host::Host;

use ground::Ground;
use ground::local::Local;
use ground::swarm::OnSwarm;
use play::Play;
use round::Round;

/// How many rounds when nobody says: a few minutes each.
const LOCAL_ROUNDS: u64 = 200;
const SWARM_ROUNDS: u64 = 10;
/// When nobody says; a fixed one, so that a failure of CI is everybody's.
const SEED: u64 = 20_260;

fn say(text: &str) {
    let _unread = writeln!(std::io::stdout(), "chaos: {text}");
}

/// What was asked for.
struct Options {
    rounds: Option<u64>,
    seed: u64,
    only: Option<u64>,
    length: Option<Duration>,
}

/// Plays on one ground.
fn play(engine: &str, ground: &dyn Ground, rounds: u64, options: &Options) {
    let begun = Instant::now();
    let seed = options.seed;
    let mut play = Play::new(ground, options.length);
    let length = play.length.as_millis();
    let numbers = options.only.map_or(0..options.rounds.unwrap_or(rounds), |only| only..only + 1);
    say(&format!("{engine}: seed {seed}, {} rounds; an undisturbed run takes {length} ms", numbers.clone().count()));
    for number in numbers {
        let round = Round::of(seed, number, ground.kinds());
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| play.play(&round))) {
            say(&format!("{engine}: round {number} of seed {seed} FAILED: {round:#?}\n{}", play.tally));
            say(&format!(
                "again: cargo test --package ccci-tests --test chaos -- --engine {engine} --seed {seed} --only {number} \
                 --length {length}"
            ));
            std::panic::resume_unwind(panic);
        }
        if (number + 1) % 50 == 0 {
            say(&format!("{engine}: {} rounds, {} s", number + 1, begun.elapsed().as_secs()));
        }
    }
    let seconds = begun.elapsed().as_secs();
    say(&format!("{engine}: seed {seed}: {}; leaks: 0; witness intact; {seconds} s", play.tally));
}

/// The value of `--name`, or of the variable `CCCI_CHAOS_NAME`.
fn option(name: &str) -> Option<String> {
    let flag = format!("--{name}");
    let mut args = std::env::args().skip_while(|arg| *arg != flag).skip(1);
    args.next().or_else(|| std::env::var(format!("CCCI_CHAOS_{}", name.to_uppercase())).ok())
}

fn number(name: &str) -> Option<u64> {
    option(name).map(|text| text.parse().unwrap_or_else(|_| panic!("--{name} {text}: not a number")))
}

fn main() -> ExitCode {
    // What `cargo test` asks of every suite.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let options = Options {
        rounds: number("rounds"),
        seed: number("seed").unwrap_or(SEED),
        only: number("only"),
        length: number("length").map(Duration::from_millis),
    };
    let engine = option("engine").unwrap_or_else(|| "both".to_owned());
    assert!(["local", "swarm", "both"].contains(&engine.as_str()), "--engine {engine}: local, swarm or both");
    if engine != "swarm" {
        let host = Host::new();
        let local = Local::new(&host);
        play("local", &local, LOCAL_ROUNDS, &options);
        local.leave();
    }
    if engine != "local" {
        play("swarm", &OnSwarm::new(), SWARM_ROUNDS, &options);
    }
    ExitCode::SUCCESS
}
