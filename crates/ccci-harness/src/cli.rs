//! The command line of `cc-ci-run`.

use std::path::PathBuf;
use std::time::Duration;

use ccci_core::config::forge::Repository;
use ccci_core::config::{OnConflict, duration};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::outcome::Tier;

const EXIT_CODES: &str = "\
Exit codes:
    0  green
    1  red: a test failed, the deploy count is off, or something was left behind
    2  usage, configuration or test-folder error
   69  the host cannot do it, or not all that the verdict needs is known; not the recipe's fault
   75  the lock was not had in time, the conflict was refused, or too little time is left
  142  the deadline passed
  143  cancelled";

const RUN_EXAMPLES: &str = "\
Examples:
  cc-ci-run run hello --src ./hello --ref main
  RECIPE=hello PR=12 REF=4f2a9c1 CCCI_PARENT_PID=$$ cc-ci-run run
  cc-ci-run run hello --on-conflict supersede --deadline 30m --keep 10m";

const STATUS_EXAMPLES: &str = "\
Examples:
  cc-ci-run status
  cc-ci-run status --watch
  cc-ci-run status --json | jq -r '.leftovers[].domain'
  cc-ci-run status --watch --json | jq -c '[.locks[].progress.phase]'

Takes no lock and asks no run: the kernel says who holds and who waits. Exits 69 where something could \
not be looked at, so that \"could not look\" is never taken for \"nothing is left\".";

const REPORT_EXAMPLES: &str = "\
Examples:
  cc-ci-run report --site /var/www/ci
  cc-ci-run report --site ./site && xdg-open ./site/index.html

A page for the host, one for each recipe with its badge, one for each run with timeline, tests, receipt \
and logs. No script and no build step; it works from a folder. The folder is replaced as a whole, in one \
step. The logs of a run in whose files a secret was found are left out.";

const EXEC_EXAMPLES: &str = "\
Example, in hooks/pre_backup:
  cc-ci-run exec --service db -- pg_dump --file /backup/dump.sql app

Waits until the service has a running container of the version that is deployed, so a container that \
is just being replaced is never asked. The command's exit status is passed on.";

const GUARD_EXAMPLES: &str = "\
Examples:
  cc-ci-run guard --name db --deadline 10m --teardown ./down.sh -- ./test.sh
  cc-ci-run guard --name staging --on-conflict fail -- make deploy-test

The command's exit status is passed on; 126 and 127 are those of a command that cannot be started or is \
not there, as of a shell. It has the caller's stdin and terminal: what is typed to end it (Ctrl-C) is for the \
command alone, Ctrl-Z stops and `fg` continues both. While it runs, no other guard of the same name does, on the \
whole host; however it ends, everything that it started is ended and the teardown runs. That is told in \
CCCI_CAUSE (ended, operator, parent_died, deadline, alarm, keeper_died, killed) and CCCI_EXIT how it came to it.";

const SELFTEST_EXAMPLE: &str = "\
As a step of a build of its own, called as `run` is:
  CCCI_PARENT_PID=$$ cc-ci-run selftest runner
Then cancel the build, and read /var/lib/cc-ci/selftest-runner.json on the host: `says` has it in words, \
docs/operations.md tells what to make of it.

Exit codes: 143 cancelled, and not killed afterwards; 1 nobody cancelled it.";

/// Exclusive test deploys with guaranteed cleanup on a shared CI host.
#[derive(Debug, Parser)]
#[command(name = "cc-ci-run", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    /// The settings file [default: /etc/cc-ci/settings.toml where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "CCCI_SETTINGS")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploy a recipe, test it, take it down, report
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Run any command under an exclusive lock, with a deadline and a guaranteed teardown
    #[command(after_help = GUARD_EXAMPLES)]
    Guard(Guard),
    /// Show every lock with its holder, phase and waiters, the slots, and what is left over
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Write the runs of this host as a site of plain files
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Report),
    /// Say whether this host can do what a run will ask of it, and what to do where not
    Doctor(Output),
    /// Run a command in a service of the app under test, for hooks and tests
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(Exec),
    /// Take down what a dead run left behind
    #[command(after_help = "Example:\n  cc-ci-run reap hell-0a1b2c.ci.example.org")]
    Reap(Reap),
    /// Moved: becomes the program `cc-ci-bridge`, for units that start it by this name
    #[command(hide = true)]
    Bridge,
    /// Check a settings file or a test folder
    #[command(subcommand)]
    Config(Config),
    /// Find out what this host's CI runner does to a run
    #[command(subcommand)]
    Selftest(Selftest),
    /// One part of a selftest; started by it
    #[command(hide = true)]
    SelftestPart(SelftestPart),
    /// For packagers: write man pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(ccci_manual::Generate),
    /// One part of a run; started by the keeper
    #[command(hide = true)]
    Announce { dir: PathBuf },
    /// One part of a run; started by the keeper or by the worker
    #[command(hide = true)]
    Reaper {
        dir: PathBuf,
        lock: i32,
        /// Milliseconds.
        #[arg(long)]
        within: Option<u64>,
        #[arg(long)]
        claim: Option<i32>,
        #[arg(long)]
        preclean: bool,
    },
    /// Write the result of a run that died without one; started by the janitor
    #[command(hide = true)]
    Conclude { dir: PathBuf },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Conflict {
    /// Wait for it, in order
    Wait,
    /// Do not begin, and exit with 75
    Fail,
    /// Ask that run to stop, and wait until it has cleaned up
    Supersede,
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Wait => Self::Wait,
            Conflict::Fail => Self::Fail,
            Conflict::Supersede => Self::Supersede,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EngineChoice {
    /// `abra` where it is installed and a Swarm is active, else `swarm` where one is, else `local`
    Auto,
    /// abra, as Co-op Cloud's operators deploy
    Abra,
    /// The recipe's compose files, straight onto Docker Swarm
    Swarm,
    /// Plain processes, declared in the test folder
    Local,
}

/// The clocks and the answer to a conflict, alike for `run` and `guard`.
#[derive(Debug, Args)]
pub(crate) struct Holding {
    /// The longest it may take once it has the lock, such as 90s or 30m [default: 60m]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub(crate) deadline: Option<Duration>,
    /// The longest wait for the lock [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) wait_timeout: Option<Duration>,
    /// What to do when another run has the lock [default: wait]
    #[arg(long, value_enum)]
    pub(crate) on_conflict: Option<Conflict>,
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        zero if zero.is_zero() => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The recipe
    #[arg(env = "RECIPE")]
    pub(crate) recipe: String,
    /// Where the recipe is: a folder or a URL [default: recipe_url of the settings]
    #[arg(long, value_name = "DIR|URL", env = "SRC")]
    pub(crate) src: Option<String>,
    /// The commit, branch or tag to test [default: the source's HEAD]
    #[arg(long = "ref", value_name = "REF", env = "REF", default_value = "", hide_default_value = true)]
    pub(crate) git_ref: String,
    /// The pull request's number [default: 0, none]
    #[arg(long, value_name = "N", env = "PR", default_value = "0", hide_default_value = true, value_parser = digits)]
    pub(crate) pr: String,
    /// The forge's repository that the pull request is of; else `repository` of the settings' `[forge]`
    #[arg(long, value_name = "OWNER/NAME", env = "CCCI_REPOSITORY")]
    pub(crate) repository: Option<Repository>,
    /// How to deploy
    #[arg(long, value_enum, default_value = "auto", env = "CCCI_ENGINE")]
    pub(crate) engine: EngineChoice,
    /// The folder with a test folder per recipe [default: tests/recipes, where it exists]
    #[arg(long, value_name = "DIR", env = "CCCI_TESTS_DIR", value_parser = folder)]
    pub(crate) tests_dir: Option<PathBuf>,
    /// Which stages to run, separated by commas, with those that they need (restore: backup) [default: all]
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', env = "STAGES")]
    pub(crate) stages: Vec<Tier>,
    /// Begin with the data kept of the last good release, upgrade them to the ref, run the upgrade and custom
    /// tests; where nothing is kept, deploy the ref and run the install and custom tests. Tells of no level, and
    /// the forge under a name of its own: nothing is to hang on it. --stages may say other stages
    #[arg(long, env = "CCCI_QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) quick: bool,
    /// The version to upgrade from [default: the newest release tag before the ref]
    #[arg(long, value_name = "TAG", env = "VERSION")]
    pub(crate) version_from: Option<String>,
    /// A variable for the app's env file; in EXTRA_ENV one a line
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment, value_delimiter = '\n', env = "EXTRA_ENV")]
    pub(crate) env: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) holding: Holding,
    /// Leave the app up for this long after the tests, under the lock
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub(crate) keep: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn digits(text: &str) -> Result<String, String> {
    // Drone leaves variables empty where there is no pull request.
    match text {
        "" => Ok("0".to_owned()),
        // `007` is 7: the number is a part of what an app's domain is made of.
        text if text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let number = text.trim_start_matches('0');
            Ok(if number.is_empty() { "0" } else { number }.to_owned())
        }
        _ => Err("it is a pull request's number, such as 12".to_owned()),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match text.trim().split_once('=') {
        // What a CI leaves of an empty list.
        None if text.trim().is_empty() => Ok((String::new(), String::new())),
        Some((key, value)) if name(key) => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE, the name of letters, digits and `_`".to_owned()),
    }
}

/// Whoever names a folder of tests and misspells it must not get fewer tests for it.
fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    // What a CI leaves of a variable without a value.
    if text.is_empty() || path.is_dir() { Ok(path) } else { Err("there is no such folder".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct Guard {
    /// What to exclude on: one holder per name on the whole host
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) holding: Holding,
    /// Run by `sh -c` when the command has ended, however it ended; tried three times
    #[arg(long, value_name = "COMMAND")]
    pub(crate) teardown: Option<String>,
    /// Close the command's stdin, which is otherwise the caller's
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Say only what went wrong
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// The command
    #[arg(last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Go on until Ctrl-C: a live picture on a terminal, each change elsewhere
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The folder, which is made, or replaced if it is a site already
    #[arg(long, value_name = "DIR")]
    pub(crate) site: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The service
    #[arg(long, default_value = "app")]
    pub(crate) service: String,
    /// How long to wait for a running container of the deployed version
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = positive)]
    pub(crate) wait: Duration,
    /// The app's domain
    #[arg(long, env = "CCCI_APP_DOMAIN")]
    pub(crate) domain: String,
    /// The command
    #[arg(last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Reap {
    /// The app's domain
    pub(crate) domain: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Selftest {
    /// Deploy nothing, wait to be cancelled, and write down what the runner really did
    #[command(after_help = SELFTEST_EXAMPLE)]
    Runner(Runner),
}

#[derive(Debug, Args)]
pub(crate) struct Runner {
    /// Where to write it [default: selftest-runner.json in the state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// How long to wait to be cancelled
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = positive)]
    pub(crate) limit: Duration,
    /// How long to go on after the first signal, to see whether SIGKILL follows
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = positive)]
    pub(crate) patience: Duration,
    /// How long to look on after the end, for what the runner does late
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    pub(crate) settle: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SelftestPart {
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// The end of the pipe that what is seen goes through
    #[arg(long)]
    pub(crate) seen: i32,
    /// The end of the pipe that lasts as long as the witness
    #[arg(long)]
    pub(crate) leash: i32,
    /// What the witness is to know
    #[arg(long, default_value = "")]
    pub(crate) brief: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// In the step's own process group
    Neighbour,
    /// In a session of its own
    Witness,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say whether a settings file or a recipe's test folder is right
    #[command(
        after_help = "Examples:\n  cc-ci-run config check /etc/cc-ci/settings.toml\n  cc-ci-run config check tests/recipes/hello"
    )]
    Check {
        /// The settings file, or the test folder
        file: PathBuf,
    },
}
