//! The one module that talks to abra.
//!
//! Each verb is a method with its own limit of time. Every call is made with `-n`, so that nothing asks;
//! what touches a recipe also with `-C -o`, so that the tree stays as the run put it and the network is
//! left alone. `docs/abra.md` says of each call what is known about it, and how surely.
//!
//! Nothing here lists or removes apps: `abra app ls` dies of one bad env file (`[app-ls]`), and
//! removal is [`crate::teardown`]'s.

mod secrets;
pub mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Finished, Job, ProcessError};
pub use secrets::Secret;
use table::{Table, TableError};

/// What only reads or writes files.
const QUICK: Duration = Duration::from_secs(60);
/// Secrets: a request to Docker for each.
const SECRETS: Duration = Duration::from_secs(120);
/// A deploy only hands over: the harness itself waits for convergence.
const HAND_OVER: Duration = Duration::from_secs(300);
/// Moving an app's data.
const DATA: Duration = Duration::from_secs(1800);

/// Why abra did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AbraError {
    /// It could not be run, or ended badly.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended well and said something that is not understood.
    #[error("cannot understand what `{command}` printed: {why}")]
    Unexpected {
        /// The command line.
        command: String,
        /// What is wrong; never the output itself, which may hold secrets.
        why: String,
    },
    /// It ended without a table that could be judged.
    #[error("`{command}`: {source}")]
    NoTable {
        /// The command line.
        command: String,
        /// Why there is none.
        source: TableError,
    },
}

impl AbraError {
    /// Whether abra itself said no, in words that [`std::fmt::Display`] shows. Everything else is
    /// about this host: no abra, or one that hangs or is of another version.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Failed { ended: crate::process::Ended::Exited(_), .. }))
    }
}

/// Which files are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How<'version> {
    /// Those of a release, by its annotated tag, from a clean tree.
    Pinned(&'version str),
    /// Those in the recipe's tree, whatever they are.
    Chaos,
}

/// abra with an `ABRA_DIR`.
#[derive(Debug, Clone)]
pub struct Abra {
    program: PathBuf,
    dir: PathBuf,
}

impl Abra {
    /// The abra on the `PATH`.
    #[must_use]
    pub fn installed() -> Option<PathBuf> {
        crate::process::find_program("abra")
    }

    /// This abra, at work in this `ABRA_DIR`.
    #[must_use]
    pub const fn new(program: PathBuf, dir: PathBuf) -> Self {
        Self { program, dir }
    }

    fn call(&self, words: &[&str], limit: Duration) -> Job {
        Job::tool(&self.program)
            .args(words)
            .args(["-n"])
            .env([("NO_COLOR", "1")])
            .env([("ABRA_DIR", &self.dir)])
            .timeout(limit)
    }

    /// A call that touches a recipe.
    fn offline(&self, words: &[&str], limit: Duration) -> Job {
        self.call(words, limit).args(["-C", "-o"])
    }

    /// Makes the env file of a new app. It may leave the recipe's tree at another commit.
    ///
    /// # Errors
    /// [`AbraError`], with the end of what it said.
    pub fn new_app(
        &self,
        recipe: &str,
        server: &str,
        domain: &str,
        say: &mut dyn FnMut(&str),
    ) -> Result<Finished, AbraError> {
        let words = ["app", "new", recipe, "--server", server, "--domain", domain];
        Ok(self.offline(&words, QUICK).run_ok(say)?)
    }

    /// Generates every secret of an app that can be generated and is not there yet.
    ///
    /// # Errors
    /// [`AbraError`]; what it printed on stdout is never part of it.
    pub fn generate_secrets(&self, domain: &str, say: &mut dyn FnMut(&str)) -> Result<Vec<Secret>, AbraError> {
        let call = self.offline(&["app", "secret", "generate", domain, "--all", "-m"], SECRETS).capture();
        let done = call.run_ok(say)?;
        secrets::parse(&done.stdout).map_err(|why| AbraError::Unexpected { command: call.command_line(), why })
    }

    /// Makes a secret with the value in `file`: on a command line everybody could read it.
    ///
    /// # Errors
    /// [`AbraError`].
    pub fn insert_secret(
        &self,
        domain: &str,
        name: &str,
        version: &str,
        file: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Finished, AbraError> {
        let call = self.offline(&["app", "secret", "insert", domain, name, version], SECRETS).args(["-f"]).args([file]);
        Ok(call.run_ok(say)?)
    }

    /// Deploys an app, also over what is deployed of it, and returns when Swarm has it.
    ///
    /// # Errors
    /// [`AbraError`], with the end of what it said.
    pub fn deploy(&self, domain: &str, how: How<'_>, say: &mut dyn FnMut(&str)) -> Result<Finished, AbraError> {
        // `-c`: not to wait for convergence; `-f`: also what is deployed already.
        let always = ["-c", "-f", "--no-domain-checks"];
        let call = match how {
            How::Pinned(version) => self.call(&["app", "deploy", domain, version], HAND_OVER).args(["-o"]),
            How::Chaos => self.offline(&["app", "deploy", domain], HAND_OVER),
        };
        Ok(call.args(always).run_ok(say)?)
    }

    /// Has the host's backup bot save an app.
    ///
    /// # Errors
    /// [`AbraError`], with the end of what it said.
    pub fn back_up(&self, domain: &str, say: &mut dyn FnMut(&str)) -> Result<Finished, AbraError> {
        Ok(self.offline(&["app", "backup", "create", domain], DATA).terminal().run_ok(say)?)
    }

    /// Has the host's backup bot put an app's data back as it last saved them.
    ///
    /// # Errors
    /// [`AbraError`], with the end of what it said.
    pub fn restore(&self, domain: &str, say: &mut dyn FnMut(&str)) -> Result<Finished, AbraError> {
        Ok(self.offline(&["app", "restore", domain], DATA).terminal().run_ok(say)?)
    }

    /// Lints a recipe of this `ABRA_DIR`; see [`lint_commit`] for one in a repository.
    ///
    /// # Errors
    /// [`AbraError`]; also when it ends well and prints no table, which is never a pass.
    pub fn lint(&self, recipe: &str) -> Result<Table, AbraError> {
        let call = self.offline(&["recipe", "lint", recipe], QUICK).terminal();
        let mut said = Vec::new();
        // Its exit code says whether it could lint; failing rules are in the table only.
        call.run_ok(&mut |line| said.push(line.to_owned()))?;
        table::parse(said.iter().map(String::as_str))
            .map_err(|source| AbraError::NoTable { command: call.command_line(), source })
    }
}

/// Why a recipe was not linted.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// abra, or its table.
    #[error(transparent)]
    Abra(#[from] AbraError),
    /// The clean clone that it lints could not be made.
    #[error("cannot make a clean clone to lint: {0}")]
    Clone(String),
}

impl From<io::Error> for LintError {
    fn from(error: io::Error) -> Self {
        Self::Clone(error.to_string())
    }
}

impl From<ProcessError> for LintError {
    fn from(error: ProcessError) -> Self {
        Self::Clone(error.to_string())
    }
}

/// Lints a commit of a local repository in a clean clone with an `ABRA_DIR` of its own: abra reads
/// every `compose*.yml` in the tree, untracked ones too, and fetches tags from `origin`, which is then
/// the local repository.
///
/// # Errors
/// [`LintError`].
pub fn lint_commit(program: &Path, recipe: &str, repository: &Path, commit: &str) -> Result<Table, LintError> {
    let dir = tempfile::Builder::new().prefix("ccci-lint-").tempdir()?;
    for needed in ["recipes", "servers", "catalogue"] {
        std::fs::create_dir(dir.path().join(needed))?;
    }
    let tree = dir.path().join("recipes").join(recipe);
    let clone =
        crate::process::git(dir.path()).args(["-c", "safe.directory=*", "clone", "--quiet", "--no-checkout", "--"]);
    clone.args([repository, &tree]).run_ok(&mut |_| {})?;
    crate::process::git(&tree).args(["checkout", "--quiet", "--detach", commit]).run_ok(&mut |_| {})?;
    Ok(Abra::new(program.to_owned(), dir.path().to_owned()).lint(recipe)?)
}
