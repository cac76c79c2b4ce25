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

/// Sets variables in the text of an env file. Of a variable's assignments the last one counts, so that
/// one is replaced where it stands; a new variable has a line of its own, also when the file has no
/// final newline (`[env-newline]`). All other lines stay as they are. A value is one line: what has
/// several is cut off after the first. A comment behind a value stays, as abra reads the length of a secret
/// there; not one behind nothing, which some readers take for a value.
#[must_use]
pub fn set(text: &str, vars: &[(&str, &str)]) -> String {
    let whole = text.strip_suffix('\n').unwrap_or(text);
    let mut lines: Vec<String> = whole.split('\n').map(str::to_owned).filter(|_| !text.is_empty()).collect();
    for (key, value) in vars {
        let value = value.lines().next().unwrap_or_default();
        let line = format!("{key}={}", quote(value));
        match lines.iter_mut().rfind(|old| assignment(old).is_some_and(|(name, _)| name == *key)) {
            Some(old) => {
                let comment = comment(old).filter(|_| !value.is_empty());
                *old = comment.map_or_else(|| line.clone(), |comment| format!("{line} {comment}"));
            }
            None => lines.push(line),
        }
    }
    lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// The name and the value, still quoted and with the comment behind it, that a line assigns.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    (!line.starts_with('#')).then_some((name.trim(), value))
}

/// The comment behind the value that a line assigns.
fn comment(line: &str) -> Option<&str> {
    let value = assignment(line)?.1;
    let behind = match quoted(value) {
        Some((_, behind)) => behind,
        None => &value[value.find(" #").unwrap_or(value.len())..],
    };
    Some(behind.trim()).filter(|behind| behind.starts_with('#'))
}

/// A value as it has to be written so that all of it is read back. The format has no escapes: what needs
/// quotes and has both kinds cannot be written whole.
fn quote(value: &str) -> String {
    let whole = value == value.trim() && !value.contains(" #") && !value.starts_with(['"', '\'', '#']);
    match (whole, value.contains('"')) {
        (true, _) => value.to_owned(),
        (false, false) => format!("\"{value}\""),
        (false, true) => format!("'{value}'"),
    }
}

/// The variables of an env file: comments, quotes and `export` as in a shell. `$NAME` and `${NAME}` in
/// an unquoted or double-quoted value stand for what came before, so a `COMPOSE_FILE` may extend itself.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for (key, value) in text.lines().filter_map(assignment) {
        let literal = value.trim_start().starts_with('\'');
        let value = unquote(value);
        let value = if literal { value } else { expand(&value, &vars) };
        vars.insert(key.to_owned(), value);
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
    match quoted(value) {
        Some((inner, _)) => inner.to_owned(),
        None => value.split(" #").next().unwrap_or_default().trim().to_owned(),
    }
}

/// What stands between a value's quotes, if it has any, and what stands behind them.
fn quoted(value: &str) -> Option<(&str, &str)> {
    let value = value.trim_start();
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote))
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
        assert_eq!(set("\r", &[("A", "")]), "\r\nA=\n");
        assert_eq!(set("\r\nA=\n", &[("A", "")]), "\r\nA=\n", "twice is once");
    }

    #[test]
    fn the_assignment_that_counts_is_replaced() {
        let text = set("TLS=a\nTLS=b\nB=1\n", &[("TLS", "")]);
        assert_eq!((text.as_str(), parse(&text)["TLS"].as_str()), ("TLS=a\nTLS=\nB=1\n", ""));
        assert_eq!(set("export TLS=a\n", &[("TLS", "")]), "TLS=\n");
    }

    #[test]
    fn a_comment_behind_a_value_stays() {
        let set = |text: &str, value: &str| set(text, &[("SECRET_A_VERSION", value)]);
        assert_eq!(set("SECRET_A_VERSION=v1 # length=20\n", "v2"), "SECRET_A_VERSION=v2 # length=20\n");
        assert_eq!(set("SECRET_A_VERSION=\"v 1\" # it's\n", "v2"), "SECRET_A_VERSION=v2 # it's\n");
        assert_eq!(set("SECRET_A_VERSION='#1'\n", "v2"), "SECRET_A_VERSION=v2\n");
        assert_eq!(set("SECRET_A_VERSION='v1'#glued\n", "v2"), "SECRET_A_VERSION=v2 #glued\n");
        assert_eq!(set("SECRET_A_VERSION='v1'\t# tab\n", "v2"), "SECRET_A_VERSION=v2 # tab\n");
        assert_eq!(set("SECRET_A_VERSION=v1 # pad\n", "dg=="), "SECRET_A_VERSION=dg== # pad\n");
        assert_eq!(set("SECRET_A_VERSION= # to do\n", "v2"), "SECRET_A_VERSION=v2 # to do\n");
        assert_eq!(set("SECRET_A_VERSION=v1 # length=20\n", ""), "SECRET_A_VERSION=\n");
        let twice = set(&set("SECRET_A_VERSION=v1 # one\n", "a #b"), "c");
        assert_eq!(twice, "SECRET_A_VERSION=c # one\n");
    }

    #[test]
    fn a_value_is_read_back_whole() {
        for value in ["a #b", " a ", "#a", "\"a\" b", "'a' b", "a=b", "\"", "it's"] {
            assert_eq!(parse(&set("", &[("A", value)]))["A"], value);
        }
    }

    #[test]
    fn values_lose_quotes_and_comments() {
        let vars = parse("# c\nA=1 # one\nexport B=\"x # y\"\nC='z'\nD= # nothing\nE = a=b\nnoise");
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
