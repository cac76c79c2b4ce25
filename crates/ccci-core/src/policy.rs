//! What a recipe may ask of the host. Whoever opens a pull request writes the recipe; what is deployed runs
//! under a daemon that is root.
//!
//! Three looks, each before anything is made: at the tree as it is on disk (`tree`), at the compose files
//! before Docker reads them, as Docker itself would read what they lead to (`files`), and at the file
//! that Docker made of them ([`judge`]). Whatever is not known to be harmless is refused; the operator's
//! `[policy]` grants exceptions, and each that was needed is named.

mod edge;
mod files;
mod objects;
mod route;
mod services;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::policy::PolicySettings;
pub use crate::config::policy::{Limits, Rule};
use crate::weaken::{self, Protection};
pub use files::{Source, judge_files};
pub use tree::{Tree, judge_tree};

/// Something that a recipe may not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Violation {
    /// Which row of the table.
    pub rule: Rule,
    /// The file, or the files that were merged.
    pub file: String,
    /// Where in it.
    pub key: String,
    /// What is there, and what it would do.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, file, key, what, remedy } = self;
        let separator = if key.is_empty() { "" } else { ": " };
        write!(f, "{file}{separator}{key}: {what} (policy: {rule}); {remedy}")
    }
}

/// The policy for one recipe.
#[derive(Debug, Clone)]
pub struct Policy {
    allow: BTreeSet<Rule>,
    external: BTreeSet<String>,
    /// How much it may ask for.
    pub limits: Limits,
}

impl Policy {
    /// What holds for this recipe.
    #[must_use]
    pub fn of(settings: &PolicySettings, recipe: &str) -> Self {
        let (mut allow, mut external) = (settings.allow.clone(), settings.external.clone());
        if let Some(own) = settings.recipes.get(recipe) {
            allow.extend(&own.allow);
            external.extend(own.external.iter().cloned());
        }
        Self { allow, external, limits: settings.limits.clone() }
    }

    /// What is refused, and what only the operator's exceptions let through.
    #[must_use]
    pub fn sort(&self, found: Vec<Violation>) -> Judgement {
        let (granted, refused) = found.into_iter().partition(|violation| self.allow.contains(&violation.rule));
        Judgement { refused, granted }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Nothing may be made.
    pub refused: Vec<Violation>,
    /// The operator allows it; it is named in the result.
    pub granted: Vec<Violation>,
}

impl Judgement {
    /// What was granted, if nothing was refused.
    ///
    /// # Errors
    /// The reason: every violation, a line each.
    pub fn accept(self) -> Result<Vec<Violation>, String> {
        if self.refused.is_empty() || !weaken::on(Protection::Policy) {
            return Ok(self.granted);
        }
        let lines: Vec<String> = self.refused.iter().map(ToString::to_string).collect();
        Err(format!("refused before anything was made: {}", lines.join("\n")))
    }
}

/// Whose compose file is judged.
#[derive(Debug, Clone, Copy)]
pub struct App<'a> {
    /// The app's domain.
    pub domain: &'a str,
    /// Its stack's name.
    pub stack: &'a str,
    /// The recipe's tree.
    pub tree: &'a Path,
    /// The folder in it that paths in its files count from: that of the first file.
    pub base: &'a Path,
    /// What the files are called, in messages.
    pub files: &'a str,
}

/// Judges a compose file as Docker resolved it.
///
/// A test folder's overlay is not in it: that is the operator's word, and may ask for what a recipe may not.
#[must_use]
pub fn judge(compose: &Value, app: App<'_>, policy: &Policy) -> Judgement {
    let mut found = Found { app, list: Vec::new() };
    let Some(top) = compose.as_object() else {
        found.add(Rule::Keys, "", "this is no compose file", "write services into it");
        return policy.sort(found.list);
    };
    for key in top.keys() {
        let known = ["name", "version", "services", "networks", "volumes", "secrets", "configs"];
        if !known.contains(&key.as_str()) && !key.starts_with("x-") {
            found.unknown(key);
        }
    }
    services::judge(top, policy, &mut found);
    objects::judge(top, policy, &mut found);
    edge::judge(top, &mut found);
    policy.sort(found.list)
}

/// Collects what is found in one app's file.
struct Found<'a> {
    app: App<'a>,
    list: Vec<Violation>,
}

impl Found<'_> {
    fn add(&mut self, rule: Rule, key: &str, what: impl Into<String>, remedy: &str) {
        let (file, key) = (self.app.files.to_owned(), key.to_owned());
        self.list.push(Violation { rule, file, key, what: what.into(), remedy: remedy.to_owned() });
    }

    fn unknown(&mut self, key: &str) {
        self.add(
            Rule::Keys,
            key,
            "this key is not known to the policy, and nobody can say what it would do to the host",
            "take it out, or ask the operator",
        );
    }

    /// Whether this is the name of a part of the stack.
    fn is_own(&self, name: &str) -> bool {
        name.strip_prefix(self.app.stack).is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'))
    }
}

/// What most remedies come to.
const OR_OPERATOR: &str = "take it out; the operator may allow it for this recipe";

/// The members of an object; none of what is something else or missing.
fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The elements of a list; a single value is a list of one, a missing one of none.
fn elements(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

/// A scalar in words.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a key is there and says something.
fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    }
}

#[cfg(test)]
mod tests;
