//! The parts of a run: this same program as worker or reaper.

use std::ffi::{OsStr, OsString};

use super::{Child, ProcessError, null, orphans};
use crate::lifetime::exec::{Birth, SELF_EXE};
use crate::lifetime::fork::{self, Change};
use crate::lifetime::launch::Program;

/// Starts this same program as another part of the run.
///
/// # Errors
/// [`ProcessError::Start`].
pub fn spawn_part(
    args: &[OsString],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    birth: Birth,
) -> Result<Child, ProcessError> {
    let start = || {
        let program = Program::new(OsStr::new(SELF_EXE), args, env, birth)?;
        program.called("cc-ci-run")?.stdio([Some(null()?), None, None]).start()
    };
    let command = || format!("{SELF_EXE} {}", args[0].to_string_lossy());
    start().map(Child::new).map_err(|source| ProcessError::Start { command: command(), source })
}

/// Starts `body` as another part of the run, in a copy of this process: see [`fork::fork`].
///
/// # Errors
/// [`ProcessError::Start`].
pub fn fork_part(name: &str, env: &[Change], birth: Birth, body: impl FnOnce() -> u8) -> Result<Child, ProcessError> {
    let forked = fork::fork(birth, env, || {
        orphans::forget();
        body()
    });
    forked.map(Child::new).map_err(|source| ProcessError::Start { command: name.to_owned(), source })
}
