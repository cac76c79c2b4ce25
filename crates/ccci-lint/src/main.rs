//! `cc-ci-lint`: the house rules of this repository, and the tools that hold the rest.
//!
//! Check-only by default. A tool that is missing is a failure: what was not looked at is not clean.

mod rules;
mod tools;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use xshell::Shell;

/// Lint for cc-ci.
#[derive(Debug, Parser)]
#[command(name = "cc-ci-lint", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check this repository; the last line is `lint: PASS` or `lint: FAIL`
    #[command(after_help = "Examples:\n  cc-ci-lint repo\n  cc-ci-lint repo --fix\n  cc-ci-lint repo --rules-only")]
    Repo {
        /// Let the formatters write
        #[arg(long)]
        fix: bool,
        /// Only the house rules, no outside tools
        #[arg(long, conflicts_with = "fix")]
        rules_only: bool,
        /// The repository
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// For packagers: write man pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(ccci_manual::Generate),
}

fn main() -> ExitCode {
    let found = match Cli::parse().command {
        Command::Repo { fix, rules_only, dir } => lint(&dir, fix, rules_only),
        Command::Generate(what) => return generate(&what),
    };
    let problems = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for problem in &problems {
        say(problem);
    }
    say(if problems.is_empty() { "lint: PASS" } else { "lint: FAIL" });
    ExitCode::from(u8::from(!problems.is_empty()))
}

fn lint(dir: &Path, fix: bool, rules_only: bool) -> anyhow::Result<Vec<String>> {
    let shell = Shell::new()?;
    shell.change_dir(dir.canonicalize().with_context(|| format!("no such folder: {}", dir.display()))?);
    let files = tools::tracked(&shell)?;
    let mut problems = rules::check(&shell, &files);
    if !rules_only {
        problems.extend(tools::run(&shell, &files, fix));
    }
    Ok(problems)
}

fn generate(what: &ccci_manual::Generate) -> ExitCode {
    match what.write(Cli::command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unseen = writeln!(std::io::stderr(), "cc-ci-lint: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever closed stdout still gets the exit code.
    let _unseen = writeln!(std::io::stdout(), "{line}");
}
