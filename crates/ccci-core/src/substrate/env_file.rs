//! Env files of apps: `<abra_dir>/servers/<server>/<domain>.env`, where abra keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{SubstrateError, list_dir};
use crate::name::{BaseDomain, Domain};

/// The env file of `domain` on `server`.
#[must_use]
pub fn path(abra_dir: &Path, server: &str, domain: &Domain) -> PathBuf {
    abra_dir.join("servers").join(server).join(format!("{domain}.env"))
}

/// The domains of ours that have an env file on `server`.
///
/// # Errors
/// [`SubstrateError::Unreadable`].
pub fn apps(abra_dir: &Path, server: &str, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
    let names = list_dir(&abra_dir.join("servers").join(server))?;
    Ok(names.iter().filter_map(|name| Domain::parse(name.strip_suffix(".env")?, base)).collect())
}

/// Sets variables in the text of an env file: a present assignment is replaced where it stands, a new
/// one is added on a line of its own, also when the file has no final newline (`[env-newline]`).
#[must_use]
pub fn set(text: &str, vars: &[(&str, &str)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in vars {
        let line = format!("{key}={value}");
        let assigns = |old: &String| old.split_once('=').is_some_and(|(name, _)| name.trim() == *key);
        match lines.iter_mut().find(|old| assigns(old)) {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The variables of an env file: comments, quotes and `export` as in a shell. `$NAME` and `${NAME}` in
/// an unquoted or double-quoted value stand for what came before, so a `COMPOSE_FILE` may extend itself.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.starts_with('#') {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim();
            let literal = value.starts_with('\'');
            let value = unquote(value);
            let value = if literal { value } else { expand(&value, &vars) };
            vars.insert(key.trim().to_owned(), value);
        }
    }
    vars
}

/// Puts the values of variables in; one that is not known is empty, a `$` before anything else stays.
#[must_use]
pub fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, left) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(found) => found,
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if name.is_empty() || !name.chars().all(is_name) {
            out.push('$');
            rest = after;
        } else {
            out.push_str(vars.get(name).map_or("", String::as_str));
            rest = left;
        }
    }
    out + rest
}

/// A value without its quotes or, unquoted, without the comment behind it.
fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_final_newline_is_not_glued() {
        assert_eq!(set("A=1\n# note", &[("B", "2")]), "A=1\n# note\nB=2\n");
        assert_eq!(set("A=1\nB=2\n", &[("A", "3")]), "A=3\nB=2\n");
        assert_eq!(set("#A=1\n", &[("A", "2")]), "#A=1\nA=2\n");
        assert_eq!(set("", &[]), "");
    }

    #[test]
    fn values_lose_quotes_and_comments() {
        let vars = parse("# c\nA=1 # one\nexport B=\"x # y\"\nC='z'\nD=\nE = a=b\nnoise");
        let get = |key: &str| vars.get(key).map(String::as_str);
        assert_eq!(
            (get("A"), get("B"), get("C"), get("D"), get("E")),
            (Some("1"), Some("x # y"), Some("z"), Some(""), Some("a=b"))
        );
        assert_eq!(vars.len(), 5);
    }

    #[test]
    fn a_compose_file_may_extend_itself() {
        let vars =
            parse("COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.${KIND}smtp.yml\"\nP='$X'\nQ=a$$b$");
        assert_eq!(vars["COMPOSE_FILE"], "compose.yml:compose.smtp.yml");
        assert_eq!((vars["P"].as_str(), vars["Q"].as_str()), ("$X", "a$$"), "an unknown name is empty");
    }
}
