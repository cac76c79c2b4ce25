//! `cc-ci-lint recipe` and what abra says of a recipe.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

mod kit;

use kit::{Verdict, repository, stand_ins};
use tempfile::TempDir;
use xshell::{Shell, cmd};

const COMPOSE: &str = "services:\n  app:\n    image: hello:1.2\n    deploy:\n      labels:\n        - \"coop-cloud.${STACK_NAME}.version=0.1.0+1.2\"\n";
const TABLE: &str = include_str!("../../ccci-core/src/abra/table.fixture.txt");

/// A recipe with nothing wrong, which abra says `says` of.
fn recipe(says: &str) -> (TempDir, Shell) {
    let (dir, shell) = repository();
    shell.write_file("compose.yml", COMPOSE).unwrap();
    shell.write_file(".env.sample", "TYPE=hello\n").unwrap();
    commit(&shell);
    // A copy with its words beside it: the environment of a program has no variable of a caller's.
    let stand_in = dir.path().join(".git/stand-in");
    shell.create_dir(&stand_in).unwrap();
    shell.copy_file(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-ins/abra/abra"), stand_in.join("abra")).unwrap();
    shell.write_file(stand_in.join("says"), says).unwrap();
    stand_ins(&shell, &stand_in, false);
    (dir, shell)
}

fn commit(shell: &Shell) {
    cmd!(shell, "git add --all").quiet().run().unwrap();
    cmd!(shell, "git -c user.name=x -c user.email=x@localhost commit --quiet --message x").quiet().run().unwrap();
}

fn lint(shell: &Shell, options: &[&str]) -> Verdict {
    let program = env!("CARGO_BIN_EXE_cc-ci-lint");
    kit::lint(cmd!(shell, "{program} recipe . --tests-dir no-tests {options...}"))
}

/// The table without what is broken and critical.
fn content() -> String {
    let lines = TABLE.lines().filter(|line| !line.contains("R009") && !line.starts_with("WARN"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_broken_rule_of_severity_error_fails_the_lint_and_a_warning_is_shown() {
    let (_dir, shell) = recipe(TABLE);
    let verdict = lint(&shell, &[]);
    assert!(!verdict.passed);
    assert!(verdict.said.contains("abra: R009 all services have images"), "{}", verdict.said);

    let (_dir, shell) = recipe(&content());
    let verdict = lint(&shell, &[]);
    assert!(verdict.passed, "{}", verdict.said);
    assert!(verdict.said.contains("abra: warning: R002"), "{}", verdict.said);
    assert!(!verdict.said.contains("R012"), "skipped is not broken: {}", verdict.said);
}

#[test]
fn without_abra_or_its_table_there_is_no_pass_unless_it_was_not_asked_for() {
    let (dir, shell) = recipe("FATA something went wrong, and the exit code is 0\n");
    let verdict = lint(&shell, &[]);
    assert!(!verdict.passed && verdict.said.contains("no table"), "{}", verdict.said);

    shell.set_var("PATH", dir.path());
    let verdict = lint(&shell, &[]);
    assert!(!verdict.passed && verdict.said.contains("abra: is not on the PATH"), "{}", verdict.said);

    let verdict = lint(&shell, &["--no-abra"]);
    assert!(verdict.passed && verdict.said.contains("NOT LOOKED AT (--no-abra)"), "{}", verdict.said);
}

#[test]
fn abra_sees_what_is_committed_and_nothing_else() {
    let (_dir, shell) = recipe(&content());
    shell.write_file("compose.draft.yml", "services: {}\n").unwrap();
    let verdict = lint(&shell, &[]);
    assert!(verdict.passed, "untracked: {}", verdict.said);
    commit(&shell);
    let verdict = lint(&shell, &[]);
    assert!(!verdict.passed && verdict.said.contains("abra:"), "committed: {}", verdict.said);
}
