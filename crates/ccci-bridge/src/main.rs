//! `cc-ci-bridge`: from `!testme` in a comment to a build on Drone.
//!
//! The one program of cc-ci that the network reaches, so it has a crate, a process and a user of its own, and starts
//! no other. It polls ([`poll`], [`watch`]), so that nothing needs to reach this host; a signed webhook
//! ([`webhook`]) only makes it look at once. What it took carries a reaction on the forge, given before the
//! build is started; what it has seen is in its state directory ([`ledger`]), so that a restart misses nothing.

mod answer;
mod approval;
mod command;
mod drone;
mod ledger;
mod poll;
mod service;
mod watch;
mod webhook;
mod wish;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ccci_core::config::Settings;
use ccci_core::lifetime::cause::exit;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use service::Ended;

const HELP: &str = "\
Reads the comments of the repositories in the settings' [bridge] every 30 seconds, and on a signed webhook at \
once. A comment of a member whose first line is `!testme`, `!testme --quick` or `!testme COMMIT` starts a build \
on Drone with RECIPE, REF, PR, SRC, CCCI_REPOSITORY, CCCI_APPROVAL and CCCI_QUICK as its parameters. REF is the \
pull request's head, if it was there when the comment was written. A comment that was taken carries the reaction \
`eyes`, one that started nothing `confused`, with an answer that says why.

Example:
  cc-ci-bridge --config /etc/cc-ci/settings.toml

Exit codes:
  2    not configured, or a secret or the state directory cannot be used
  69   its listener or its loop ended: to be started again
  143  it was told to stop";

/// Starts a build for every `!testme` of a member on an enrolled repository; ends with SIGTERM
#[derive(Debug, Parser)]
#[command(name = "cc-ci-bridge", version, after_help = HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    /// The settings file [default: /etc/cc-ci/settings.toml where it exists]
    #[arg(long, value_name = "FILE", env = "CCCI_SETTINGS")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// For packagers: write man pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(ccci_manual::Generate),
}

fn main() -> ExitCode {
    let cli = match ccci_manual::arguments::<Cli>() {
        Ok(cli) => cli,
        Err(error) => {
            let _unseen = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::GREEN });
        }
    };
    let level = std::env::var("CCCI_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_ansi(false)
        .without_time()
        .init();
    let (code, why) = match run(&cli) {
        Ok(()) => (exit::GREEN, None),
        Err(Ended::Told(signal)) => (exit::CANCELLED, Some(format!("{signal}: the bridge ends"))),
        Err(Ended::Unusable(error)) => (exit::USAGE, Some(format!("cc-ci-bridge: {error:#}"))),
        Err(Ended::Broken(why)) => (exit::HOST, Some(format!("cc-ci-bridge: {why}; it is to be started again"))),
    };
    why.iter().for_each(|why| say(why));
    ExitCode::from(code)
}

fn run(cli: &Cli) -> Result<(), Ended> {
    if let Some(Command::Generate(what)) = &cli.command {
        return what.write(Cli::command()).map_err(|error| Ended::Unusable(error.into()));
    }
    let settings = Settings::load(cli.config.as_deref()).map_err(|error| Ended::Unusable(error.into()))?;
    let (Some(forge), Some(bridge)) = (settings.forge, settings.bridge) else {
        let why = "the settings have no [bridge]: docs/operations.md shows one";
        return Err(Ended::Unusable(anyhow::anyhow!(why)));
    };
    service::run(forge, bridge)
}

/// The file with a secret: systemd's credential of that name, where the unit has one, else the settings' own.
fn secret_file(name: &str, settings: &Path) -> PathBuf {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join(name));
    credential.filter(|path| path.exists()).unwrap_or_else(|| settings.to_owned())
}

/// A line for the service's log.
fn say(line: &str) {
    // Nobody reads it: no reason to stop.
    let _unseen = writeln!(std::io::stderr(), "{line}");
}
