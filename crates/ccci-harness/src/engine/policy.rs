//! Where a run asks [`ccci_core::policy`]: of the tree that it has checked out, and of the compose files that it
//! is about to hand to Docker. What the operator's exceptions let through is reported, once.

use std::collections::BTreeMap;
use std::path::Path;

use ccci_core::config::policy::PolicySettings;
use ccci_core::policy::{self, Judgement, Policy, Source, Tree, judge_files, judge_tree};
use serde_json::Value;

use super::{App, EngineError};
use crate::event::{Event, report};

/// Judges the tree of an app as it is on disk. Before this nothing of it may be read.
///
/// # Errors
/// [`EngineError::Recipe`], with everything that is refused.
pub(crate) fn expect_tree(app: &App<'_>, settings: &PolicySettings) -> Result<(), EngineError> {
    accept(app, judge_tree(&app.tree, &Policy::of(settings, app.recipe())))
}

/// Judges the recipe's own compose files before Docker reads them.
///
/// # Errors
/// [`EngineError::Recipe`], also for a file that is missing or no YAML.
pub(super) fn expect_files(
    app: &App<'_>,
    names: &[String],
    vars: &BTreeMap<String, String>,
    settings: &PolicySettings,
) -> Result<(), EngineError> {
    let policy = Policy::of(settings, app.recipe());
    let files = read(&app.tree, names, &policy).map_err(EngineError::Recipe)?;
    let sources: Vec<Source<'_>> = files.iter().map(|(name, text, value)| Source { name, text, value }).collect();
    accept(app, judge_files(&sources, vars, &app.tree, &policy))
}

/// Judges what Docker made of the recipe's own compose files.
///
/// # Errors
/// [`EngineError::Recipe`], with everything that is refused.
pub(super) fn expect_resolved(
    app: &App<'_>,
    names: &[String],
    compose: &Value,
    settings: &PolicySettings,
) -> Result<(), EngineError> {
    let stack = app.domain.stack_name();
    let files = names.join(" + ");
    let base = names.first().map(Path::new).and_then(Path::parent).unwrap_or(Path::new(""));
    let whose = policy::App { domain: app.domain.as_str(), stack: &stack, tree: &app.tree, base, files: &files };
    accept(app, policy::judge(compose, whose, &Policy::of(settings, app.recipe())))
}

/// The texts of compose files, each with what is in it.
pub(crate) fn read(tree: &Path, names: &[String], policy: &Policy) -> Result<Vec<(String, String, Value)>, String> {
    let mut files = Vec::new();
    for name in names {
        let bytes = Tree::new(tree).read(Path::new(name), policy.limits.file_kb << 10);
        let bytes = bytes.map_err(|error| error.to_string())?.ok_or_else(|| format!("the recipe has no {name}"))?;
        let text = String::from_utf8(bytes).map_err(|error| format!("{name}: not UTF-8: {error}"))?;
        // An empty file is an empty mapping to Docker.
        let value: Option<Value> = serde_saphyr::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        files.push((name.clone(), text, value.unwrap_or_else(|| Value::Object(serde_json::Map::new()))));
    }
    Ok(files)
}

fn accept(app: &App<'_>, found: Judgement) -> Result<(), EngineError> {
    let granted = found.accept().map_err(EngineError::Recipe)?;
    if !granted.is_empty() {
        report(app.dir, Event::Policy { recipe: app.recipe().to_owned(), granted });
    }
    Ok(())
}
