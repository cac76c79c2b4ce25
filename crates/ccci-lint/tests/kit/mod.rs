//! The built `cc-ci-lint`, and a git repository for it to look at.

use std::path::Path;

use tempfile::TempDir;
use xshell::{Cmd, Shell, cmd};

/// What the program said and how it ended.
pub(crate) struct Verdict {
    pub(crate) said: String,
    pub(crate) passed: bool,
}

/// Runs it. The last line and the exit code must agree, whatever else is tested.
pub(crate) fn lint(command: Cmd<'_>) -> Verdict {
    let output = command.quiet().ignore_status().output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let passed = match said.lines().last() {
        Some("lint: PASS") => true,
        Some("lint: FAIL") => false,
        _ => panic!("no verdict: {said}"),
    };
    assert_eq!(output.status.code(), Some(i32::from(!passed)), "{said}");
    Verdict { said, passed }
}

/// An empty repository, and a shell that is in it.
pub(crate) fn repository() -> (TempDir, Shell) {
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::new().unwrap();
    shell.change_dir(dir.path());
    shell.set_var("GIT_CONFIG_GLOBAL", "/dev/null");
    cmd!(shell, "git init --quiet --initial-branch main").quiet().run().unwrap();
    (dir, shell)
}

/// With the stand-ins of this folder before what the `PATH` has, or only for what it has not.
pub(crate) fn stand_ins(shell: &Shell, dir: &Path, only_where_missing: bool) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-ins").join(dir);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<_> = std::env::split_paths(&path).collect();
    dirs.insert(if only_where_missing { dirs.len() } else { 0 }, dir);
    shell.set_var("PATH", std::env::join_paths(dirs).unwrap());
}
