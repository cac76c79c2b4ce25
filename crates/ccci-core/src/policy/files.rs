//! Compose files before Docker reads them: reading them, it would read what they lead to.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Judgement, Policy, Rule, Tree, Violation, elements, is_set, members};

/// A compose file as the recipe has it.
#[derive(Debug)]
pub struct Source<'a> {
    /// Its name, from the tree's root.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What is in it.
    pub value: &'a Value,
}

/// Variables may make a file this much longer, all together.
const EXPANDED: u64 = 16 << 20;

/// Judges what compose files lead to. Paths in them count from the folder of the first, `base`, as Docker has it.
#[must_use]
pub fn judge_files(sources: &[Source<'_>], vars: &BTreeMap<String, String>, tree: &Path, policy: &Policy) -> Judgement {
    let base = sources.first().map(|source| Path::new(source.name)).and_then(Path::parent).unwrap_or(Path::new(""));
    let mut look = Look { tree: Tree::new(tree), base, policy, file: "", found: Vec::new() };
    let longest = vars.values().map(String::len).max().unwrap_or_default() as u64;
    for source in sources {
        look.file = source.name;
        let expanded = source.text.bytes().filter(|byte| *byte == b'$').count() as u64 * longest;
        if expanded > EXPANDED {
            let what = format!("its variables could make it {} MB longer", expanded >> 20);
            look.add(Rule::Limits, "", what, "use shorter values, or fewer");
        }
        look.file(source.value);
    }
    policy.sort(look.found)
}

struct Look<'a> {
    tree: Tree<'a>,
    base: &'a Path,
    policy: &'a Policy,
    file: &'a str,
    found: Vec<Violation>,
}

impl Look<'_> {
    fn add(&mut self, rule: Rule, key: &str, what: String, remedy: &str) {
        let (file, key, remedy) = (self.file.to_owned(), key.to_owned(), remedy.to_owned());
        self.found.push(Violation { rule, file, key, what, remedy });
    }

    fn file(&mut self, value: &Value) {
        if is_set(value.get("include")) {
            self.add(
                Rule::Keys,
                "include",
                "other compose files are not read from here".to_owned(),
                "name them in COMPOSE_FILE",
            );
        }
        for (name, service) in members(value.get("services")) {
            let at = format!("services.{name}");
            if is_set(service.get("extends")) {
                let what = "services of other files are not read from here".to_owned();
                self.add(Rule::Keys, &format!("{at}.extends"), what, "write the service out");
            }
            for entry in elements(service.get("env_file")) {
                let path = entry.get("path").unwrap_or(entry);
                self.path(&format!("{at}.env_file"), path);
            }
        }
        for section in ["secrets", "configs"] {
            for (name, object) in members(value.get(section)) {
                let at = format!("{section}.{name}");
                if let Some(path) = object.get("file") {
                    self.path(&format!("{at}.file"), path);
                }
                if is_set(object.get("environment")) {
                    let what = "its content would come from the environment of whoever deploys".to_owned();
                    self.add(Rule::Keys, &format!("{at}.environment"), what, "use a file of the recipe");
                }
            }
        }
    }

    fn path(&mut self, at: &str, path: &Value) {
        let Some(path) = path.as_str() else {
            return self.add(Rule::Paths, at, "this is no path".to_owned(), "write a path in the recipe");
        };
        // Docker would put the user's home and the variables in; a path is to be what is read here.
        if path.starts_with('~') {
            let what = format!("`{path}` is in somebody's home");
            return self.add(Rule::Paths, at, what, "keep the file in the recipe");
        }
        if path.contains('$') {
            // What it comes to is seen in the resolved file; an env file would be read before that.
            if at.ends_with("env_file") {
                let what = format!("`{path}` has a variable, and Docker would read whatever it comes to");
                self.add(Rule::Paths, at, what, "write the path out");
            }
            return;
        }
        let read = self.tree.expect_file(&self.base.join(path), self.policy.limits.file_kb * 1024);
        match read {
            // Whether it must be there is Docker's to say.
            Ok(()) | Err(super::tree::Refused::Missing { .. }) => {}
            Err(why) => self.add(why.rule(), at, why.to_string(), "keep the file in the recipe"),
        }
    }
}
