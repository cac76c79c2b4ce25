//! `cc-ci-lint repo`: every rule and every tool finds its fault, and nothing in the same file without it.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

mod kit;

use kit::{Verdict, repository, stand_ins};
use tempfile::TempDir;
use xshell::{Shell, cmd};

const RUST: &str = "//! A crate.\n\n/// A function.\npub fn double(n: u32) -> u32 {\n    n * 2\n}\n";
const SCRIPT: &str = "#!/bin/sh\nif true; then\n  echo \"$1\"\nfi\n";
const YAML: &str = "---\na: 1\n";
const STEP: &str = "---\nsteps:\n  - CCCI_PARENT_PID=$$$$ cc-ci-run run\n";
const INCIDENT: &str = "# Incidents\n\n| [x] | it broke | `Cargo.toml` | `Cargo.toml` `edition` |\n";
const INDEX: &str = "# C\n\n## Index\n\n| `Cargo.toml` | `edition` |\n";

/// Without Rust in it, which would take cargo's time in every test.
fn tree() -> (TempDir, Shell) {
    let (dir, shell) = repository();
    shell.write_file("Cargo.toml", "[package]\nname = \"tree\"\nversion = \"0.0.0\"\nedition = \"2024\"\n").unwrap();
    shell.write_file(".gitignore", "/target\nCargo.lock\n").unwrap();
    // Whoever runs the tests may build elsewhere, or with more flags.
    shell.set_var("CARGO_TARGET_DIR", dir.path().join("target"));
    shell.set_var("RUSTFLAGS", "");
    stand_ins(&shell, "nix".as_ref(), true);
    (dir, shell)
}

fn lint(shell: &Shell, options: &[&str]) -> Verdict {
    let program = env!("CARGO_BIN_EXE_cc-ci-lint");
    kit::lint(cmd!(shell, "{program} repo {options...}"))
}

/// The file passes as `good` and fails as `bad`, and `says` is why.
fn finds(file: &str, good: &str, bad: &str, says: &str) {
    let (_dir, shell) = tree();
    shell.write_file(file, good).unwrap();
    let verdict = lint(&shell, &[]);
    assert!(verdict.passed, "{file} has no fault: {}", verdict.said);
    shell.write_file(file, bad).unwrap();
    let verdict = lint(&shell, &[]);
    assert!(!verdict.passed, "{file} should have failed of: {says}");
    assert!(verdict.said.lines().any(|line| line.contains(says)), "{file} failed of something else: {}", verdict.said);
}

#[test]
fn rustfmt_finds_its_fault() {
    finds("src/lib.rs", RUST, &RUST.replace("    n", "  n"), "rustfmt:");
}

#[test]
fn clippy_finds_its_fault() {
    finds("src/lib.rs", RUST, &RUST.replace("n * 2", "return n * 2;"), "needless_return");
}

#[test]
fn shfmt_finds_its_fault() {
    finds("x.sh", SCRIPT, &SCRIPT.replace("  echo", "    echo"), "shfmt:");
}

#[test]
fn shellcheck_finds_its_fault_also_in_a_script_without_an_ending() {
    finds("bin/x", SCRIPT, &SCRIPT.replace("\"$1\"", "$1"), "SC2086");
}

#[test]
fn yamllint_finds_its_fault() {
    finds("x.yml", YAML, "---\na: 1\na: 2\n", "yamllint:");
}

/// Each a fault to one tool, and to its stand-in where that tool cannot be had.
const DISPLEASING: [(&str, &str); 3] = [
    ("statix", "x: { a = x.a; } # displeases statix\n"),
    ("deadnix", "let\n  a = 1; # displeases deadnix\nin\n{ }\n"),
    ("nixfmt", "{a=1;} # displeases nixfmt\n"),
];

#[test]
fn the_tools_for_nix_find_their_faults() {
    for (tool, bad) in DISPLEASING {
        finds("x.nix", "{ }\n", bad, &format!("{tool}:"));
    }
}

#[test]
fn of_the_tools_for_nix_only_the_named_are_left_out_and_it_is_said() {
    let (_dir, shell) = tree();
    for (tool, bad) in DISPLEASING {
        shell.write_file("x.nix", bad).unwrap();
        for left_out in ["statix", "deadnix", "nixfmt"] {
            let verdict = lint(&shell, &[&format!("--no-nix={left_out}")]);
            assert_eq!(verdict.passed, left_out == tool, "{tool} without {left_out}: {}", verdict.said);
            assert!(
                verdict.said.contains(&format!("NOT LOOKED AT (--no-nix): *.nix by {left_out};")),
                "{}",
                verdict.said
            );
        }
        let verdict = lint(&shell, &["--no-nix"]);
        assert!(verdict.passed && verdict.said.contains("by statix, deadnix, nixfmt;"), "{}", verdict.said);
    }
}

#[test]
fn the_house_rules_find_their_faults() {
    let (_dir, shell) = tree();
    shell.write_file("machine-docs/STATUS-1.md", "").unwrap();
    assert!(lint(&shell, &["--rules-only"]).passed);
    shell.write_file("STATUS-1.md", "").unwrap();
    let verdict = lint(&shell, &["--rules-only"]);
    assert!(!verdict.passed && verdict.said.contains("belongs under machine-docs/"), "{}", verdict.said);

    finds(".drone.yml", STEP, &format!("{STEP}concurrency:\n  limit: 1\n"), "`concurrency.limit`");
    finds(".drone.yml", STEP, &STEP.replace("cc-ci-run", "exec cc-ci-run"), "`exec cc-ci-run`");
    finds(".drone.yml", STEP, &STEP.replace("$$$$", "$$"), "Drone makes one");
    finds("docs/concurrency.md", INDEX, &INDEX.replace("edition", "triple"), "has no `triple`");
    finds("docs/concurrency.md", INDEX, &INDEX.replace("Cargo", "Gone"), "which does not exist");
    finds("docs/incidents.md", INCIDENT, &INCIDENT.replace("edition", "triple"), "has no `triple`");
}

#[test]
fn the_walls_between_the_parts_are_held() {
    let (_dir, shell) = tree();
    let says = |file: &str, text: &str| {
        shell.write_file(file, text).unwrap();
        let verdict = lint(&shell, &["--rules-only"]);
        shell.remove_path(file).unwrap();
        verdict.said
    };
    assert_eq!(says("crates/ccci-core/src/lock.rs", "use crate::config;\n"), "lint: PASS\n");
    let found = says("crates/ccci-core/src/lock.rs", "use crate::process;\n");
    assert!(found.contains("`lock` may name only"), "{found}");
    let found = says("crates/ccci-janitor/Cargo.toml", "[dependencies]\nccci-harness.workspace = true\n");
    assert!(found.contains("must not depend on ccci-harness"), "{found}");
    let found = says("tests/x.rs", "#[ignore]\nfn x() {}\n");
    assert!(found.contains("tests/x.rs: `#[ignore`"), "{found}");
}

#[test]
fn a_fault_is_only_shown_unless_the_formatters_may_write() {
    let (_dir, shell) = tree();
    let (rust, script) = (RUST.replace("    n", "  n"), SCRIPT.replace("  echo", "    echo"));
    shell.write_file("src/lib.rs", &rust).unwrap();
    shell.write_file("x.sh", &script).unwrap();
    let read = |file| shell.read_file(file).unwrap();
    assert!(!lint(&shell, &[]).passed);
    assert_eq!((read("src/lib.rs"), read("x.sh")), (rust, script), "looked at only");
    let verdict = lint(&shell, &["--fix"]);
    assert!(verdict.passed, "{}", verdict.said);
    assert_eq!((read("src/lib.rs"), read("x.sh")), (RUST.to_owned(), SCRIPT.to_owned()));
}
