//! `cc-ci-run bridge`: becomes `cc-ci-bridge`, which it was a part of.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use ccci_core::process::{become_program, find_program};

use super::Usage;

const PROGRAM: &str = "cc-ci-bridge";

/// The program beside this one, else the one on `PATH`, in this process: units that start the bridge by this name
/// go on as they are.
///
/// # Errors
/// When there is none.
pub(crate) fn main(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = own.with_file_name(PROGRAM);
    let program = if beside.exists() { Some(beside) } else { find_program(PROGRAM) };
    let program = program.context("cc-ci-bridge is not installed: it is a program of its own").context(Usage)?;
    let args: Vec<OsString> = config.map(|config| ["--config".into(), config.into()]).into_iter().flatten().collect();
    let error = become_program(&program, &args);
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}
