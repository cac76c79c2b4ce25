//! `cc-ci-lint`: the house rules of this repository, the tools that hold the rest, and recipes.
//!
//! Check-only by default. A tool that is missing is a failure: what was not looked at is not clean.

mod abra;
mod recipe;
mod rules;
mod tools;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use xshell::Shell;

use tools::{NixTool, Options};

const EXIT_CODES: &str = "\
Exit codes:
    0  the last line is `lint: PASS`
    1  the last line is `lint: FAIL`, and each problem stands above it";

/// Lint for cc-ci.
#[derive(Debug, Parser)]
#[command(name = "cc-ci-lint", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check this repository: house rules, and the tools that hold the rest
    #[command(after_help = "Examples:\n  cc-ci-lint repo\n  cc-ci-lint repo --fix\n  cc-ci-lint repo --rules-only")]
    Repo(Repo),
    /// Check a recipe, and its test folder where it has one
    ///
    /// abra lints the last commit, in a clone: it would take untracked files for the recipe's. Its broken
    /// rules of severity error fail the lint; those of severity warning are shown.
    #[command(
        after_help = "Examples:\n  cc-ci-lint recipe ./hello --tests-dir tests/recipes\n  cc-ci-lint recipe ./hello --no-abra"
    )]
    Recipe(Recipe),
    /// For packagers: write man pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(ccci_manual::Generate),
}

#[derive(Debug, Args)]
struct Repo {
    /// Let the formatters write
    #[arg(long)]
    fix: bool,
    /// Only the house rules, no outside tools
    #[arg(long, conflicts_with = "fix")]
    rules_only: bool,
    /// Leave Nix files to these tools elsewhere, to all three by default: outside Nix not each can be had
    #[arg(
        long,
        value_name = "TOOL,...",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "statix,deadnix,nixfmt"
    )]
    no_nix: Vec<NixTool>,
    /// The repository
    #[arg(default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Recipe {
    /// The recipe
    dir: PathBuf,
    /// The folder with a test folder per recipe
    #[arg(long, value_name = "DIR", default_value = "tests/recipes", env = "CCCI_TESTS_DIR")]
    tests_dir: PathBuf,
    /// Leave out what `abra recipe lint` looks at
    #[arg(long)]
    no_abra: bool,
}

fn main() -> ExitCode {
    let found = match Cli::parse().command {
        Command::Repo(repo) => lint(&repo),
        Command::Recipe(recipe) => lint_recipe(&recipe),
        Command::Generate(what) => return generate(&what),
    };
    let problems = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for problem in &problems {
        say(problem);
    }
    say(if problems.is_empty() { "lint: PASS" } else { "lint: FAIL" });
    ExitCode::from(u8::from(!problems.is_empty()))
}

fn lint(repo: &Repo) -> anyhow::Result<Vec<String>> {
    let shell = Shell::new()?;
    let dir = &repo.dir;
    shell.change_dir(dir.canonicalize().with_context(|| format!("no such folder: {}", dir.display()))?);
    let files = tools::files(&shell)?;
    let mut problems = rules::check(&shell, &files);
    if !repo.rules_only {
        problems.extend(tools::run(&shell, &files, Options { fix: repo.fix, without: &repo.no_nix }));
        if !repo.no_nix.is_empty() && files.iter().any(|file| file.ends_with(".nix")) {
            let tools: Vec<_> = repo.no_nix.iter().map(|tool| tool.name()).collect();
            say(&format!(
                "== NOT LOOKED AT (--no-nix): *.nix by {}; with Nix: nix develop .#lint --command cc-ci-lint repo ==",
                tools.join(", ")
            ));
        }
    }
    Ok(problems)
}

fn lint_recipe(recipe: &Recipe) -> anyhow::Result<Vec<String>> {
    let found = recipe::check(&recipe.dir, &recipe.tests_dir, !recipe.no_abra)?;
    for note in &found.notes {
        say(note);
    }
    if recipe.no_abra {
        say("== NOT LOOKED AT (--no-abra): the rules of `abra recipe lint` ==");
    }
    Ok(found.problems)
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
