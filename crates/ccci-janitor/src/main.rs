//! `cc-ci-janitor`: reaps what dead runs left behind.
//!
//! Survey ([`survey`]) → plan, a pure function ([`plan`]) → the lock decides → reap under the lock
//! ([`sweep`]). It keeps no list of the living and looks at no ages: who holds an app's lock is alive,
//! and nobody else is. What it remembers between sweeps ([`ccci_core::memory`]) only makes it more patient.

mod metrics;
mod plan;
mod report;
mod survey;
mod sweep;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ccci_core::config::{ConfigError, Places, Settings, duration};
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::signals::Signals;
use ccci_core::visible;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

const EXIT_CODES: &str = "\
Exit codes:
    0  swept; nothing is left of dead runs
    1  something could not be removed, is quarantined, or a dead guard's teardown is still to come
    2  usage or configuration error
   69  a source could not be read, so nothing was reaped that it could hide";

/// Reaps what dead test runs left behind on this host.
#[derive(Debug, Parser)]
#[command(name = "cc-ci-janitor", version, after_help = EXIT_CODES)]
struct Cli {
    /// The settings file [default: /etc/cc-ci/settings.toml where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "CCCI_SETTINGS")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at everything once, and reap what has no living run
    #[command(after_help = "Examples:\n  cc-ci-janitor sweep --dry-run\n  cc-ci-janitor sweep --json --budget 4m\n  \
                      cc-ci-janitor sweep --metrics /var/lib/node_exporter/cc-ci.prom")]
    Sweep(Sweep),
    /// For packagers: write man pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(ccci_manual::Generate),
}

#[derive(Debug, Args)]
struct Sweep {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
    /// Begin nothing new after this long
    #[arg(long, value_name = "DURATION", default_value = "4m", value_parser = duration::parse)]
    budget: Duration,
    /// Write metrics for node_exporter's textfile collector to this file
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
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
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _unseen =
                writeln!(std::io::stderr(), "cc-ci-janitor: {}", visible::text(&ccci_core::reason::of(error.as_ref())));
            ExitCode::from(if error.downcast_ref::<ConfigError>().is_some() { exit::USAGE } else { exit::HOST })
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<u8> {
    let args = match &cli.command {
        Command::Sweep(args) => args,
        Command::Generate(what) => {
            what.write(Cli::command())?;
            return Ok(exit::GREEN);
        }
    };
    let settings = Settings::load(cli.config.as_deref())?;
    let places = Places::find(&settings)?;
    // A reap that has begun ends; systemd's stop timeout is the last word.
    let signals = Signals::listen()?;
    let options = sweep::Options { dry_run: args.dry_run, budget: args.budget };
    let report = sweep::run(&settings, &places, &options, &signals)?;
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    match writeln!(std::io::stdout(), "{}", visible::text(text.trim_end())) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    // A dry run changes nothing, and knows less than a sweep.
    if let Some(path) = args.metrics.as_ref().filter(|_| !args.dry_run) {
        metrics::write(path, &report)?;
    }
    Ok(report.exit_code())
}
