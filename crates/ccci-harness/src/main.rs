//! `cc-ci-run`: exclusive test deploys with guaranteed cleanup on a shared CI host.
//!
//! One program, three parts: the keeper ([`keeper`]), the worker ([`worker`]) and the reaper
//! ([`reaper`]); `docs/architecture.md` tells the life of a run.

mod checkup;
mod cli;
mod command;
mod console;
mod engine;
mod event;
mod exit;
mod forge;
mod guard;
mod health;
mod history;
mod keeper;
mod outcome;
mod page;
mod paint;
mod plan;
mod progress;
mod reaper;
mod recipe;
mod request;
mod results;
mod selftest;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use ccci_core::lifetime::cause;
use ccci_core::rundir::RunDir;
use tracing_subscriber::filter::LevelFilter;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match ccci_manual::arguments::<Cli>() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stdout or stderr must not turn help into a failure.
            let _unseen = error.print();
            return ExitCode::from(if error.use_stderr() { cause::exit::USAGE } else { cause::exit::GREEN });
        }
    };
    let level = std::env::var("CCCI_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(console::outlet::Log::new)
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_ansi(false)
        .without_time()
        .init();

    // A run leaves the caller's directory before it reads them.
    let config = cli.config.map(|path| std::path::absolute(&path).unwrap_or(path));
    let done = match cli.command {
        Command::Run(run) => command::run(*run, config.as_deref()),
        Command::Guard(guard) => command::guard(guard, config.as_deref()),
        Command::Status(status) => command::status::main(&status, config.as_deref()),
        Command::Report(report) => command::report::main(&report, config.as_deref()),
        Command::Exec(exec) => command::exec::main(&exec, config.as_deref()),
        Command::Doctor(output) => command::doctor::main(output, config.as_deref()),
        Command::Reap(reap) => command::reap::main(&reap, config.as_deref()),
        Command::Selftest(cli::Selftest::Runner(runner)) => selftest::runner(&runner, config.as_deref()),
        Command::SelftestPart(part) => selftest::part(&part),
        Command::Bridge => command::bridge::main(config.as_deref()),
        Command::Config(cli::Config::Check { file }) => command::config_check(&file),
        Command::Generate(what) => command::generate(&what),
        Command::Announce { dir } => forge::announcing(&RunDir::open(dir)),
        Command::Conclude { dir } => command::conclude::main(&RunDir::open(dir)),
        Command::Reaper { dir, lock, within, claim, preclean } => {
            let mode = if preclean { reaper::Mode::Preclean } else { reaper::Mode::Teardown };
            let within = within.map(Duration::from_millis);
            let dir = reaper::shared_dir(dir, claim);
            dir.and_then(|dir| reaper::main(&dir, lock, mode, within)).map(ExitCode::from)
        }
    };
    done.unwrap_or_else(|error| ExitCode::from(command::code(Err(error))))
}
