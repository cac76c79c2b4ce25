//! A recipe's own basics, and its test folder.
//!
//! What makes a recipe undeployable or a run unrepeatable, no more: the rest is [`crate::abra`]'s. The
//! test folder is judged by the program that will read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ccci_core::config::policy::PolicySettings;
use ccci_core::policy::{Policy, Source, judge_files, judge_tree};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::abra;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What fails the lint, a line each.
    pub(crate) problems: Vec<String>,
    /// What does not, and is worth to be known.
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(crate) fn problem(line: String) -> Self {
        Self { problems: vec![line], notes: Vec::new() }
    }
}

const COMPOSE: &str = "compose.yml";
const SAMPLE: &str = ".env.sample";

/// Everything that is wrong with the recipe in `dir`.
///
/// # Errors
/// When there is no such folder.
pub(crate) fn check(dir: &Path, tests_dir: &Path, with_abra: bool) -> anyhow::Result<Findings> {
    ensure!(dir.is_dir(), "no such folder: {}", dir.display());
    let dir = &dir.canonicalize()?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut found = if with_abra { abra::check(dir, &name) } else { Findings::default() };
    found.problems.splice(..0, basics(dir)?);
    found.problems.extend(refused(dir, &name));
    let tests = tests_dir.join(&*name);
    if tests.is_dir() {
        found.problems.extend(test_folder(&tests)?);
    }
    Ok(found)
}

/// Without which no app can be deployed.
fn basics(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    if !dir.join(SAMPLE).is_file() {
        problems.push(format!("{SAMPLE} is missing: an app's settings start from it"));
    }
    match std::fs::read_to_string(dir.join(COMPOSE)) {
        Ok(text) => problems.extend(compose(COMPOSE, &text, true)),
        Err(error) => problems.push(format!("{COMPOSE}: {error}")),
    }
    for name in overlays(dir)? {
        let text = std::fs::read_to_string(dir.join(&name)).with_context(|| format!("cannot read {name}"))?;
        problems.extend(compose(&name, &text, false));
    }
    Ok(problems)
}

/// What the policy refuses with the default settings, as far as it can be told without Docker: links and paths out
/// of the tree. A file or folder that cannot be read, or is no YAML, [`basics`] has told of.
fn refused(dir: &Path, name: &str) -> Vec<String> {
    let policy = Policy::of(&PolicySettings::default(), name);
    let mut found = judge_tree(dir, &policy).refused;
    for file in [COMPOSE.to_owned()].into_iter().chain(overlays(dir).unwrap_or_default()) {
        let Ok(text) = std::fs::read_to_string(dir.join(&file)) else { continue };
        let Ok(value) = serde_saphyr::from_str::<Value>(&text) else { continue };
        let source = Source { name: &file, text: &text, value: &value };
        found.extend(judge_files(&[source], &BTreeMap::new(), dir, &policy).refused);
    }
    found.iter().map(ToString::to_string).collect()
}

/// `compose.<variant>.yml`, which `COMPOSE_FILE` may lay over the first.
fn overlays(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> =
        names.filter(|name| name != COMPOSE && name.starts_with("compose.") && name.ends_with(".yml")).collect();
    names.sort();
    Ok(names)
}

fn compose(file: &str, text: &str, main: bool) -> Vec<String> {
    let value: Value = match serde_saphyr::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![format!("{file}: {error}")],
    };
    let services = value.get("services").and_then(Value::as_object);
    let Some(services) = services.filter(|services| !services.is_empty()) else {
        return if main { vec![format!("{file}: has no services")] } else { Vec::new() };
    };
    let mut problems = Vec::new();
    for (name, service) in services {
        match service.get("image").and_then(Value::as_str) {
            Some(image) if !is_pinned(image) => {
                problems
                    .push(format!("{file}: {name}: image `{image}` is not pinned to a version: two runs may differ"));
            }
            None if main => problems.push(format!("{file}: {name}: has no image")),
            _ => {}
        }
    }
    if main && !services.values().any(has_version_label) {
        problems.push(format!("{file}: no service has the label coop-cloud.${{STACK_NAME}}.version"));
    }
    problems
}

/// Whether the image has a digest or a tag that does not move by its very name.
fn is_pinned(image: &str) -> bool {
    if image.contains('@') {
        return true;
    }
    // A colon before the last slash is a registry's port.
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest")
}

fn has_version_label(service: &Value) -> bool {
    let is_it = |label: &str| label.starts_with("coop-cloud.") && label.ends_with(".version");
    match service.pointer("/deploy/labels") {
        Some(Value::Array(labels)) => labels
            .iter()
            .filter_map(|label| label.as_str()?.split_once('='))
            .any(|(key, version)| is_it(key) && !version.is_empty()),
        Some(Value::Object(labels)) => labels.keys().any(|key| is_it(key)),
        _ => false,
    }
}

/// Asks the harness that stands beside this program, else the one on PATH.
fn test_folder(tests: &Path) -> anyhow::Result<Option<String>> {
    let beside = std::env::current_exe()?.with_file_name("cc-ci-run");
    let harness = if beside.is_file() { beside } else { PathBuf::from("cc-ci-run") };
    let shell = Shell::new()?;
    let output = cmd!(shell, "{harness} config check {tests}")
        .quiet()
        .ignore_status()
        .output()
        .context("the test folder is judged by cc-ci-run, which cannot be run")?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "services:\n  app:\n    image: hello:1.2\n    deploy:\n      labels:\n        - \"coop-cloud.${STACK_NAME}.version=0.1.0+1.2\"\n";

    fn recipe(compose: &str, sample: bool) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(COMPOSE), compose).unwrap();
        if sample {
            std::fs::write(dir.path().join(SAMPLE), "TYPE=hello\n").unwrap();
        }
        basics(dir.path()).unwrap()
    }

    #[test]
    fn a_good_recipe_has_no_problem_and_each_fault_is_one() {
        assert_eq!(recipe(GOOD, true), Vec::<String>::new());
        for (compose, sample, says) in [
            (GOOD.to_owned(), false, ".env.sample is missing"),
            (GOOD.replace("hello:1.2", "hello"), true, "not pinned"),
            (GOOD.replace("hello:1.2", "hello:latest"), true, "not pinned"),
            (GOOD.replace("    image: hello:1.2\n", ""), true, "has no image"),
            (GOOD.replace(".version=", ".timeout="), true, "version"),
            ("services: {}".to_owned(), true, "has no services"),
        ] {
            let problems = recipe(&compose, sample);
            assert_eq!(problems.len(), 1, "{says}: {problems:?}");
            assert!(problems[0].contains(says), "{says}: {problems:?}");
        }
        assert!(recipe("services: [", true)[0].starts_with("compose.yml"), "unreadable YAML");
    }

    #[test]
    fn what_leads_out_of_the_recipe_is_told_before_a_run_refuses_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(COMPOSE), GOOD).unwrap();
        assert_eq!(refused(dir.path(), "x"), Vec::<String>::new());
        std::os::unix::fs::symlink("/etc/os-release", dir.path().join(SAMPLE)).unwrap();
        std::fs::write(dir.path().join(COMPOSE), format!("{GOOD}    env_file: ../x.env\n")).unwrap();
        let problems = refused(dir.path(), "x");
        assert!(problems.len() == 2 && problems.iter().all(|line| line.contains("policy: paths")), "{problems:?}");
    }

    #[test]
    fn pinned_is_a_version_or_a_digest() {
        for image in ["a:1", "host:5000/a/b:1.2-alpine", "a@sha256:00", "a:${VERSION}"] {
            assert!(is_pinned(image), "{image}");
        }
        for image in ["a", "a:", "host:5000/a/b", "a:latest"] {
            assert!(!is_pinned(image), "{image}");
        }
    }
}
